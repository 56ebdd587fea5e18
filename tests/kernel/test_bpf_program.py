"""What the eBPF programs do to a frame, by BPF_PROG_TEST_RUN: verdict, counters, headers and checksums.

Frames are built and checked with scapy. In a test run a frame arrives at ``lo``, whose Ethernet address is zero.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import median

import pytest
from _mediaproxy_offload import ffi, lib
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from mediaproxy.backends.flow_records import REMOVE, SET, FlowRecord
from mediaproxy.backends.helper.bpf import Program, ProgramRun
from mediaproxy.backends.tap import TapReader
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.net import Endpoint
from tests.support import bpf_bench, netlab
from tests.support.bpf_bench import GENERATION, SLOTS, BpfBench

pytestmark = pytest.mark.skipif(
    bpf_bench.why_not() is not None, reason=bpf_bench.why_not() or ""
)  # root and a kernel that takes eBPF

UP = 0xFFFFFFFF  # TC_ACT_UNSPEC: others' filters and the stack go on
PASSED, DROPPED, REDIRECTED = 0, 2, 7  # TC_ACT_OK, _SHOT, _REDIRECT

ETHERNET = Ether(dst="00:00:00:00:00:00", src="00:00:00:00:00:00")
LOCAL = {4: Endpoint("192.0.2.1", 4000), 6: Endpoint("2001:db8::1", 4000)}
SOURCE = {4: Endpoint("198.51.100.7", 5004), 6: Endpoint("2001:db8:1::7", 5004)}
SENDER = {4: Endpoint("192.0.2.9", 4010), 6: Endpoint("2001:db8::9", 4010)}
TARGET = {4: Endpoint("203.0.113.250", 61234), 6: Endpoint("2001:db8:ffff::fa", 61234)}
STRANGER = {4: Endpoint("198.51.100.8", 5004), 6: Endpoint("2001:db8:1::8", 5004)}
PAYLOAD = bytes(range(160))
FLOW = Flow(LOCAL[4], SOURCE[4], SENDER[4], TARGET[4])


def flow(family: int = 4, family_out: int | None = None, **changes: object) -> Flow:
    """A flow of one family, or from one to another."""
    out = family_out or family
    made = Flow(LOCAL[family], SOURCE[family], SENDER[out], TARGET[out])
    return replace(made, **changes)  # type: ignore[arg-type]  # keywords of Flow


def rtp(
    sequence: int = 1, *, payload_type: int = 0, timestamp: int = 160, ssrc: int = 0x1234, marker: int = 0
) -> bytes:
    """An RTP packet of 172 bytes."""
    head = bytes([0x80, marker << 7 | payload_type]) + sequence.to_bytes(2) + timestamp.to_bytes(4) + ssrc.to_bytes(4)
    return head + PAYLOAD


def frame(
    payload: bytes, family: int = 4, *, source: Endpoint | None = None, local: Endpoint | None = None, hops: int = 64
) -> Packet:
    """An Ethernet frame to the flow's local endpoint."""
    source, local = source or SOURCE[family], local or LOCAL[family]
    udp = UDP(sport=source.port, dport=local.port) / Raw(payload)
    if family == 4:
        return ETHERNET / IP(src=source.address, dst=local.address, ttl=hops, tos=0x03, id=77, flags="DF") / udp
    return ETHERNET / IPv6(src=source.address, dst=local.address, hlim=hops, tc=0x03, fl=0x54321) / udp


def right_checksums(layer: Packet) -> bool:
    """Whether scapy computes the same checksums for an IP packet."""
    fresh = layer.copy()
    for protocol in (IP, UDP):
        if protocol in fresh:
            del fresh[protocol].chksum
    return bytes(fresh) == bytes(layer)


def ip_layer(run: ProgramRun, family: int) -> Packet:
    """The IP packet in a frame; its Ethernet header is not looked at."""
    return (IP if family == 4 else IPv6)(run.frame[14:])


@pytest.fixture
def bench() -> Iterator[BpfBench]:
    with BpfBench() as loaded:
        yield loaded


def run(bench: BpfBench, packet: Packet | bytes, program: Program = Program.TC_ETHERNET) -> ProgramRun:
    return bench.run(program, bytes(packet))


