"""One m= section as one party sees it, its streams and the transports that carry them."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mediaproxy.calls.latching import Latch, Latching
from mediaproxy.datapath import MAX_CLOCK_RATES, SourcePolicy, TransportConfig, TransportHandle
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint
from mediaproxy.ng.words import EndpointLearning, RtcpMux
from mediaproxy.sdp.plan import Direction

_LAST_STATIC_TYPE: Final = 34
"""The relay knows the clock of the static payload types (RFC 3551, section 6)."""


class Transport:
    """One bound socket facing one party, and whom it believes.

    Attributes:
        strict: other sources are dropped after learning.
        refusals_reported: a refused source has been put into the log; it is logged once per stream.
    """

    __slots__ = ("handle", "interface", "latching", "port", "refusals_reported", "strict")

    def __init__(self, handle: TransportHandle, interface: Interface, port: int) -> None:
        self.handle = handle
        self.interface = interface
        self.port = port
        self.latching = Latching()
        self.strict = True
        self.refusals_reported = False

    def policy(self) -> SourcePolicy:
        """Whose packets the relay is to accept now."""
        if self.latching.state is not Latch.CONFIRMED or self.latching.handover:
            return SourcePolicy.OPEN
        return SourcePolicy.LOCKED if self.strict else SourcePolicy.TRUSTING


class PortPair:
    """An even RTP port and the next odd one, bound until the last media that uses it lets go.

    Attributes:
        users: the media that use it: one, or several where a party was told one port for several dialogues. The last
            one is the one that the pair serves now.
    """

    __slots__ = ("interface", "rtcp", "rtp", "users")

    def __init__(self, interface: Interface, rtp: Transport, rtcp: Transport) -> None:
        self.interface = interface
        self.rtp = rtp
        self.rtcp = rtcp
        self.users: list[Media] = []

    def lend(self, media: Media) -> None:
        """Take a media as a user, without serving it now."""
        if media not in self.users:
            self.users.insert(0, media)

    def serve(self, media: Media) -> None:
        """Serve this media from now on; it becomes a user if it wasn't one."""
        if media in self.users:
            self.users.remove(media)
        self.users.append(media)


class StreamKind(Enum):
    RTP = "RTP"
    RTCP = "RTCP"


class Stream:
    """The RTP or the RTCP flow of a media: the transport it arrives on and the streams it goes to."""

    __slots__ = ("kind", "sinks", "transport")

    def __init__(self, kind: StreamKind, transport: Transport) -> None:
        self.kind = kind
        self.transport = transport
        self.sinks: list[Stream] = []


@dataclass(frozen=True, slots=True)
class Signalled:
    """Where a party asked for the packets of one media, and how far it is to be believed.

    Attributes:
        rtp, rtcp: ``None`` where it did not say (on hold with 0.0.0.0, or not known yet).
        held: it asked for nothing to be sent.
        strict: drop other sources after learning.
        mode, asymmetric, handover: see ``Latching``.
    """

    rtp: Endpoint | None
    rtcp: Endpoint | None
    held: bool
    strict: bool
    mode: EndpointLearning
    asymmetric: bool
    handover: bool


