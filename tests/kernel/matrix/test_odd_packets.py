"""Packets that are not plain: in pieces, with options, too long for the way out, without hops or a checksum."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, fragment6
from scapy.packet import Packet, Raw

from mediaproxy.datapath.flow import FlowReason
from tests.kernel.matrix.bed import LEFT, RIGHT, Bed
from tests.kernel.matrix.call import Call, Party
from tests.support.datagrams import datagrams_delivered
from tests.support.devices import set_tx_checksum
from tests.support.netlab import Namespace
from tests.support.processes import wait_until

LONG = 2400
"""Bytes of RTP that take two packets on a link with an MTU of 1500."""
NARROW = 1300
"""An MTU that is too small for ``BIG``."""
BIG = 1400
PADDING = b"padding!" * 3
ETH_P_ALL = 3


def ip_packet(party: Party, payload: bytes, *, hops: int = 64, **udp: int) -> Packet:
    """What ``party`` would send to the relay, as scapy has it."""
    source, target = party.phone.rtp.endpoint, party.relay
    datagram = UDP(sport=source.port, dport=target.port, **udp) / Raw(payload)
    if party.family == 6:
        return IPv6(src=source.address, dst=target.address, hlim=hops) / datagram
    return IP(src=source.address, dst=target.address, ttl=hops, id=4711) / datagram


def send_raw(namespace: Namespace, *packets: Packet) -> None:
    """Send IP packets as they are."""

    def send() -> None:
        for packet in packets:
            family = socket.AF_INET6 if isinstance(packet, IPv6) else socket.AF_INET
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
                raw.sendto(bytes(packet), (packet.dst, 0))

    namespace.call(send)


@dataclass(frozen=True, slots=True)
class Odd:
    """One kind of packet: ``fragments`` or ``options``."""

    name: str
    family: int

    def __str__(self) -> str:
        return f"{self.name}-ip{self.family}"

    def make(self, party: Party, payload: bytes) -> list[Packet]:
        """What to send for that payload."""
        plain = ip_packet(party, payload)
        if self.name == "fragments":
            if self.family == 4:
                return list(fragment(plain, fragsize=64))
            # scapy wants a fragment header where it is to cut.
            plain = IPv6(bytes(plain))
            header = IPv6(src=plain.src, dst=plain.dst, hlim=64) / IPv6ExtHdrFragment(id=4711) / plain[UDP]
            return list(fragment6(header, 1280)) if len(payload) > 1280 else [header]
        if self.family == 4:
            plain.options = [IPOption_Router_Alert()]
            return [IP(bytes(plain))]
        return [IPv6(src=plain.src, dst=plain.dst, hlim=64) / IPv6ExtHdrDestOpt() / plain[UDP]]


ODD = [Odd(name, family) for name in ("fragments", "options") for family in (4, 6)]


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_packet_in_pieces_or_with_options_arrives(bed: Bed, odd: Odd) -> None:
    with Call(bed, (LEFT, RIGHT), (odd.family, odd.family)) as call:
        call.settle()
        payload = call.a.phone.next_rtp(LONG if str(odd) == "fragments-ip6" else 172)
        before = datagrams_delivered(bed.relay)
        send_raw(bed.hosts["left"], *odd.make(call.a, payload))
        call.a.sent += 1
        call.a.sent_bytes += len(payload)
        call.heard(call.b, [payload])
        in_kernel = bed.backend.reassembles and odd.name == "fragments"
        assert datagrams_delivered(bed.relay) - before == (0 if in_kernel else 1)
        call.carried_by()


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
def test_datagram_longer_than_the_link_takes_arrives_in_pieces(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (LEFT, RIGHT), families) as call:
        call.settle()
        for party in call.parties:
            packet = party.phone.next_rtp(LONG)
            party.send(packet)
            call.heard(call.peer(party), [packet])
        call.carried_by()


@contextlib.contextmanager
def narrow(bed: Bed) -> Iterator[None]:
    """The way to the right takes shorter packets than the one from the left."""
    bed.relay.ip("link", "set", "p1", "mtu", str(NARROW))
    try:
        yield
    finally:
        bed.relay.ip("link", "set", "p1", "mtu", "1500")


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
def test_packet_too_long_for_the_way_out_goes_by_the_socket_and_arrives(bed: Bed, families: tuple[int, int]) -> None:
    with narrow(bed), Call(bed, (LEFT, RIGHT), families) as call:
        call.settle()

        by_socket = not (bed.backend.conntrack and call.expected_reason(call.a) is None)

        def goes_up() -> bool:
            before = datagrams_delivered(bed.relay)
            packet = call.a.phone.next_rtp(BIG)
            call.a.send(packet)
            arrived = bool(call.b.phone.rtp.expect(1, patience=0.2))
            return arrived and datagrams_delivered(bed.relay) - before == by_socket

        # The news of the new MTU takes its way. Connection tracking answers like a router: the sender is told to cut.
        wait_until(goes_up, 3.0, "long packets arrive")
        call.exchange(10)


@pytest.mark.parametrize("family", [4, 6])
def test_packet_at_the_end_of_its_hops_does_not_go_on_by_the_kernel(bed: Bed, family: int) -> None:
    with Call(bed, (LEFT, RIGHT), (family, family)) as call:
        call.settle()
        payload = call.a.phone.next_rtp()
        send_raw(bed.hosts["left"], ip_packet(call.a, payload, hops=1))
        if call.expected_reason(call.a) is not None:
            call.a.sent += 1
            call.a.sent_bytes += len(payload)
            call.heard(call.b, [payload])  # a datagram is at its end in a socket; what leaves is another one
            call.carried_by()
            return
        call.exchange(1)  # which was handled after it
        if bed.backend.counts_drops:
            call.a.refused += 1
            call.carried_by()


@pytest.mark.parametrize("family_out", [4, 6])
def test_packet_without_a_checksum_arrives(bed: Bed, family_out: int) -> None:
    with Call(bed, (LEFT, RIGHT), (4, family_out)) as call:
        call.settle()
        payload = call.a.phone.next_rtp()
        send_raw(bed.hosts["left"], ip_packet(call.a, payload, chksum=0))
        call.a.sent += 1
        call.a.sent_bytes += len(payload)
        call.heard(call.b, [payload])
        call.carried_by()


def test_padding_behind_a_short_packet_stays_behind(bed: Bed) -> None:
    with Call(bed, (LEFT, RIGHT)) as call:
        call.settle()
        payload = call.a.phone.next_rtp(12)
        ethernet = bed.relay.call(lambda: _address_of("p0")) + bed.hosts["left"].call(lambda: _address_of("eth0"))
        frame = ethernet + b"\x08\x00" + bytes(ip_packet(call.a, payload)) + PADDING

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as raw:
                raw.bind(("eth0", 0))
                raw.send(frame)

        bed.hosts["left"].call(send)
        call.a.sent += 1
        call.a.sent_bytes += len(payload) + len(PADDING) * bed.backend.counts_padding
        call.heard(call.b, [payload])
        call.carried_by()


def _address_of(device: str) -> bytes:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((device, 0))
        return bytes(raw.getsockname()[4])


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
@pytest.mark.parametrize("on", [True, False], ids=["offload", "no offload"])
def test_checksums_are_right_whoever_writes_them(bed: Bed, families: tuple[int, int], on: bool) -> None:
    hosts = [bed.hosts["left"], bed.hosts["right"]]
    with contextlib.ExitStack() as stack:
        for host in hosts:
            set_tx_checksum(host, "eth0", on=on)
            stack.callback(set_tx_checksum, host, "eth0", on=not bed.backend.is_xdp)
        call = stack.enter_context(Call(bed, (LEFT, RIGHT), families))
        if on and not bed.backend.writes_checksums:
            call.settle({"A": FlowReason.MOVED_NOTHING, "B": FlowReason.MOVED_NOTHING})
            call.exchange(10)
            call.check_counters()
            return
        call.settle()
        call.carried_by()