@pytest.mark.parametrize("family_out", [4, 6])
@pytest.mark.parametrize("family", [4, 6])
def test_rtp_of_a_flow_leaves_with_the_flows_headers(bench: BpfBench, family: int, family_out: int) -> None:
    slot = bench.install(flow(family, family_out, tos=0xB9))
    done = run(bench, frame(rtp(), family))
    assert done.verdict == REDIRECTED
    packet = ip_layer(done, family_out)
    assert (packet.src, packet[UDP].sport) == (SENDER[family_out].address, 4010)
    assert (packet.dst, packet[UDP].dport) == (TARGET[family_out].address, 61234)
    assert bytes(packet[UDP].payload) == rtp()
    assert right_checksums(packet)
    if family_out == 4:
        assert (packet.tos, packet.ttl, packet.len, packet.frag) == (0xB9, 63, 200, 0)
        assert (packet.id, int(packet.flags)) == (77 if family == 4 else 0, 2)
    else:
        assert (packet.tc, packet.hlim, packet.plen) == (0xB9, 63, 180)
        assert packet.fl == (0x54321 if family == 6 else 0)
    assert bench.stats.counted(slot) == {"packets": 1, "bytes": 172}
    assert bench.stats[slot].last_seen_ns > 0


@pytest.mark.parametrize("family", [4, 6])
def test_packet_without_ethernet_header_is_rewritten_by_the_other_program(bench: BpfBench, family: int) -> None:
    # A test run always takes a frame; its first 14 bytes are cut off before the program of such a device sees it, so
    # what can be tested here is that the program for frames without such a header does not misread one with it.
    slot = bench.install(flow(family))
    assert run(bench, frame(rtp(), family), Program.TC_IP).verdict == UP
    assert bench.stats.counted(slot) == {}


@pytest.mark.parametrize("size", range(12, 180, 7))
def test_checksums_are_right_for_any_length(bench: BpfBench, size: int) -> None:
    bench.install(flow(4, 6))
    bench.install(flow(6, 4))
    for family, out in ((4, 6), (6, 4)):
        done = run(bench, frame(rtp()[:size], family))
        assert done.verdict == REDIRECTED
        assert right_checksums(ip_layer(done, out))


@pytest.mark.parametrize("family", [4, 6])
def test_wrong_checksum_stays_wrong(bench: BpfBench, family: int) -> None:
    bench.install(flow(family))
    packet = Ether(bytes(frame(rtp(), family)))
    packet[UDP].chksum ^= 0x0101
    done = run(bench, packet)
    assert done.verdict == REDIRECTED
    assert not right_checksums(ip_layer(done, family))


def test_wrong_header_checksum_stays_wrong(bench: BpfBench) -> None:
    bench.install(flow())
    packet = Ether(bytes(frame(rtp())))
    packet[IP].chksum ^= 0x0101
    after = ip_layer(run(bench, packet), 4)
    del packet
    stale = after.chksum
    del after.chksum
    assert IP(bytes(after)).chksum != stale


@dataclass(frozen=True, slots=True)
class Case:
    """A packet, and what becomes of it."""

    name: str
    packet: Packet
    verdict: int
    counted: dict[str, int]
    flow: Flow = FLOW
    mtu: int = 0
    local_peer: bool = False
    ifindex: int = 1


def without_udp_checksum(packet: Packet) -> Packet:
    packet[UDP].chksum = 0
    return packet


def ip4(**fields: object) -> Packet:
    """An IPv4 header with something special, and RTP."""
    udp = UDP(sport=5004, dport=4000) / Raw(rtp())
    return ETHERNET / IP(src=SOURCE[4].address, dst=LOCAL[4].address, **fields) / udp


def ip6(extension: Packet) -> Packet:
    """An IPv6 header with an extension header, and RTP."""
    udp = UDP(sport=5004, dport=4000) / Raw(rtp())
    return ETHERNET / IPv6(src=SOURCE[6].address, dst=LOCAL[6].address) / extension / udp


STUN = bytes.fromhex("000100002112a442") + bytes(12)
RTCP = bytes([0x80, 200]) + bytes(26)

