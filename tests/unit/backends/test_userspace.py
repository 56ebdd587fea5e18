"""The relay over the loopback: what it forwards, drops, counts and reports. No root, no fixed ports, no sleeps."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from mediaproxy.backends.userspace import UserspaceRelay
from mediaproxy.datapath import (
    DropReason,
    PacketClass,
    SourceEventKind,
    SourcePolicy,
    TransportConfig,
    TransportCounters,
    TransportHandle,
)
from mediaproxy.errors import PortBusyError, RelayError
from mediaproxy.net import Endpoint
from tests.support.rtp_paths import Path as RtpPath

DEADLINE = 10.0
STUN = struct.pack("!HHI12s", 1, 0, 0x2112A442, b"transaction!")
DTLS = b"\x16\xfe\xff" + bytes(60)
ZRTP = b"\x10\x00\x00\x01ZRTP" + bytes(20)


class Party:
    """A remote party: one UDP socket."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.socket.settimeout(DEADLINE)
        self.endpoint = Endpoint(*self.socket.getsockname()[:2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, to: Endpoint, *packets: bytes) -> None:
        for packet in packets:
            self.socket.sendto(packet, (to.address, to.port))

    def receive(self) -> bytes:
        return self.socket.recv(65536)

    def receive_numbers(self, count: int) -> list[int]:
        return [number_of(self.receive()) for _ in range(count)]

    def receive_until_quiet(self) -> list[bytes]:
        """What has arrived already."""
        packets = []
        while select.select([self.socket], [], [], 0)[0]:
            packets.append(self.receive())
        return packets


class Leg:
    """A port pair of the relay and the party it faces."""

    def __init__(self, relay: UserspaceRelay, address: str = "127.0.0.1", group: int = 0) -> None:
        self.local, self.rtp, self.rtcp = open_free_pair(relay, address, group)
        self.local_rtcp = Endpoint(self.local.address, self.local.port + 1)
        self.party = Party(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.party.socket.close()

    @property
    def remote(self) -> Endpoint:
        return self.party.endpoint

    def config(
        self,
        policy: SourcePolicy,
        *sinks: TransportHandle,
        remote: Endpoint | None = None,
        expected: Endpoint | None = None,
        muxed: bool = False,
        opaque: bool = False,
        tos: int | None = None,
        drop: bool = False,
        clock_rates: tuple[tuple[int, int], ...] = (),
    ) -> TransportConfig:
        return TransportConfig(
            self.rtp,
            policy,
            remote=remote or self.remote,
            expected=expected or (self.remote if policy is SourcePolicy.LOCKED else None),
            opaque=opaque,
            rtp_sinks=sinks,
            rtcp_sinks=sinks if muxed else (),
            tos=tos,
            drop=drop,
            clock_rates=clock_rates,
        )


def open_free_pair(
    relay: UserspaceRelay, address: str, group: int
) -> tuple[Endpoint, TransportHandle, TransportHandle]:
    """A port pair that happens to be free: the kernel proposes one."""
    while True:
        with Party(address) as proposal:
            port = proposal.endpoint.port & ~1
        try:
            return Endpoint(address, port), *relay.open_pair(address, port, group)
        except PortBusyError:
            continue


def rtp_packet(
    number: int, ssrc: int = 0xCAFE, payload_type: int = 0, timestamp: int | None = None, size: int = 172
) -> bytes:
    stamp = number * 160 if timestamp is None else timestamp
    head = struct.pack("!BBHII", 0x80, payload_type, number & 0xFFFF, stamp & 0xFFFFFFFF, ssrc)
    return head + struct.pack("!I", number) + bytes(size - 16)


def rtcp_packet(ssrc: int = 0xCAFE, packet_type: int = 200) -> bytes:
    return struct.pack("!BBHI", 0x80, packet_type, 6, ssrc) + bytes(20)


def number_of(packet: bytes) -> int:
    number: int = struct.unpack_from("!I", packet, 12)[0]
    return number


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        os.sched_yield()


def drops(counters: TransportCounters) -> dict[DropReason, int]:
    return {reason: counters.drops[reason] for reason in DropReason if counters.drops[reason]}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def relay() -> Iterator[UserspaceRelay]:
    with UserspaceRelay(workers=2, capacity=512) as started:
        yield started


@pytest.fixture
def legs(relay: UserspaceRelay) -> Iterator[tuple[Leg, Leg]]:
    """Two legs facing each other, both open and muxed."""
    a, b = Leg(relay), Leg(relay)
    relay.configure(
        [
            a.config(SourcePolicy.OPEN, b.rtp, muxed=True),
            b.config(SourcePolicy.OPEN, a.rtp, muxed=True),
        ]
    )
    with a, b:
        yield a, b


def lock(relay: UserspaceRelay, a: Leg, b: Leg) -> None:
    """Settle both legs and make each carry RTP, so that their sockets get connected."""
    relay.configure(
        [a.config(SourcePolicy.LOCKED, b.rtp, muxed=True), b.config(SourcePolicy.LOCKED, a.rtp, muxed=True)]
    )
    before = relay.activity().descriptors
    a.party.send(a.local, rtp_packet(1))
    b.party.receive()
    b.party.send(b.local, rtp_packet(1))
    a.party.receive()
    wait_until(lambda: relay.activity().descriptors == before + 2)


def test_relay_forwards_both_ways_bit_exact(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    for number in range(50):
        there, back = rtp_packet(number, size=100 + number), rtp_packet(number, ssrc=7, payload_type=8)
        a.party.send(a.local, there)
        assert b.party.receive() == there
        b.party.send(b.local, back)
        assert a.party.receive() == back
    wait_until(lambda: relay.totals().packets == 100)  # counted after it was sent
    counters = relay.counters(a.rtp)
    assert (counters.rtp.packets, counters.rtp.packets_out, counters.rtp.errors) == (50, 50, 0)
    assert counters.rtp.bytes == sum(range(100, 150))
    assert counters.rtp.bytes_out == 50 * 172
    assert relay.totals().bytes == counters.rtp.bytes + counters.rtp.bytes_out
    assert relay.totals().errors == 0


def test_packets_leave_from_the_port_that_faces_the_party(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    a.party.send(a.local, rtp_packet(1))
    _, source = b.party.socket.recvfrom(2048)
    assert Endpoint(*source) == b.local


def test_muxed_rtcp_is_counted_apart(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    a.party.send(a.local, rtp_packet(1), rtcp_packet(), rtp_packet(2))
    assert [len(b.party.receive()) for _ in range(3)] == [172, 28, 172]
    counters = relay.counters(a.rtp)
    assert (counters.rtp.packets, counters.rtcp.packets, counters.rtcp.bytes) == (2, 1, 28)
    assert [entry.ssrc for entry in counters.rtcp.ssrcs] == [0xCAFE]
    wait_until(lambda: relay.totals().packets == 3)
    counters = relay.counters(b.rtp)
    assert (counters.rtp.packets_out, counters.rtcp.packets_out, counters.rtcp.bytes_out) == (2, 1, 28)


def test_rtcp_passes_on_its_own_port(relay: UserspaceRelay) -> None:
    a, b = Leg(relay), Leg(relay)
    with a, b, Party() as b_rtcp:
        relay.configure(
            [
                a.config(SourcePolicy.OPEN, b.rtp),
                TransportConfig(a.rtcp, SourcePolicy.OPEN, rtcp_sinks=(b.rtcp,)),
                TransportConfig(b.rtcp, SourcePolicy.OPEN, remote=b_rtcp.endpoint),
            ]
        )
        a.party.send(a.local_rtcp, rtcp_packet())
        assert b_rtcp.receive() == rtcp_packet()
        counters = relay.counters(a.rtcp)
        assert (counters.rtcp.packets, counters.rtp.packets) == (1, 0)
        assert relay.last_seen(a.rtcp) is not None
        assert relay.last_seen(a.rtp) is None


def test_without_rtcp_sinks_a_marker_on_payload_type_72_is_rtp(relay: UserspaceRelay) -> None:
    a, b = Leg(relay), Leg(relay)
    with a, b:
        relay.configure([a.config(SourcePolicy.OPEN, b.rtp), b.config(SourcePolicy.OPEN, a.rtp)])
        packet = rtp_packet(1, payload_type=0x80 | 72)
        a.party.send(a.local, packet)
        assert b.party.receive() == packet
        assert relay.counters(a.rtp).rtp.ssrcs[0].payload_type == 72


@pytest.mark.parametrize("packet", [STUN, DTLS, ZRTP, b"", b"\r\n", b"\x80\x00", b"\xff" * 40, b"\x40" * 12])
def test_what_nobody_terminates_goes_to_the_rtp_sinks(
    relay: UserspaceRelay, legs: tuple[Leg, Leg], packet: bytes
) -> None:
    a, b = legs
    a.party.send(a.local, packet)
    assert b.party.receive() == packet
    assert relay.counters(a.rtp).rtp.packets == 1
    assert relay.counters(a.rtp).rtp.ssrcs == ()
    assert relay.last_seen(a.rtp) is None


def test_opaque_transport_tells_nothing_apart(relay: UserspaceRelay) -> None:
    a, b = Leg(relay), Leg(relay)
    with a, b:
        relay.configure([a.config(SourcePolicy.OPEN, b.rtp, opaque=True), b.config(SourcePolicy.OPEN, a.rtp)])
        a.party.send(a.local, rtcp_packet(), b"\x00\x01UDPTL")
        assert b.party.receive() == rtcp_packet()
        assert b.party.receive() == b"\x00\x01UDPTL"
        counters = relay.counters(a.rtp)
        assert (counters.rtp.packets, counters.rtcp.packets, counters.rtp.ssrcs) == (2, 0, ())
        assert relay.last_seen(a.rtp) is not None
        [event] = relay.take_events()
        assert (event.packet_class, event.source, event.ssrc) == (PacketClass.OTHER, a.remote, 0)


@pytest.mark.parametrize("size", [1472, 1473, 2048, 2049, 4000, 9000, 65507])
def test_large_datagrams_pass_whole(relay: UserspaceRelay, legs: tuple[Leg, Leg], size: int) -> None:
    a, b = legs
    packet = rtp_packet(1)[:16] + os.urandom(size - 16)
    a.party.send(a.local, rtp_packet(0), packet, rtp_packet(2))
    assert [b.party.receive() for _ in range(3)] == [rtp_packet(0), packet, rtp_packet(2)]


@pytest.mark.parametrize(("left", "right"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("::1", "::1")])
def test_address_families_are_bridged(relay: UserspaceRelay, left: str, right: str) -> None:
    a, b = Leg(relay, left), Leg(relay, right)
    with a, b:
        relay.configure(
            [a.config(SourcePolicy.OPEN, b.rtp, muxed=True), b.config(SourcePolicy.OPEN, a.rtp, muxed=True)]
        )
        a.party.send(a.local, rtp_packet(1), rtp_packet(2, size=3000))
        assert b.party.receive() == rtp_packet(1)
        assert b.party.receive() == rtp_packet(2, size=3000)
        [event] = relay.take_events()
        assert event.source == a.remote
        lock(relay, a, b)
        with Party(left) as stranger:
            stranger.send(a.local, rtp_packet(9))
            wait_until(lambda: relay.counters(a.rtp).drops[DropReason.WRONG_SOURCE] == 1)
        [event] = relay.take_events()
        assert event.source == stranger.endpoint


def test_tos_is_set_on_what_leaves(relay: UserspaceRelay) -> None:
    for address, level, option, received in (
        ("127.0.0.1", socket.IPPROTO_IP, socket.IP_RECVTOS, socket.IP_TOS),
        ("::1", socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS),
    ):
        a, b = Leg(relay, address), Leg(relay, address)
        with a, b:
            b.party.socket.setsockopt(level, option, 1)
            for tos, expected in ((None, 0), (184, 184), (None, 184), (8, 8), (0, 0)):
                relay.configure(
                    [a.config(SourcePolicy.OPEN, b.rtp), b.config(SourcePolicy.OPEN, a.rtp, tos=tos)],
                )
                a.party.send(a.local, rtp_packet(1))
                _, [(_, kind, data)], _, _ = b.party.socket.recvmsg(2048, 64)
                assert kind == received
                assert data[0] == expected


def test_rtp_state_is_what_the_counters_say(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    a.party.send(a.local, *(rtp_packet(number) for number in (10, 11, 13)), rtp_packet(7, ssrc=0xBEEF))
    b.party.receive_numbers(4)
    assert relay.ssrc_counters(relay.rtp_state(a.rtp)) == relay.counters(a.rtp).rtp.ssrcs
    assert [one.ssrc for one in relay.ssrc_counters(relay.rtp_state(a.rtp))] == [0xBEEF, 0xCAFE]
    relay.close([a.rtp])
    assert relay.ssrc_counters(relay.rtp_state(a.rtp)) == ()
    relay.resume_rtp(a.rtp, relay.rtp_state(b.rtp))  # closed: nothing happens


def test_stream_that_another_path_has_carried_goes_on_without_loss(
    relay: UserspaceRelay, legs: tuple[Leg, Leg]
) -> None:
    a, b = legs
    a.party.send(a.local, *(rtp_packet(number) for number in (100, 101, 103)))
    b.party.receive_numbers(3)
    other = RtpPath(relay.rtp_state(a.rtp))
    other.count_all(range(104, 20000), time.monotonic_ns())
    relay.resume_rtp(a.rtp, other.state)
    a.party.send(a.local, *(rtp_packet(number) for number in (20000, 102, 20002)))
    b.party.receive_numbers(3)
    sockets = relay.rtp_state(a.rtp)
    (merged,) = relay.ssrc_counters(relay.merge_rtp([sockets, other.state]))
    # 102 comes so late that it is a jump: neither received nor a duplicate (RFC 3550, A.1).
    assert (merged.packets, merged.lost, merged.extended_sequence) == (19900 + 2, 2, 20002)
    (own,) = relay.ssrc_counters(sockets)
    assert (own.packets, own.lost) == (6, 2)
    assert relay.counters(a.rtp).rtp.packets == 6


def test_several_sinks_get_a_copy_each(relay: UserspaceRelay) -> None:
    source, *others = (Leg(relay, group=group) for group in range(9))
    with source:
        relay.configure(
            [
                source.config(SourcePolicy.OPEN, *(leg.rtp for leg in others)),
                *(leg.config(SourcePolicy.OPEN) for leg in others),
            ]
        )
        source.party.send(source.local, *(rtp_packet(number) for number in range(5)))
        for leg in others:
            with leg:
                assert leg.party.receive_numbers(5) == [0, 1, 2, 3, 4]
    wait_until(lambda: relay.totals().packets == 5)
    assert relay.activity().packets_out == 40


def test_closed_sink_is_skipped_and_counted(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    gone = Leg(relay)
    relay.configure([a.config(SourcePolicy.OPEN, gone.rtp, b.rtp)])
    relay.close([gone.rtp])
    a.party.send(a.local, rtp_packet(1))
    assert b.party.receive() == rtp_packet(1)
    assert drops(relay.counters(a.rtp)) == {DropReason.NO_SINK: 1}
    assert relay.totals().errors == 0
    gone.party.socket.close()


def test_transport_just_opened_drops_and_counts(relay: UserspaceRelay) -> None:
    leg = Leg(relay)
    with leg:
        leg.party.send(leg.local, rtp_packet(1))
        wait_until(lambda: relay.counters(leg.rtp).rtp.errors == 1)
    assert drops(relay.counters(leg.rtp)) == {DropReason.CLOSED: 1}
    assert relay.counters(leg.rtp).rtp.packets == 0
    assert relay.take_events() == []
    wait_until(lambda: relay.totals().errors == 1)


def test_drops_are_counted_by_reason(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    cases = [
        (a.config(SourcePolicy.OPEN), b.config(SourcePolicy.OPEN), DropReason.NO_SINK),
        (
            a.config(SourcePolicy.OPEN, b.rtp),
            b.config(SourcePolicy.OPEN, remote=Endpoint("0.0.0.0", 5004)),
            DropReason.NO_DESTINATION,
        ),
        (
            a.config(SourcePolicy.OPEN, b.rtp),
            b.config(SourcePolicy.OPEN, remote=Endpoint("192.0.2.1", 0)),
            DropReason.NO_DESTINATION,
        ),
        (
            a.config(SourcePolicy.OPEN, b.rtp),
            b.config(SourcePolicy.OPEN, remote=Endpoint("2001:db8::1", 5004)),
            DropReason.NO_DESTINATION,
        ),
        (a.config(SourcePolicy.OPEN, b.rtp, drop=True), b.config(SourcePolicy.OPEN), DropReason.BLOCKED),
        (
            a.config(SourcePolicy.OPEN, b.rtp),
            b.config(SourcePolicy.OPEN, remote=Endpoint("255.255.255.255", 5004)),
            DropReason.SEND_FAILED,
        ),
    ]
    expected: dict[DropReason, int] = {}
    for count, (ours, theirs, reason) in enumerate(cases, 1):
        relay.configure([ours, theirs])
        a.party.send(a.local, rtp_packet(count))
        expected[reason] = expected.get(reason, 0) + 1
        wait_until(lambda: sum(relay.counters(a.rtp).drops) == count)  # noqa: B023
        assert drops(relay.counters(a.rtp)) == expected
    counters = relay.counters(a.rtp)
    assert (counters.rtp.packets, counters.rtp.errors) == (len(cases), len(cases))
    wait_until(lambda: relay.totals().errors == len(cases))
    assert b.party.receive_until_quiet() == []


def test_python_is_told_once_of_a_source(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    for start in range(0, 1000, 50):
        a.party.send(a.local, *(rtp_packet(number) for number in range(start, start + 50)))
        assert b.party.receive_numbers(50) == list(range(start, start + 50))
    assert relay.counters(a.rtp).reports == 1
    [event] = relay.take_events()
    assert event.kind is SourceEventKind.SEEN
    assert (event.handle, event.packet_class) == (a.rtp, PacketClass.RTP)
    assert (event.source, event.ssrc) == (a.remote, 0xCAFE)
    assert relay.take_events() == []


def test_open_transport_reports_a_changing_source_at_a_limited_rate(
    relay: UserspaceRelay, legs: tuple[Leg, Leg]
) -> None:
    a, b = legs
    began = time.monotonic()
    with Party() as other:
        for number in range(200):
            (a.party, other)[number % 2].send(a.local, rtp_packet(number))
            assert number_of(b.party.receive()) == number
    seen = [event.source for event in relay.take_events()]
    allowed = 8 + int((time.monotonic() - began) * 4) + 1
    assert 8 <= len(seen) <= allowed
    assert seen[:8] == [a.remote, other.endpoint] * 4
    assert relay.counters(a.rtp).reports == len(seen)
    # What the reported one sends is no news; what the other one sends is, until it is told.
    assert 0 < relay.activity().reports_suppressed <= 96


def test_expected_source_is_not_reported_and_each_configure_reports_anew(
    relay: UserspaceRelay, legs: tuple[Leg, Leg]
) -> None:
    a, b = legs
    for expected, events in ((a.remote, 0), (None, 1), (b.remote, 1), (a.remote, 0)):
        relay.configure([a.config(SourcePolicy.OPEN, b.rtp, expected=expected)])
        a.party.send(a.local, rtp_packet(1), rtp_packet(2))
        assert b.party.receive_numbers(2) == [1, 2]
        assert [event.source for event in relay.take_events()] == [a.remote] * events


def test_source_is_reported_again_when_media_follows_stun(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    a.party.send(a.local, b"\xff" * 40, STUN, STUN, rtcp_packet(5), STUN, rtp_packet(1), rtcp_packet(), rtp_packet(2))
    for _ in range(8):
        b.party.receive()
    assert [(event.packet_class, event.ssrc) for event in relay.take_events()] == [
        (PacketClass.STUN, 0),
        (PacketClass.RTCP, 5),
        (PacketClass.RTP, 0xCAFE),
    ]


def test_trusting_transport_takes_anybody_and_reports_nobody(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    relay.configure([a.config(SourcePolicy.TRUSTING, b.rtp)])
    with Party() as other:
        a.party.send(a.local, rtp_packet(1))
        assert number_of(b.party.receive()) == 1
        other.send(a.local, rtp_packet(2))
        assert number_of(b.party.receive()) == 2
    assert relay.take_events() == []


@pytest.mark.parametrize("connected", [False, True])
def test_locked_transport_drops_strangers_and_reports_each_once(
    relay: UserspaceRelay, legs: tuple[Leg, Leg], connected: bool
) -> None:
    a, b = legs
    relay.configure([a.config(SourcePolicy.LOCKED, b.rtp, muxed=True)])
    if connected:
        lock(relay, a, b)
    relay.take_events()
    with Party() as stranger, Party() as another:
        stranger.send(a.local, rtp_packet(66), rtcp_packet(), STUN)
        wait_until(lambda: relay.counters(a.rtp).drops[DropReason.WRONG_SOURCE] == 3)
        [event] = relay.take_events()
        assert event.kind is SourceEventKind.REFUSED
        assert (event.handle, event.source, event.ssrc) == (a.rtp, stranger.endpoint, 0xCAFE)
        another.send(a.local, rtp_packet(67), rtp_packet(67))
        wait_until(lambda: relay.counters(a.rtp).drops[DropReason.WRONG_SOURCE] == 5)
        [event] = relay.take_events()
        assert event.source == another.endpoint

        relay.configure([a.config(SourcePolicy.LOCKED, b.rtp, muxed=True)])
        another.send(a.local, rtp_packet(68), rtp_packet(69))
        wait_until(lambda: relay.counters(a.rtp).drops[DropReason.WRONG_SOURCE] == 7)
        [event] = relay.take_events()
        assert event.source == another.endpoint
    a.party.send(a.local, rtp_packet(70))
    assert number_of(b.party.receive()) == 70
    assert b.party.receive_until_quiet() == []
    assert relay.counters(a.rtp).rtp.packets == (2 if connected else 1)


def test_connected_port_is_shared_with_nobody(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    lock(relay, a, b)
    for reuse in (0, 1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
            with pytest.raises(OSError, match="in use") as caught:
                other.bind((a.local.address, a.local.port))
            assert caught.value.errno == errno.EADDRINUSE


def test_settling_loses_and_reorders_nothing(relay: UserspaceRelay) -> None:
    """The sockets of fresh transports get connected in the middle of a burst."""
    for _ in range(100):
        a, b = Leg(relay), Leg(relay)
        with a, b:
            relay.configure([a.config(SourcePolicy.OPEN, b.rtp), b.config(SourcePolicy.OPEN, a.rtp)])
            a.party.send(a.local, *(rtp_packet(number) for number in range(10)))
            relay.configure([a.config(SourcePolicy.LOCKED, b.rtp)])
            a.party.send(a.local, *(rtp_packet(number) for number in range(10, 30)))
            assert b.party.receive_numbers(30) == list(range(30))
            assert relay.counters(a.rtp).rtp.ssrcs[0].reordered == 0
        relay.close([a.rtp, a.rtcp, b.rtp, b.rtcp])


def test_changing_the_peer_a_thousand_times_loses_and_reorders_nothing(
    relay: UserspaceRelay, legs: tuple[Leg, Leg]
) -> None:
    """Two sources take turns; each is let in and then locked on to while its packets are on their way."""
    a, b = legs
    lock(relay, a, b)
    with Party() as other:
        for turn in range(350):
            talker = (a.party, other)[turn % 2]
            relay.configure([a.config(SourcePolicy.OPEN, b.rtp)])
            talker.send(a.local, *(rtp_packet(number, ssrc=turn) for number in range(8)))
            relay.configure([a.config(SourcePolicy.LOCKED, b.rtp, remote=talker.endpoint, expected=talker.endpoint)])
            talker.send(a.local, *(rtp_packet(number, ssrc=turn) for number in range(8, 16)))
            relay.configure([a.config(SourcePolicy.TRUSTING, b.rtp, remote=talker.endpoint)])
            talker.send(a.local, *(rtp_packet(number, ssrc=turn) for number in range(16, 24)))
            assert b.party.receive_numbers(24) == list(range(24))
            b.party.send(b.local, rtp_packet(turn))
            assert number_of(talker.receive()) == turn
    counters = relay.counters(a.rtp)
    assert [(entry.lost, entry.reordered) for entry in counters.rtp.ssrcs] == [(0, 0)] * 4
    assert drops(counters) == {}


def test_icmp_errors_lose_no_packet(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    """The peer's socket goes away for a moment: its host answers "port unreachable" to what is sent meanwhile.

    Each packet leaves twice by the same connected socket, so that the second send meets the error of the first.
    """
    a, b = legs
    lock(relay, a, b)
    relay.configure([a.config(SourcePolicy.LOCKED, b.rtp, b.rtp)])
    sent = 2

    def send(*numbers: int) -> None:
        nonlocal sent
        sent += len(numbers)
        a.party.send(a.local, *(rtp_packet(number) for number in numbers))
        wait_until(lambda: relay.totals().packets == sent)

    for _ in range(20):
        b.party.socket.close()
        send(0)
        send(1, 2, 3, 4, 5)
        b.party = Party(b.remote.address, b.remote.port)
        send(99)
        assert b.party.receive_numbers(2) == [99, 99]
    assert drops(relay.counters(a.rtp)) == {}
    calls = relay.activity().receive_calls
    b.party.send(b.local, rtp_packet(5))
    a.party.receive()
    assert relay.activity().receive_calls < calls + 10  # nothing spins


def test_statistics_follow_rfc_3550(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    numbers = [65534, 65535, 65536, 65539, 65537, 65537]
    a.party.send(a.local, *(rtp_packet(number, ssrc=11) for number in numbers), rtp_packet(5, ssrc=12, payload_type=8))
    for _ in range(7):
        b.party.receive()
    second, first = relay.counters(a.rtp).rtp.ssrcs
    assert (second.ssrc, second.packets, second.payload_type) == (12, 1, 8)
    assert (first.ssrc, first.packets, first.bytes) == (11, 6, 6 * 172)
    assert (first.extended_sequence, first.last_timestamp) == (65539, 65539 * 160)
    assert (first.lost, first.duplicates, first.reordered) == (1, 1, 1)


def test_jitter_needs_a_clock_rate(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    for clock_rates, counted in (((), False), (((96, 8000),), True), (((96, 0),), False)):
        relay.configure([a.config(SourcePolicy.OPEN, b.rtp, clock_rates=clock_rates)])
        ssrc = 100 + len(clock_rates) + counted
        # Half a second apart by the timestamps, no time apart in truth.
        for number in range(3):
            a.party.send(a.local, rtp_packet(number, ssrc=ssrc, payload_type=96, timestamp=number * 4000))
            b.party.receive()
        assert (relay.counters(a.rtp).rtp.ssrcs[0].jitter_ts > 100) is counted


def test_last_seen_is_on_the_monotonic_clock(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    assert relay.last_seen(a.rtp) is None
    before = time.monotonic()
    a.party.send(a.local, rtp_packet(1))
    b.party.receive()
    seen = relay.last_seen(a.rtp)
    assert seen is not None
    assert before <= seen <= time.monotonic()
    assert relay.counters(a.rtp).rtp.last_seen == seen
    a.party.send(a.local, STUN)
    b.party.receive()
    assert relay.last_seen(a.rtp) == seen


def test_closed_handles_are_ignored_and_keep_their_last_values(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    a.party.send(a.local, rtp_packet(1))
    b.party.receive()
    seen = relay.last_seen(a.rtp)
    relay.close([a.rtp, a.rtcp])
    relay.close([a.rtp, TransportHandle(2**63), TransportHandle(511 | 1 << 32)])
    relay.configure([a.config(SourcePolicy.OPEN, b.rtp)])
    assert relay.counters(a.rtp).rtp.packets == 1
    assert relay.last_seen(a.rtp) == seen
    for unknown in (TransportHandle(0), TransportHandle(0xFFFFFFFF), TransportHandle(a.rtp + (1 << 32))):
        assert relay.counters(unknown).rtp.packets == 0
        assert relay.counters(unknown).drops == (0,) * len(DropReason)
        assert relay.last_seen(unknown) is None


def test_slot_is_not_used_again_at_once(relay: UserspaceRelay) -> None:
    _, rtp, rtcp = open_free_pair(relay, "127.0.0.1", 0)
    closed_at = time.monotonic()
    relay.close([rtp, rtcp])
    used = {rtp & 0xFFFFFFFF, rtcp & 0xFFFFFFFF}
    again = set(open_free_pair(relay, "127.0.0.1", 0)[1:])
    assert time.monotonic() > closed_at + 1 or not used & {handle & 0xFFFFFFFF for handle in again}
    assert not again & {rtp, rtcp}


def test_no_transport_free_is_said(legs: tuple[Leg, Leg]) -> None:
    with UserspaceRelay(workers=1, capacity=2) as small:
        _, rtp, rtcp = open_free_pair(small, "127.0.0.1", 0)
        with pytest.raises(RelayError, match="no transport is free"):
            open_free_pair(small, "127.0.0.1", 0)
        small.close([rtp, rtcp])
        assert small.activity().descriptors == 0


def test_busy_port_leaves_nothing_open(relay: UserspaceRelay) -> None:
    leg = Leg(relay)
    leg.party.socket.close()
    before = descriptors()
    with pytest.raises(PortBusyError, match="in use"):
        relay.open_pair(leg.local.address, leg.local.port, 0)
    relay.close([leg.rtp])  # the odd port is still in use
    with pytest.raises(PortBusyError, match="in use"):
        relay.open_pair(leg.local.address, leg.local.port, 0)
    assert descriptors() == before - 1
    assert relay.activity().transports == 1


@pytest.mark.parametrize(
    ("address", "port", "text"),
    [
        ("192.0.2.1", 40000, "no such address"),
        ("2001:db8::1", 40000, "no such address"),
        ("127.0.0.1", 40001, "must be even"),
        ("127.0.0.1", 0, "must be even"),
        ("127.0.0.1", 65536, "must be even"),
        ("localhost", 40000, "does not appear to be an IPv4 or IPv6 address"),
    ],
)
def test_what_cannot_be_bound_is_refused_by_name(relay: UserspaceRelay, address: str, port: int, text: str) -> None:
    with pytest.raises(RelayError, match=text) as caught:
        relay.open_pair(address, port, 0)
    assert not isinstance(caught.value, PortBusyError)
    assert relay.activity().descriptors == 0


def test_configuration_out_of_range_changes_nothing(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, b = legs
    good = a.config(SourcePolicy.CLOSED)
    for bad, text in (
        (b.config(SourcePolicy.OPEN, *[a.rtp] * 9), "at most 8 sinks"),
        (b.config(SourcePolicy.OPEN, clock_rates=((96, 8000),) * 17), "at most 16 clock rates"),
        (b.config(SourcePolicy.OPEN, clock_rates=((128, 8000),)), "refuses"),
        (b.config(SourcePolicy.OPEN, tos=256), "not a TOS byte"),
    ):
        with pytest.raises(RelayError, match=text):
            relay.configure([good, bad])
    a.party.send(a.local, rtp_packet(1))
    assert number_of(b.party.receive()) == 1


@contextmanager
def descriptor_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptor_left_is_said_and_leaves_nothing_open(relay: UserspaceRelay) -> None:
    before = descriptors()
    with Party() as proposal:
        port = proposal.endpoint.port & ~1
        highest = proposal.socket.fileno()
    with descriptor_limit(highest + 1), pytest.raises(RelayError, match="LimitNOFILE"):
        relay.open_pair("127.0.0.1", port, 0)
    assert descriptors() == before


def test_without_descriptors_to_spare_media_flows_unconnected() -> None:
    """Second sockets are opened only while a quarter of the limit is free for new calls."""
    with descriptor_limit(max(int(name) for name in os.listdir("/proc/self/fd")) + 64):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        with UserspaceRelay(workers=1, capacity=256) as relay:
            a, b = Leg(relay), Leg(relay)
            filling = []
            with a, b:
                while relay.activity().descriptors < limit * 3 // 4 and descriptors() < limit - 8:
                    filling += open_free_pair(relay, "127.0.0.1", 0)[1:]
                held = relay.activity().descriptors
                relay.configure([a.config(SourcePolicy.LOCKED, b.rtp), b.config(SourcePolicy.LOCKED, a.rtp)])
                for number in range(5):
                    a.party.send(a.local, rtp_packet(number))
                    assert number_of(b.party.receive()) == number
                if held >= limit - limit // 4:
                    assert relay.activity().descriptors == held


def test_close_under_load_crashes_nothing_and_loses_no_descriptor() -> None:
    """Both workers are kept busy with each other's sinks while transports come and go."""
    before = descriptors()
    stop = threading.Event()

    def flood(leg: Leg, targets: list[Leg]) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for target in targets:
                leg.party.send(target.local, rtp_packet(number))

    with UserspaceRelay(workers=2, capacity=8192) as relay:
        legs = [Leg(relay, group=group) for group in range(4)]
        floods = [threading.Thread(target=flood, args=(leg, legs)) for leg in legs[:2]]
        for thread in floods:
            thread.start()
        try:
            for turn in range(3000):
                leg, sink = legs[turn % 4], legs[(turn + 1) % 4]
                relay.configure([leg.config(SourcePolicy.LOCKED, sink.rtp, remote=legs[turn % 2].remote)])
                relay.configure([leg.config(SourcePolicy.TRUSTING, sink.rtp, leg.rtp)])
                if turn % 3 == 0:
                    relay.close([leg.rtp, leg.rtcp])
                    leg.local, leg.rtp, leg.rtcp = open_free_pair(relay, "127.0.0.1", turn)
        finally:
            stop.set()
            for thread in floods:
                thread.join()
        assert relay.close_all() == 8
        for leg in legs:
            leg.party.socket.close()
        wait_until(lambda: relay.activity().descriptors == 0)
        assert relay.activity().packets_out > 0
    assert descriptors() == before


def test_descriptors_are_back_after_a_thousand_pairs() -> None:
    before = descriptors()
    with UserspaceRelay(workers=2, capacity=4096) as relay:
        running = descriptors()
        for _ in range(100):
            pairs = [open_free_pair(relay, "127.0.0.1", group) for group in range(10)]
            assert descriptors() == running + 20
            relay.close([handle for _, *handles in pairs for handle in handles])
            assert descriptors() == running  # the relay is idle: closed before close() returned
    assert descriptors() == before


def test_event_fd_is_readable_while_there_are_reports(relay: UserspaceRelay, legs: tuple[Leg, Leg]) -> None:
    a, _ = legs
    assert select.select([relay.event_fd], [], [], 0)[0] == []
    a.party.send(a.local, rtp_packet(1))
    assert select.select([relay.event_fd], [], [], DEADLINE)[0] == [relay.event_fd]
    assert len(relay.take_events()) == 1
    assert select.select([relay.event_fd], [], [], 0)[0] == []
    assert os.get_inheritable(relay.event_fd) is False


def test_many_reports_are_all_taken(relay: UserspaceRelay) -> None:
    """More than one call into C fetches (256), from both workers."""
    with Party() as party:
        legs = [open_free_pair(relay, "127.0.0.1", group) for group in range(45)]
        expected = set()
        for turn in range(3):
            relay.configure([TransportConfig(h, SourcePolicy.OPEN) for _, *pair in legs for h in pair])
            for local, rtp, rtcp in legs:
                party.send(local, rtp_packet(turn))
                party.send(Endpoint(local.address, local.port + 1), rtp_packet(turn))
                expected |= {rtp, rtcp}
            wait_until(lambda: relay.activity().reports == 90 * (turn + 1))  # noqa: B023
        events = relay.take_events()
    assert len(events) == 270
    assert {event.handle for event in events} == expected


def test_workers_are_named_threads_with_all_signals_blocked(relay: UserspaceRelay) -> None:
    ids = relay.worker_thread_ids()
    assert len(set(ids)) == 2
    for index, thread_id in enumerate(ids):
        task = Path(f"/proc/self/task/{thread_id}")
        assert (task / "comm").read_text().strip() == f"mpo-relay-{index}"
        blocked = next(line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk:"))
        for number in (1, 2, 10, 12, 15, 17):
            assert int(blocked.split()[1], 16) & 1 << (number - 1)


def sockets() -> set[int]:
    return {fd for fd in range(1024) if Path(f"/proc/self/fd/{fd}").is_socket()}


def test_sockets_are_not_inherited(relay: UserspaceRelay) -> None:
    before = sockets()
    open_free_pair(relay, "127.0.0.1", 0)
    new = sockets() - before
    assert len(new) == 2
    assert not any(os.get_inheritable(descriptor) for descriptor in new)


@pytest.mark.parametrize(("workers", "capacity"), [(0, 100), (65, 100), (1, 1), (1, 1 << 23)])
def test_impossible_sizes_are_refused(workers: int, capacity: int) -> None:
    with pytest.raises(RelayError):
        UserspaceRelay(workers, capacity)


def test_stop_closes_everything_and_may_be_repeated() -> None:
    before = descriptors()
    relay = UserspaceRelay(workers=3, capacity=16)
    threads = relay.worker_thread_ids()
    for group in range(3):
        open_free_pair(relay, "127.0.0.1", group)
    relay.stop()
    relay.stop()
    assert descriptors() == before
    assert not any(Path(f"/proc/self/task/{thread_id}").exists() for thread_id in threads)