class Media:
    """One m= section of one party as seen by one peer.

    Attributes:
        index: place in the SDP, from 0.
        kind: ``audio``, ``video``, ``image``, ...
        protocol: the profile that this party speaks, as it wrote it; until it has spoken, as we offered it.
        rtp_profile: the RTP profile that it spoke last; ``None`` before it has spoken any.
        relayed: whether media passes through us (not ``message``, not TCP).
        opaque: not RTP: forwarded without a look inside.
        filled: the party's SDP is known.
        refused: port 0 in this party's own SDP.
        rejected: port 0, by either party.
        direction: what the party said it does; ``None`` before it has spoken.
        formats: payload types or formats that the party listed.
        codecs: (payload type, name/rate[/channels], clock rate in Hz) of the party's list.
        ptime, maxptime, mid: as the party wrote them.
        signalled: what the party's last SDP said; ``None`` before it has spoken, and while it is rejected.
        muxed: RTCP of this party travels on the RTP port.
        mux_possible: ``a=rtcp-mux`` was in this party's own SDP, or in the offer that we sent it.
        mux_words: the ``rtcp-mux`` words of this party's offer, which also steer the answer to it (reference E.5).
        extmap_allow_mixed: as the party's SDP had it.
    """

    __slots__ = (
        "codecs",
        "direction",
        "extmap_allow_mixed",
        "filled",
        "formats",
        "index",
        "kind",
        "maxptime",
        "mid",
        "mux_possible",
        "mux_words",
        "muxed",
        "opaque",
        "pair",
        "protocol",
        "ptime",
        "refused",
        "rejected",
        "relayed",
        "rtcp",
        "rtp",
        "rtp_profile",
        "signalled",
    )

    def __init__(self, index: int, kind: str, protocol: str) -> None:
        self.index = index
        self.kind = kind
        self.protocol = protocol
        self.rtp_profile: str | None = None
        self.relayed = False
        self.opaque = False
        self.filled = False
        self.refused = False
        self.rejected = False
        self.direction: Direction | None = None
        self.formats: tuple[str, ...] = ()
        self.codecs: tuple[tuple[int, str, int], ...] = ()
        self.ptime: str | None = None
        self.maxptime: str | None = None
        self.mid: str | None = None
        self.signalled: Signalled | None = None
        self.muxed = False
        self.mux_possible = False
        self.mux_words: frozenset[RtcpMux] = frozenset()
        self.extmap_allow_mixed = False
        self.pair: PortPair | None = None
        self.rtp: Stream | None = None
        self.rtcp: Stream | None = None

    def take_pair(self, pair: PortPair) -> None:
        """Use a port pair, as soon as ``pair.serve`` says so; it must have let go of the one before."""
        self.pair = pair
        self.rtp = Stream(StreamKind.RTP, pair.rtp)
        self.rtcp = Stream(StreamKind.RTCP, pair.rtp if self.muxed else pair.rtcp)

    def settle_mux(self, muxed: bool) -> None:
        """Say on which port the RTCP of this party travels."""
        self.muxed = muxed
        if self.pair is not None and self.rtcp is not None:
            self.rtcp.transport = self.pair.rtp if muxed else self.pair.rtcp

    def connect(self, peer: Media) -> None:
        """Let this media's streams go to the peer's, and to nobody else."""
        if self.rtp is None or self.rtcp is None or peer.rtp is None or peer.rtcp is None:
            return
        self.rtp.sinks = [peer.rtp]
        self.rtcp.sinks = [peer.rtcp]

    def listen(self, now: float) -> None:
        """Open learning windows on both transports, by what the party last signalled."""
        said = self.signalled
        if self.pair is None or said is None:
            return
        for transport, endpoint in ((self.pair.rtp, said.rtp), (self.pair.rtcp, said.rtcp)):
            transport.strict = said.strict
            transport.refusals_reported = False
            transport.latching.signal(
                endpoint,
                held=said.held,
                mode=said.mode,
                asymmetric=said.asymmetric,
                handover=said.handover,
                now=now,
            )

    def listen_again(self, now: float) -> None:
        """The peer spoke: open new windows for what this party signalled before."""
        if self.pair is None:
            return
        for transport in (self.pair.rtp, self.pair.rtcp):
            transport.refusals_reported = False
            transport.latching.reopen(now)

    def branch_off(self, *, keep_pair: bool) -> Media:
        """The same section in a dialogue that branches off: what was said holds, what was learnt does not.

        Args:
            keep_pair: the new media uses the same port pair (the party was never told of another one).
        """
        media = copy(self)
        media.pair = media.rtp = media.rtcp = None
        if keep_pair and self.pair is not None:
            media.take_pair(self.pair)
        return media

    def let_go(self, now: float) -> PortPair | None:
        """Use no pair any more. Returns the pair if nobody else uses it: it is the caller's to close."""
        pair = self.pair
        self.pair = self.rtp = self.rtcp = None
        if pair is None or self not in pair.users:
            return None
        pair.users.remove(self)
        if not pair.users:
            return pair
        pair.users[-1].listen(now)
        return None

    def configs(self, tos: int | None) -> list[TransportConfig]:
        """What the relay is to do with this media's transports; nothing while its pair serves another media.

        RTCP is told apart on the RTP port only where it may come there (mux settled or offered): without mux, payload
        types 64 to 95 with the marker bit look like RTCP (RFC 5761, section 4), and are not.
        """
        if self.pair is None or self.rtp is None or self.rtcp is None or self.pair.users[-1] is not self:
            return []
        if self.rejected or not self.relayed:
            return [TransportConfig(one.handle, SourcePolicy.CLOSED) for one in (self.pair.rtp, self.pair.rtcp)]
        rtp_sinks = tuple(sink.transport.handle for sink in self.rtp.sinks)
        rtcp_sinks = tuple(sink.transport.handle for sink in self.rtcp.sinks)
        may_mux = self.muxed or self.mux_possible
        rates = tuple(
            (payload_type, rate) for payload_type, _, rate in self.codecs if rate and payload_type > _LAST_STATIC_TYPE
        )[:MAX_CLOCK_RATES]
        configs = []
        for transport in (self.pair.rtp, self.pair.rtcp):
            is_rtp = transport is self.pair.rtp
            latching = transport.latching
            if self.opaque and not is_rtp:
                configs.append(TransportConfig(transport.handle, SourcePolicy.CLOSED))
                continue
            configs.append(
                TransportConfig(
                    handle=transport.handle,
                    policy=transport.policy(),
                    remote=latching.destination,
                    expected=latching.expected,
                    opaque=self.opaque,
                    rtp_sinks=rtp_sinks if is_rtp else (),
                    rtcp_sinks=rtcp_sinks if may_mux or not is_rtp else (),
                    tos=tos,
                    clock_rates=rates if is_rtp else (),
                )
            )
        return configs