CASES = [
    Case("STUN", frame(STUN), UP, {"up NOT_RTP": 1}),
    Case("a stranger's STUN", frame(STUN, source=STRANGER[4]), UP, {"up NOT_RTP": 1}),
    Case("DTLS", frame(bytes([22, 254, 253]) + bytes(40)), UP, {"up NOT_RTP": 1}),
    Case("ZRTP", frame(b"\x10\x00\x00\x01ZRTP" + bytes(20)), UP, {"up NOT_RTP": 1}),
    Case("keep-alive", frame(b"\r\n"), UP, {"up NOT_RTP": 1}),
    Case("empty datagram", frame(b""), UP, {"up NOT_RTP": 1}),
    Case("11 bytes of RTP", frame(rtp()[:11]), UP, {"up NOT_RTP": 1}),
    Case("RTP version 1", frame(b"\x40" + rtp()[1:]), UP, {"up NOT_RTP": 1}),
    Case("RTP version 3", frame(b"\xc0" + rtp()[1:]), UP, {"up NOT_RTP": 1}),
    Case("RTCP", frame(RTCP), UP, {"up RTCP": 1}),
    Case("the lowest RTCP type", frame(bytes([0x80, 192]) + bytes(26)), UP, {"up RTCP": 1}),
    Case("the highest RTCP type", frame(bytes([0x80, 223]) + bytes(26)), UP, {"up RTCP": 1}),
    Case("an empty receiver report", frame(bytes([0x80, 201, 0, 1]) + bytes(4)), UP, {"up RTCP": 1}),
    Case("marker below RTCP", frame(rtp(payload_type=63, marker=1)), REDIRECTED, {"packets": 1, "bytes": 172}),
    Case("marker above RTCP", frame(rtp(payload_type=96, marker=1)), REDIRECTED, {"packets": 1, "bytes": 172}),
    Case("a header only", frame(rtp()[:12]), REDIRECTED, {"packets": 1, "bytes": 12}),
    Case("UDPTL of an opaque flow", frame(b"\x00\x01\x02"), REDIRECTED, {"packets": 1, "bytes": 3}, flow(opaque=True)),
    Case("RTCP of an opaque flow", frame(RTCP), REDIRECTED, {"packets": 1, "bytes": 28}, flow(opaque=True)),
    Case("a stranger, learning", frame(rtp(), source=STRANGER[4]), UP, {"up SOURCE": 1}, flow(strict=False)),
    Case("the first stranger", frame(rtp(), source=STRANGER[4]), UP, {"up SOURCE": 1}),
    Case(
        "another port of the source",
        frame(rtp(), source=Endpoint(SOURCE[4].address, 5005)),
        UP,
        {"up SOURCE": 1},
    ),
    Case("anybody", frame(rtp(), source=STRANGER[4]), REDIRECTED, {"packets": 1, "bytes": 172}, flow(source=None)),
    Case("blocked", frame(rtp()), DROPPED, {"drop BLOCKED": 1}, flow(drop=True)),
    Case("RTCP of a blocked flow", frame(RTCP), UP, {"up RTCP": 1}, flow(drop=True)),
    Case("IPv4 options", ip4(options=[IPOption_Router_Alert()]), UP, {"up OPTIONS": 1}),
    Case("IPv6 options", ip6(IPv6ExtHdrDestOpt()), UP, {"up OPTIONS": 1}, flow(6)),
    Case("a stranger with options", ip4(options=[IPOption_Router_Alert()]), UP, {"up SOURCE": 1},
         flow(source=STRANGER[4])),
    Case("IPv4 first fragment", ip4(flags="MF"), UP, {"up FRAGMENT": 1}),
    Case("IPv4 later fragment", ip4(frag=10), UP, {}),
    Case("IPv6 first fragment", ip6(IPv6ExtHdrFragment(offset=0, m=1)), UP, {"up FRAGMENT": 1}, flow(6)),
    Case("IPv6 later fragment", ip6(IPv6ExtHdrFragment(offset=10, m=1)), UP, {}, flow(6)),
    Case("as long as the way out takes", frame(rtp()), REDIRECTED, {"packets": 1, "bytes": 172}, mtu=200),
    Case("too long", frame(rtp()), UP, {"up MTU": 1}, mtu=199),
    Case("too long as IPv6", frame(rtp()), UP, {"up MTU": 1}, flow(4, 6), mtu=219),
    Case("just right as IPv6", frame(rtp()), REDIRECTED, {"packets": 1, "bytes": 172}, flow(4, 6), mtu=220),
    Case("just right as IPv4", frame(rtp(), 6), REDIRECTED, {"packets": 1, "bytes": 172}, flow(6, 4), mtu=200),
    Case("this host, on lo", frame(rtp()), PASSED, {"packets": 1, "bytes": 172}, local_peer=True, ifindex=0),
    Case("this host, of the other family", frame(rtp()), UP, {"up LOCAL": 1}, flow(4, 6), local_peer=True),
    Case("no way out", frame(rtp()), UP, {"up FAILED": 1}, ifindex=0),
    Case("the last hop", frame(rtp(), hops=1), DROPPED, {"drop TTL": 1}),
    Case("no hop left", frame(rtp(), hops=0), DROPPED, {"drop TTL": 1}),
    Case("the last hop of IPv6", frame(rtp(), 6, hops=1), DROPPED, {"drop TTL": 1}, flow(6)),
    Case("two hops", frame(rtp(), hops=2), REDIRECTED, {"packets": 1, "bytes": 172}),
    Case("no UDP checksum", without_udp_checksum(frame(rtp())), REDIRECTED, {"packets": 1, "bytes": 172}),
    Case("no UDP checksum for IPv6", without_udp_checksum(frame(rtp())), UP, {"up FAILED": 1}, flow(4, 6)),
    Case("no UDP checksum in IPv6", without_udp_checksum(frame(rtp(), 6)), UP, {"up FAILED": 1}, flow(6)),
    Case("another port", frame(rtp(), local=Endpoint(LOCAL[4].address, 4001)), UP, {}),
    Case("another address", frame(rtp(), local=Endpoint("192.0.2.2", 4000)), UP, {}),
    Case("another host's", Ether(dst="02:00:00:00:00:01") / frame(rtp())[IP], UP, {}),
    Case("everybody's", Ether(dst="ff:ff:ff:ff:ff:ff") / frame(rtp())[IP], UP, {}),
    Case("a VLAN's", ETHERNET / Dot1Q(vlan=5) / frame(rtp())[IP], UP, {}),
    Case("TCP", ETHERNET / IP(src=SOURCE[4].address, dst=LOCAL[4].address) / TCP(sport=5004, dport=4000), UP, {}),
    Case("ICMP", ETHERNET / IP(src=SOURCE[4].address, dst=LOCAL[4].address) / ICMP(), UP, {}),
    Case("a UDP length beyond the packet", ETHERNET / IP(src=SOURCE[4].address, dst=LOCAL[4].address)
         / UDP(sport=5004, dport=4000, len=181) / Raw(rtp()), UP, {}),
    Case("a UDP length below its header", ETHERNET / IP(src=SOURCE[4].address, dst=LOCAL[4].address)
         / UDP(sport=5004, dport=4000, len=7) / Raw(rtp()), UP, {}),
    Case("an IP length beyond the frame", ip4(len=201), UP, {}),
    Case("an IP header of 16 bytes", ip4(ihl=4), UP, {}),
    Case("an IP version 5", ip4(version=5), UP, {}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packet_of_a_kind_meets_its_verdict(bench: BpfBench, case: Case) -> None:
    slot = bench.install(case.flow, mtu=case.mtu, local_peer=case.local_peer, ifindex=case.ifindex)
    before = bytes(case.packet)
    done = run(bench, case.packet)
    assert (done.verdict, bench.stats.counted(slot)) == (case.verdict, case.counted)
    if done.verdict == UP:
        assert done.frame == before


def test_missing_udp_checksum_stays_missing(bench: BpfBench) -> None:
    bench.install(flow())
    assert ip_layer(run(bench, without_udp_checksum(frame(rtp()))), 4)[UDP].chksum == 0


@pytest.mark.parametrize(("family", "family_out"), [(4, 4), (4, 6), (6, 6), (6, 4)])
def test_checksum_that_comes_to_zero_is_written_as_ones(bench: BpfBench, family: int, family_out: int) -> None:
    # RFC 768: "If the computed checksum is zero, it is transmitted as all ones". The payload is made so.
    bench.install(flow(family, family_out))
    first = ip_layer(run(bench, frame(rtp(), family)), family_out)
    payload = bytearray(rtp())
    # Add what is missing to the sum into a 16-bit word of the payload that is 0.
    payload[12:14] = b"\0\0"
    first = ip_layer(run(bench, frame(bytes(payload), family)), family_out)
    payload[12:14] = first[UDP].chksum.to_bytes(2)
    done = run(bench, frame(bytes(payload), family))
    assert ip_layer(done, family_out)[UDP].chksum == 0xFFFF


def test_padding_of_a_short_frame_is_cut(bench: BpfBench) -> None:
    bench.install(flow())
    done = run(bench, bytes(frame(rtp()[:12])) + b"padpad")
    assert done.verdict == REDIRECTED
    assert len(done.frame) == 14 + 20 + 8 + 12


def test_strangers_are_dropped_but_for_a_sample_per_quarter_of_a_second(bench: BpfBench) -> None:
    slot = bench.install(flow())
    verdicts = [run(bench, frame(rtp(), source=STRANGER[4])).verdict for _ in range(20)]
    assert verdicts[0] == UP
    counted = bench.stats.counted(slot)
    assert counted["up SOURCE"] + counted["drop WRONG_SOURCE"] == 20
    assert counted["up SOURCE"] == verdicts.count(UP) < 20
    bench.stats[slot].stranger_ns -= 250_000_000  # as if that time had passed
    assert run(bench, frame(rtp(), source=STRANGER[4])).verdict == UP
    assert run(bench, frame(rtp(), source=STRANGER[4])).verdict == DROPPED


def test_stranger_is_no_sign_of_life(bench: BpfBench) -> None:
    slot = bench.install(flow())
    run(bench, frame(rtp(), source=STRANGER[4]))
    assert bench.stats[slot].last_seen_ns == 0


def test_flow_whose_slot_has_passed_on_counts_nothing_and_takes_nothing(bench: BpfBench) -> None:
    slot = bench.install(flow())
    bench.stats.seed(slot, GENERATION + 1)
    assert run(bench, frame(rtp())).verdict == UP
    assert bench.stats.counted(slot) == {}


def test_removal_takes_only_the_flow_that_is_meant(bench: BpfBench) -> None:
    slot = bench.install(flow())
    others = [Slot(slot, GENERATION + 1), Slot(slot + 1, GENERATION)]
    for other in others:
        assert bench.apply([FlowRecord(REMOVE, InstalledFlow(flow(), other))]) == [0]
        assert run(bench, frame(rtp())).verdict == REDIRECTED
    mine = InstalledFlow(flow(), Slot(slot, GENERATION))
    assert bench.apply([FlowRecord(REMOVE, mine), FlowRecord(REMOVE, mine)]) == [0, 0]
    assert run(bench, frame(rtp())).verdict == UP


def test_change_with_a_value_out_of_range_is_refused_and_leaves_nothing(bench: BpfBench) -> None:
    bench.install(flow())
    bad = InstalledFlow(flow(), Slot(SLOTS, GENERATION))
    assert bench.apply([FlowRecord(SET, bad)]) == [-22]
    assert run(bench, frame(rtp())).verdict == UP
    assert bench.apply([FlowRecord(SET, InstalledFlow(flow(), Slot(0, 0)))]) == [-22]
    assert bench.apply([FlowRecord(7, InstalledFlow(flow(), Slot(0, 1)))]) == [-22]


def numbered(number: int) -> InstalledFlow:
    local = Endpoint("192.0.2.1", 10000 + 2 * number)
    return InstalledFlow(replace(flow(), local=local), Slot(number % SLOTS, GENERATION))


def test_full_map_refuses_by_name_and_keeps_what_it_has(bench: BpfBench) -> None:
    results = bench.apply([FlowRecord(SET, numbered(number), 1) for number in range(SLOTS + 20)])
    assert results == [0] * SLOTS + [-28] * 20
    # Replacing goes on in a full map; what could not be set is set after a removal, in one go.
    changes = [FlowRecord(SET, numbered(0), 1), FlowRecord(REMOVE, numbered(1)), FlowRecord(SET, numbered(SLOTS), 1)]
    assert bench.apply(changes) == [0, 0, 0]


def test_changes_are_carried_out_in_their_order(bench: BpfBench) -> None:
    one = numbered(1)
    other = InstalledFlow(replace(one.flow, tos=8), Slot(2, GENERATION))
    many = [FlowRecord(SET, numbered(number), 1) for number in range(20)]
    removals = [FlowRecord(REMOVE, numbered(number)) for number in range(20)]
    changes = [*many, *removals, *removals, FlowRecord(SET, one, 1), FlowRecord(SET, other, 1)]
    assert bench.apply(changes) == [0] * len(changes)
    assert bench.apply([FlowRecord(REMOVE, one)]) == [0]  # another one stands there
    bench.stats.seed(2)
    assert run(bench, frame(rtp(), local=one.flow.local)).verdict == REDIRECTED


def sequence_statistics(bench: BpfBench, slot: int) -> dict[str, int]:
    entry = bench.stats[slot].ssrcs[0]
    names = ("packets", "extended_sequence", "lost", "duplicates", "reordered")
    return {name: getattr(entry, name) for name in names}


# The same rules and figures as those of the sockets (tests/kernel_offload/test_rtp_stats.c), RFC 3550, A.1 and A.3.
SEQUENCES: list[tuple[str, Sequence[int], tuple[int, int, int, int, int]]] = [
    ("in order", range(100, 110), (10, 109, 0, 0, 0)),
    ("loss", [100, 101, 105, 106], (4, 106, 3, 0, 0)),
    ("reordered", [100, 102, 101, 103], (4, 103, 0, 0, 1)),
    ("duplicates", [100, 101, 101, 100, 102], (5, 102, 0, 2, 0)),
    ("before the first", [100, 99, 101], (3, 101, 0, 0, 1)),
    ("wrap", [65534, 65535, 0, 1], (4, 65537, 0, 0, 0)),
    ("late over the wrap", [65534, 0, 65535, 1], (4, 65537, 0, 0, 1)),
    ("one far off", [100, 20000, 101, 102], (4, 102, 0, 0, 0)),
    ("restart", [100, 101, 30000, 30001, 30002], (5, 30002, 0, 0, 0)),
    ("far behind in the window", [*range(100, 199), 200, 101, 199], (102, 200, 0, 1, 1)),
]


@pytest.mark.parametrize(("name", "numbers", "expected"), SEQUENCES, ids=[entry[0] for entry in SEQUENCES])
def test_sequence_numbers_are_counted_as_the_sockets_do(
    bench: BpfBench, name: str, numbers: Sequence[int], expected: tuple[int, ...]
) -> None:
    slot = bench.install(flow())
    for number in numbers:
        assert run(bench, frame(rtp(number, timestamp=160 * number))).verdict == REDIRECTED
    found = sequence_statistics(bench, slot)
    assert tuple(found.values()) == expected
    assert bench.stats[slot].packets == len(numbers)


def shaken(chance: Random, count: int, many: bool) -> list[tuple[int, int]]:
    """Sequence numbers and SSRCs as a bad network delivers them: lost, doubled, late, restarted, wrapped."""
    number, ssrc, sent = chance.randrange(1 << 16), 1, []
    for _ in range(count):
        number += 1 if chance.random() < 0.9 else chance.choice([2, 5, 40, 2999, 3000, 20000])
        ssrc = ssrc if chance.random() < 0.98 else chance.choice([1, 2, 3] if many else [1, 2])
        sent += [(number & 0xFFFF, ssrc)] * (2 if chance.random() < 0.05 else 1)
    for index in range(len(sent)):
        if chance.random() < 0.1:
            other = min(len(sent) - 1, index + chance.choice([1, 2, 9, 70, 120]))
            sent[index], sent[other] = sent[other], sent[index]
    return sent


@pytest.mark.parametrize("seed", range(10))
def test_statistics_are_those_that_the_sockets_would_have(bench: BpfBench, seed: int) -> None:
    slot = bench.install(flow())
    state = ffi.new("struct mpo_rtp_state *")
    packets = shaken(Random(seed), 400, seed % 5 == 4)
    for number, (sequence, ssrc) in enumerate(packets):
        packet = rtp(sequence, timestamp=160 * sequence, ssrc=ssrc, payload_type=number % 2 * 8)
        run(bench, frame(packet))
        lib.mpo_rtp_state_count(state, packet, len(packet), number + 1)
    in_kernel = {entry.ssrc: entry for entry in bench.stats[slot].ssrcs}
    in_sockets = {entry.ssrc: entry for entry in state.ssrcs}
    # The kernel remembers fewer SSRCs: one that was given up and came back began anew.
    last = packets[-1][1]
    if len({ssrc for _, ssrc in packets}) <= len(in_kernel):
        for name in ("packets", "bytes", "last_timestamp", "extended_sequence", "lost", "duplicates", "reordered"):
            assert getattr(in_kernel[last], name) == getattr(in_sockets[last], name), name
    assert in_kernel[last].payload_type == in_sockets[last].payload_type
    assert bench.stats[slot].packets == len(packets)


def test_several_ssrcs_have_entries_and_the_oldest_makes_room(bench: BpfBench) -> None:
    slot = bench.install(flow())
    for ssrc in (0xA, 0xB, 0xA, 0xC):
        run(bench, frame(rtp(ssrc=ssrc)))
    assert [entry.ssrc for entry in bench.stats[slot].ssrcs] == [0xA, 0xC]
    assert bench.stats[slot].packets == 4


@pytest.mark.parametrize(
    ("payload_type", "rates", "clock"),
    [(0, (), 8000), (9, (), 8000), (13, (), 0), (96, ((96, 48000),), 48000), (97, ((96, 48000),), 0),
     (101, tuple((94 + number, 1000 * number) for number in range(1, 9)), 7000), (0, ((0, 16000),), 16000)],
)  # fmt: skip
def test_jitter_has_the_clock_of_the_payload_type(
    bench: BpfBench, payload_type: int, rates: tuple[tuple[int, int], ...], clock: int
) -> None:
    slot = bench.install(flow(clock_rates=rates))
    # 1 s of timestamps within microseconds.
    for number in range(2):
        run(bench, frame(rtp(number, payload_type=payload_type, timestamp=clock * number)))
    jitter = bench.stats[slot].ssrcs[0].jitter_q4
    assert bench.stats[slot].sources[0].clock_rate == clock
    assert clock * 0.5 <= jitter <= clock


def test_opaque_flow_has_no_rtp_statistics(bench: BpfBench) -> None:
    slot = bench.install(flow(opaque=True))
    run(bench, frame(rtp()))
    assert bench.stats[slot].ssrcs[0].packets == 0


def test_replaced_flow_goes_on_counting(bench: BpfBench) -> None:
    slot = bench.install(flow())
    run(bench, frame(rtp(1)))
    bench.replace(slot, flow(4, 6))
    run(bench, frame(rtp(2)))
    assert sequence_statistics(bench, slot)["packets"] == 2


def test_tap_copies_packets_as_they_came(bench: BpfBench) -> None:
    reader = TapReader(bench.tap_fd)
    slot = bench.install(flow(tap=True))
    long = frame(rtp() + bytes(1200))
    huge = frame(rtp() + bytes(3000))
    for packet in (frame(rtp()), long, huge):
        assert run(bench, packet).verdict == REDIRECTED
    run(bench, frame(RTCP))
    taken = list(reader.take())
    assert [(tapped.packet, tapped.length) for tapped in taken] == [
        (bytes(frame(rtp())[IP]), 200),
        (bytes(long[IP]), 1400),
        (bytes(huge[IP])[:2048], 3200),
    ]
    assert taken[0].local == LOCAL[4]
    assert taken[0].slot == Slot(slot, GENERATION)
    assert taken[0].ifindex == 1
    assert taken[0].when * 1e9 == pytest.approx(bench.stats[slot].last_seen_ns, rel=1e-3)
    assert list(reader.take()) == []
    reader.close()
    assert list(reader.take()) == []


def test_full_tap_loses_copies_and_no_packets(bench: BpfBench) -> None:
    reader = TapReader(bench.tap_fd)
    slot = bench.install(flow(tap=True))
    for number in range(1000):
        assert run(bench, frame(rtp(number))).verdict == REDIRECTED
    copies = len(list(reader.take()))
    assert 100 < copies < 1000
    assert bench.stats[slot].packets == 1000
    run(bench, frame(rtp(1001)))
    assert len(list(reader.take())) == 1
    reader.close()


@pytest.mark.parametrize("family", [4, 6])
def test_own_cost_of_the_program_is_printed(bench: BpfBench, family: int) -> None:
    """No assertion on time: a busy machine is no bug. `pytest -rP` shows the figure."""
    turning = Flow(LOCAL[family], SOURCE[family], SOURCE[family], LOCAL[family])  # a frame is its own next one
    slot = bench.install(turning)
    packet = bytes(frame(rtp(), family, hops=255))
    runs = [bench.run(Program.TC_ETHERNET, packet, repeat=250).nanoseconds for _ in range(100)]
    assert bench.stats[slot].packets == 25_000
    print(f"tc, IPv{family}, RTP statistics: median {median(runs)} ns a packet, least {min(runs)} ns")


# ---- XDP ----

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
GATEWAY_MAC = {4: "02:00:00:00:00:04", 6: "02:00:00:00:00:06"}


@pytest.fixture
def routed() -> Iterator[tuple[BpfBench, netlab.Namespace, int]]:
    """A host with a route and neighbours for all targets, and the index of the device that leads there."""
    with netlab.NetLab("xdp") as lab, BpfBench(xdp=True) as loaded:
        host, peer = lab.namespace("p"), lab.namespace("b")
        lab.cable(host, "out", peer, "in")
        lab.address(host, "out", "203.0.113.1/24", "2001:db8:ffff::1/64")
        host.sysctl(ipv4__conf__all__forwarding=1, ipv6__conf__all__forwarding=1)
        for family in (4, 6):
            host.ip("neigh", "add", TARGET[family].address, "lladdr", GATEWAY_MAC[family], "dev", "out",
                    "nud", "permanent")  # fmt: skip
        yield loaded, host, host.call(lambda: socket.if_nametoindex("out"))


def run_xdp(routed: tuple[BpfBench, netlab.Namespace, int], packet: Packet | bytes) -> ProgramRun:
    loaded, host, _ = routed
    return host.call(lambda: loaded.run(Program.XDP, bytes(packet)))


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("family_out", [4, 6])
@pytest.mark.parametrize("family", [4, 6])
def test_xdp_sends_rtp_to_the_next_hop(
    routed: tuple[BpfBench, netlab.Namespace, int], family: int, family_out: int, tags: int
) -> None:
    loaded, _, index = routed
    slot = loaded.install(flow(family, family_out, tos=0xB9), ifindex=index)
    packet = frame(rtp(), family)
    network = packet.payload
    arriving = ETHERNET
    for number in range(tags):
        arriving = arriving / Dot1Q(vlan=number + 1)
    done = run_xdp(routed, arriving / network)
    assert done.verdict == XDP_REDIRECT
    ethernet = Ether(done.frame)
    assert (ethernet.dst, ethernet.type) == (GATEWAY_MAC[family_out], 0x800 if family_out == 4 else 0x86DD)
    packet = ip_layer(done, family_out)
    assert (packet.src, packet[UDP].sport) == (SENDER[family_out].address, 4010)
    assert (packet.dst, packet[UDP].dport) == (TARGET[family_out].address, 61234)
    assert bytes(packet[UDP].payload) == rtp()
    assert right_checksums(packet)
    assert (packet.tos if family_out == 4 else packet.tc) == 0xB9
    assert loaded.stats.counted(slot) == {"packets": 1, "bytes": 172}
    assert loaded.stats[slot].ssrcs[0].packets == 1


def test_xdp_leaves_what_has_no_ready_neighbour_to_the_stack(
    routed: tuple[BpfBench, netlab.Namespace, int],
) -> None:
    loaded, _, index = routed
    slot = loaded.install(flow(target=Endpoint("203.0.113.77", 61234)), ifindex=index)
    packet = frame(rtp())
    done = run_xdp(routed, packet)
    assert (done.verdict, done.frame) == (XDP_PASS, bytes(packet))
    assert loaded.stats.counted(slot) == {"up FAILED": 1}


@pytest.mark.parametrize("family", [4, 6])
def test_xdp_leaves_a_checksum_that_is_not_written_yet_to_the_stack(
    routed: tuple[BpfBench, netlab.Namespace, int], family: int
) -> None:
    loaded, _, index = routed
    slot = loaded.install(flow(family), ifindex=index)
    packet = frame(rtp(), family)
    pseudo_header = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, SOURCE[family].address)
    pseudo_header += socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, LOCAL[family].address)
    pseudo_header += struct.pack("!HH", socket.IPPROTO_UDP, 8 + len(rtp()))
    packet[UDP].chksum = ~checksum(pseudo_header) & 0xFFFF  # what Linux leaves to the card
    done = run_xdp(routed, packet)
    assert (done.verdict, done.frame) == (XDP_PASS, bytes(packet))
    assert loaded.stats.counted(slot) == {"up FAILED": 1}


