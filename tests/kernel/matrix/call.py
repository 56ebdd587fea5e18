"""A call of the matrix: set up by ng, spoken by two phones, and looked at from outside and by ``query``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from mediaproxy.datapath.flow import FlowReason
from mediaproxy.net import Endpoint
from tests.kernel.matrix.backends import reason_of
from tests.kernel.matrix.bed import PROXY_TOS, Bed, Side
from tests.kernel.matrix.phone import HOPS, Arrival, Phone
from tests.support.datagrams import datagrams_delivered
from tests.support.ng_json import NgJsonClient
from tests.support.processes import wait_until
from tests.support.sipp import sdp_endpoint

AUDIO: Final = ("audio", "RTP/AVP 0", "a=rtpmap:0 PCMU/8000")
FAX: Final = ("image", "udptl t38", "a=T38FaxVersion:0")
NOWHERE: Final = "0.0.0.0"  # RFC 2543: on hold
_NOT_TOLD: Final = Endpoint(NOWHERE, 9)
_COUNTING: Final = 2.5
_LEARNING: Final = 5.0
"""Seconds until a flow is where it belongs: one that the kernel does not move is taken back within one."""


def sdp_of(endpoint: Endpoint, media: tuple[str, str, str] = AUDIO, *more: str) -> str:
    """What a phone says of itself."""
    kind, formats, attribute = media
    ip = f"IN IP{6 if ':' in endpoint.address else 4} {endpoint.address}"
    return "\r\n".join(
        ["v=0", f"o=- 1 1 {ip}", "s=-", f"c={ip}", "t=0 0", f"m={kind} {endpoint.port} {formats}", attribute, *more, ""]
    )


@dataclass(slots=True)
class Party:
    """One of the two.

    Attributes:
        relay: where the proxy wants its media, and whence the other's comes.
        said: where it says that it is; ``None`` for where it really is.
        sent: RTP packets, all of which the proxy ought to have counted; ``sent_bytes`` likewise.
        refused: strangers' packets that arrived where its own should, and ought to have been dropped.
        kept: those of its own that the proxy could send nowhere.
    """

    tag: str
    side: Side
    family: int
    phone: Phone
    said: Endpoint | None = None
    relay: Endpoint = _NOT_TOLD
    sent: int = 0
    sent_bytes: int = 0
    refused: int = 0
    kept: list[bytes] = field(default_factory=list)

    @property
    def signalled(self) -> Endpoint:
        """What its SDP says."""
        return self.said or self.phone.rtp.endpoint

    @property
    def relay_rtcp(self) -> Endpoint:
        """Where the proxy wants its RTCP if that has a port of its own."""
        return Endpoint(self.relay.address, self.relay.port + 1)

    def speak(self, count: int = 1) -> list[bytes]:
        """Send RTP, and return what."""
        packets = [self.phone.next_rtp() for _ in range(count)]
        for packet in packets:
            self.send(packet)
        return packets

    def send(self, packet: bytes) -> None:
        """Send one packet that counts as RTP."""
        self.phone.rtp.send(packet, self.relay)
        self.sent += 1
        self.sent_bytes += len(packet)


class Call:
    """Offerer ``a`` and answerer ``b``; use it in a ``with`` statement, which ends the call by ``delete``.

    Args:
        sides, families: of the offerer and of the answerer.
        ng: of which daemon; the bed's own if left out.
        media: ``AUDIO`` or ``FAX``.
        said: endpoints that their SDP names instead of their own.
        keys: further keys of offer and answer.
    """

    def __init__(
        self,
        bed: Bed,
        sides: tuple[Side, Side],
        families: tuple[int, int] = (4, 4),
        *,
        ng: NgJsonClient | None = None,
        media: tuple[str, str, str] = AUDIO,
        more: Sequence[str] = (),
        said: tuple[Endpoint | None, Endpoint | None] = (None, None),
        **keys: Any,
    ) -> None:
        self.bed = bed
        self.ng = ng or bed.daemon.ng
        self.call_id = bed.new_call_id()
        self.media = media
        self._more = tuple(more)
        self._keys = keys
        self._stack = ExitStack()
        phones = [
            self._stack.enter_context(Phone(bed.hosts[side.host], side.address(family)))
            for side, family in zip(sides, families, strict=True)
        ]
        self.a, self.b = (
            Party(tag, side, family, phone, said=where)
            for tag, side, family, phone, where in zip("AB", sides, families, phones, said, strict=True)
        )
        self.deleted = False

    def __enter__(self) -> Self:
        try:
            self.offer()
            self.answer()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self.deleted:
                self.delete()
        finally:
            self._stack.close()

    @property
    def parties(self) -> tuple[Party, Party]:
        """Both."""
        return self.a, self.b

    def peer(self, party: Party) -> Party:
        """The other one."""
        return self.b if party is self.a else self.a

    # -- signalling ---------------------------------------------------------------------------------------------------

    def offer(self, party: Party | None = None, *more: str, sdp: str | None = None) -> None:
        """``party`` (the offerer if left out) offers, also again."""
        party = party or self.a
        peer = self.peer(party)
        reply = self.ng.request(
            "offer", call_id=self.call_id, from_tag=party.tag, sdp=sdp or self._sdp(party, more),
            direction=[party.side.interface, peer.side.interface], address_family=f"IP{peer.family}",
            replace=["origin"], **self._to_tag(party, peer), **self._keys,
        )  # fmt: skip
        peer.relay = self._relay(reply, peer)

    def answer(self, party: Party | None = None, *more: str, sdp: str | None = None) -> None:
        """``party`` (the answerer if left out) answers."""
        party = party or self.b
        peer = self.peer(party)
        reply = self.ng.request(
            "answer", call_id=self.call_id, from_tag=peer.tag, to_tag=party.tag, sdp=sdp or self._sdp(party, more),
            **self._keys,
        )  # fmt: skip
        peer.relay = self._relay(reply, peer)
        self.answered = True

    answered = False

    def _to_tag(self, party: Party, peer: Party) -> dict[str, str]:
        return {"to_tag": peer.tag} if self.answered else {}

    def _sdp(self, party: Party, more: Sequence[str]) -> str:
        return sdp_of(party.signalled, self.media, *self._more, *more)

    def _relay(self, reply: dict[str, Any], peer: Party) -> Endpoint:
        assert reply.get("result") == "ok", reply
        told = Endpoint(*sdp_endpoint(reply["sdp"]))
        return replace(told, address=peer.relay.address) if told.address == NOWHERE else told

    def delete(self) -> dict[str, Any]:
        """End it; the reply."""
        reply = self.ng.request("delete", call_id=self.call_id, from_tag="A")
        assert reply.get("result") == "ok", reply
        self.deleted = True
        return reply

    # -- what the proxy says ------------------------------------------------------------------------------------------

    def query(self) -> dict[str, Any]:
        """The proxy's report."""
        reply = self.ng.query(self.call_id)
        assert reply.get("result") == "ok", reply
        return reply

    def streams(self, party: Party) -> list[dict[str, Any]]:
        """RTP and RTCP of what a party sends."""
        return list(self.query()["tags"][party.tag]["medias"][0]["streams"])

    def expected_reason(self, party: Party) -> FlowReason | None:
        """Why what a party sends is not in the kernel, if all is as it ought to be."""
        peer = self.peer(party)
        return reason_of(
            self.bed.backend,
            changes_family=party.family != peer.family,
            from_local=party.side.is_local,
            to_local=peer.side.is_local,
        )

    def has_path(self, party: Party, reason: FlowReason | None) -> bool:
        """Whether the proxy says that a party's RTP is in the kernel (``None``), or not for that reason."""
        stream = self.streams(party)[0]
        in_kernel = "kernelized" in stream["flags"]
        assert in_kernel is (stream["path"] == "kernel")
        assert in_kernel is ("path reason" not in stream)
        said = str(stream.get("path reason", ""))
        return in_kernel if reason is None else said == reason.value or said.startswith(f"{reason.value}: ")

    def errors(self, party: Party) -> int:
        """How many packets that arrived where a party's should were dropped."""
        return int(self.streams(party)[0]["stats"]["errors"])

    # -- media --------------------------------------------------------------------------------------------------------

    def settle(self, reasons: dict[str, FlowReason | None] | None = None) -> None:
        """Let both speak until each one's RTP is where it belongs; every single packet must arrive.

        Args:
            reasons: by tag, other ones than ``expected_reason``.
        """
        wanted = {party.tag: self.expected_reason(party) for party in self.parties} | (reasons or {})

        def settled() -> bool:
            self.exchange(1)
            return all(self.has_path(party, wanted[party.tag]) for party in self.parties)

        try:
            wait_until(settled, _LEARNING, "paths")
        except TimeoutError as error:
            found = {party.tag: self.streams(party)[0] for party in self.parties}
            raise AssertionError(f"wanted {wanted}, found {found}") from error

    def exchange(self, count: int) -> tuple[list[Arrival], list[Arrival]]:
        """Both send RTP at the same time, and all of it arrives: unharmed, once, from the relay's endpoint.

        Returns:
            What arrived at ``a``, and at ``b``.
        """
        spoken_by_a, spoken_by_b = [], []
        for _ in range(count):
            spoken_by_a += self.a.speak()
            spoken_by_b += self.b.speak()
        return self.heard(self.a, spoken_by_b), self.heard(self.b, spoken_by_a)

    def heard(self, party: Party, packets: Sequence[bytes]) -> list[Arrival]:
        """What arrives at a party, which must be exactly these packets."""
        arrivals = party.phone.rtp.expect(len(packets))
        # Not their order: a sender that changes processors overtakes itself on a veth.
        assert sorted(arrival.data for arrival in arrivals) == sorted(packets), (
            f"{len(arrivals)} of {len(packets)} packets arrived at {party.tag}"
        )
        assert {arrival.source for arrival in arrivals} <= {party.relay}
        return arrivals

    def carried_by(self, count: int = 40) -> None:
        """Both send packets: by the host's own count they are carried as expected, and all counters agree."""
        reasons = {party.tag: self.expected_reason(party) for party in self.parties}
        before = datagrams_delivered(self.bed.relay)
        at_a, at_b = self.exchange(count)
        delivered = datagrams_delivered(self.bed.relay) - before
        expected = 0
        for party in self.parties:
            expected += count * (reasons[party.tag] is not None)  # by the relay's socket
            expected += count * self.peer(party).side.is_local  # by the receiver's
        # XDP asks for the neighbour itself: a packet that comes while the kernel looks for it anew goes up.
        assert expected <= delivered <= expected + self.bed.backend.is_xdp
        for party, arrivals in ((self.b, at_a), (self.a, at_b)):
            assert {arrival.tos for arrival in arrivals} == {PROXY_TOS}
            assert {arrival.hops for arrival in arrivals} == {HOPS - self._hops_taken(party)}
            assert self.has_path(party, reasons[party.tag])
        self.check_counters()

    def _hops_taken(self, party: Party) -> int:
        """By how much the TTL of what a party sends is lowered: the relay's sockets send anew."""
        backend = self.bed.backend
        keeps = backend.keeps_hops_on_host if self.peer(party).side.is_local else backend.keeps_hops_from_host
        return int(self.expected_reason(party) is None and not (party.side.is_local and keeps))

    def check_counters(self) -> None:
        """The proxy has counted exactly what was sent; a backend that is asked once a second may take its time."""
        wanted = self._counters_wanted()
        with suppress(TimeoutError):
            wait_until(lambda: self._counters_found() == wanted, _COUNTING, "counters")
        assert self._counters_found() == wanted

    def _counters_wanted(self) -> dict[str, dict[str, int]]:
        wanted = {}
        for party in self.parties:
            peer = self.peer(party)
            wanted[party.tag] = {
                "packets": party.sent,
                "bytes": party.sent_bytes,
                "errors": party.refused + len(party.kept),
                "packets out": peer.sent - len(peer.kept),
                "bytes out": peer.sent_bytes - sum(map(len, peer.kept)),
            }
        return wanted

    def _counters_found(self) -> dict[str, dict[str, int]]:
        report, found = self.query(), {}
        for party in self.parties:
            rtp = report["tags"][party.tag]["medias"][0]["streams"][0]
            out = {"packets out": rtp["stats_out"]["packets"], "bytes out": rtp["stats_out"]["bytes"]}
            found[party.tag] = rtp["stats"] | out
        return found