_XDP_VERDICTS = {UP: XDP_PASS, DROPPED: XDP_DROP, REDIRECTED: XDP_REDIRECT, PASSED: XDP_PASS}
_XDP_CASES = [case for case in CASES if case.name not in ("a VLAN's", "another host's")]  # XDP knows neither


@pytest.mark.parametrize("case", _XDP_CASES, ids=lambda case: case.name)
def test_xdp_treats_a_packet_as_tc_does(routed: tuple[BpfBench, netlab.Namespace, int], case: Case) -> None:
    loaded, _, index = routed
    ifindex = index if case.ifindex else 0
    slot = loaded.install(case.flow, mtu=case.mtu, local_peer=case.local_peer, ifindex=ifindex)
    done = run_xdp(routed, case.packet)
    assert (done.verdict, loaded.stats.counted(slot)) == (_XDP_VERDICTS[case.verdict], case.counted)


def test_xdp_taps_what_came(routed: tuple[BpfBench, netlab.Namespace, int]) -> None:
    loaded, _, index = routed
    reader = TapReader(loaded.tap_fd)
    loaded.install(flow(tap=True), ifindex=index)
    assert run_xdp(routed, frame(rtp())).verdict == XDP_REDIRECT
    assert [tapped.packet for tapped in reader.take()] == [bytes(frame(rtp())[IP])]
    reader.close()


def test_descriptors_are_not_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with BpfBench() as loaded:
            loaded.install(flow())
    assert len(os.listdir("/proc/self/fd")) == before
