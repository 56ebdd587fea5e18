"""The nft backend on real devices: what it forwards, what it leaves to the sockets, and what others do to its table."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest
from scapy.layers.inet import IP, UDP, IPOption
from scapy.layers.l2 import Ether

from mediaproxy.backends.flow_records import CHANGE, REMOVE, SET, FlowRecord, pack_record, results, unpack_changes
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, NftForm
from mediaproxy.backends.nft import open_nft
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEventKind, FlowCounters
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from tests.support.kernel_lab import (
    apply,
    ifindex,
    links,
    nothing_waits,
    receive,
    remove_flow,
    rtp,
    set_flow,
    set_offload,
)
from tests.support.netlab import Namespace, NetLab, NetLabError, why_not
from tests.support.processes import wait_until

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

ADDRESSES: Final = {
    4: ("10.1.0.2", "10.1.0.1", "10.2.0.1", "10.2.0.2"),
    6: ("fd01::2", "fd01::1", "fd02::1", "fd02::2"),
}
"""Agent A, the relay towards A, the relay towards B, agent B."""
TABLE: Final = "mediaproxy_test"
EF: Final = 0xB8
HEADERS: Final = {4: 28, 6: 48}
SLOTS: Final = 65536
MANY: Final = 20000
RECEIVE_TOS_AND_TTL: Final = {4: (socket.IPPROTO_IP, 13, 12), 6: (socket.IPPROTO_IPV6, 66, 51)}
"""IP_RECVTOS, IP_RECVTTL; IPV6_RECVTCLASS, IPV6_RECVHOPLIMIT (linux/in.h, linux/in6.h)."""
SO_RCVBUFFORCE: Final = 33
SO_NO_CHECK: Final = 11
ETH_P_IP: Final = 0x0800
FIRST: Final = Slot(5, 7)
RTCP: Final = bytes([0x80, 200]) + bytes(50)
STUN: Final = bytes.fromhex("000100002112a442") + bytes(12)
COUNTED_TOO_LATE: Final = 10
"""Of 500 replacements at 20 000 packets a second; 1 is usual. What another processor is at when its element goes is
counted when nobody looks any more: see ``mpo_nft_apply.c``."""
GROWTH_ROUNDS: Final = round(120 * max(1 / 3, float(os.environ.get("SOAK_SCALE", "0"))))
"""Each installs and removes 500 flows: 60 000 in all with SOAK_SCALE=1, else a third of them."""

SENDER: Final = """
import signal, socket, sys, time
source, port, target, target_port, rate, limit = sys.argv[1:]
udp = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((source, int(port)))
udp.connect((target, int(target_port)))
packet = bytes([0x80]) + bytes(171)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
begin = time.monotonic()
sent = 0
while not stopped and sent < int(limit):
    while sent < (time.monotonic() - begin) * int(rate) and not stopped:
        udp.send(packet)
        sent += 1
    time.sleep(0.0005)
print(sent)
"""
"""Sends until it is told to stop, then says how many."""


@dataclass
class Bed:
    """A - P - B, with a backend in P and the relay's sockets bound."""

    lab: NetLab
    a: Namespace
    p: Namespace
    b: Namespace
    form: NftForm
    owner: bool = False
    backend: KernelBackend = field(init=False)
    _sockets: list[socket.socket] = field(default_factory=list)

    def open(self, slots: int = SLOTS) -> KernelBackend:
        """A backend for the table, hooked to all devices."""
        settings = BackendSettings("test", None, slots, self.form, self.owner)
        self.backend = self.p.call(lambda: open_nft(settings))
        self.backend.attach(links(self.p))
        return self.backend

    def udp(self, namespace: Namespace, address: str, port: int = 0) -> socket.socket:
        """A socket that is closed with the bed."""
        udp = namespace.udp_socket(address, port)
        self._sockets.append(udp)
        return udp

    def close(self) -> None:
        for udp in self._sockets:
            udp.close()
        self.backend.leave()

    def ruleset(self) -> str:
        return self.p.run("nft", "list", "ruleset")

    def counters(self, slot: Slot) -> FlowCounters:
        """After the backend has asked the kernel."""
        self.backend.check()
        return self.counters_as_they_are(slot)

    def counters_as_they_are(self, slot: Slot) -> FlowCounters:
        with FlowStatsMemory(self.backend.stats_fd, self.backend.slots) as stats:
            return stats.read(slot)


@dataclass
class Stream:
    """RTP from A through the relay to B, as the kernel is to forward it."""

    bed: Bed
    family: int
    slot: Slot = FIRST
    a: socket.socket = field(init=False)
    b: socket.socket = field(init=False)
    relay: socket.socket = field(init=False)
    flow: Flow = field(init=False)

    def __post_init__(self) -> None:
        ours = ADDRESSES[self.family]
        self.a = self.bed.udp(self.bed.a, ours[0])
        self.relay = self.bed.udp(self.bed.p, ours[1])
        self.b = self.bed.udp(self.bed.b, ours[3])
        self.flow = Flow(
            local=endpoint(self.relay),
            source=endpoint(self.a),
            sender=Endpoint(ours[2], 30002),
            target=endpoint(self.b),
            tos=EF,
        )

    @property
    def way_out(self) -> int:
        return ifindex(self.bed.p, "p1")

    def install(self, **changes: object) -> int:
        self.flow = replace(self.flow, **changes)  # type: ignore[arg-type]
        return set_flow(self.bed.backend, self.flow, self.slot, way_out=self.way_out)

    def send(self, packet: bytes) -> None:
        self.a.sendto(packet, (self.flow.local.address, self.flow.local.port))

    def passes(self, packet: bytes) -> bool:
        """Whether it arrives at B from our other endpoint, with the relay's socket hearing nothing."""
        self.send(packet)
        expected = (packet, (self.flow.sender.address, self.flow.sender.port))
        return receive(self.b) == expected and nothing_waits(self.relay)

    def goes_up(self, packet: bytes) -> bool:
        """Whether it arrives at the relay's socket, with B hearing nothing."""
        self.send(packet)
        got = receive(self.relay)
        return got is not None and got[0] == packet and nothing_waits(self.b)


def endpoint(udp: socket.socket) -> Endpoint:
    name = udp.getsockname()
    return Endpoint(name[0], name[1])


def installed(backend: KernelBackend) -> list[FlowRecord]:
    return list(unpack_changes(backend.dump()))


@pytest.fixture(params=list(NftForm), ids=lambda form: form.value)
def form(request: pytest.FixtureRequest) -> NftForm:
    return request.param


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> int:
    return request.param


def build(lab: NetLab, form: NftForm) -> Bed:
    a, p, b = (lab.namespace(role) for role in "apb")
    lab.cable(a, "a0", p, "p0")
    lab.cable(b, "b0", p, "p1")
    for address in ADDRESSES.values():
        bits = 24 if "." in address[0] else 64
        for namespace, device, own in ((a, "a0", 0), (p, "p0", 1), (p, "p1", 2), (b, "b0", 3)):
            lab.address(namespace, device, f"{address[own]}/{bits}")
    return Bed(lab, a, p, b, form)


@pytest.fixture
def bare(form: NftForm) -> Iterator[Bed]:
    """Not opened yet."""
    with NetLab("nft") as lab:
        bed = build(lab, form)
        yield bed
        bed.close()


@pytest.fixture
def bed(bare: Bed) -> Bed:
    bare.open()
    return bare


@pytest.fixture
def stream(bed: Bed, family: int) -> Stream:
    stream = Stream(bed, family)
    assert stream.install() == 0
    return stream


# ---- what is forwarded ----


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no offload"])
def test_rtp_is_forwarded_with_right_checksums(stream: Stream, offload: bool) -> None:
    set_offload(stream.bed.a, "a0", tx_checksum=offload)
    assert all(stream.passes(rtp(number)) for number in range(5))


def test_a_missing_udp_checksum_stays_missing(bed: Bed) -> None:
    """RFC 768: 0 says that there is none; a gateway that saves the work is no rarity."""
    stream = Stream(bed, 4)
    set_offload(bed.a, "a0", tx_checksum=False)
    stream.a.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    sniffer = bed.b.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP)))
    with sniffer:
        sniffer.bind(("b0", ETH_P_IP))
        for source in (endpoint(stream.a), None):
            assert stream.install(source=source) == 0
            assert stream.passes(rtp(1))
            assert Ether(sniffer.recv(2048))[UDP].chksum == 0
    stream.a.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
    assert stream.passes(rtp(2))


def test_what_is_no_rtp_goes_up(stream: Stream) -> None:
    for packet in (RTCP, STUN, b"\x16\xfe\xff" + bytes(60), b"", b"\x80\x00", b"\r\n", b"\x80\x00" + bytes(9)):
        assert stream.goes_up(packet), packet
    marked = bytearray(rtp(1))
    marked[1] = 0x80 | 101
    assert stream.passes(bytes(marked))


def test_strangers_go_up_unless_anybody_is_welcome(stream: Stream) -> None:
    stranger = stream.bed.udp(stream.bed.a, ADDRESSES[stream.family][0])
    known, stream.a = stream.a, stranger
    assert stream.goes_up(rtp(1))
    assert stream.install(source=None) == 0
    assert stream.passes(rtp(2))
    stream.a = known
    assert stream.passes(rtp(3))
    assert stream.install(source=endpoint(known)) == 0
    stream.a = stranger
    assert stream.goes_up(rtp(4))


def test_dscp_and_time_to_live_are_those_of_a_router(stream: Stream) -> None:
    protocol, *options = RECEIVE_TOS_AND_TTL[stream.family]
    for option in options:
        stream.b.setsockopt(protocol, option, 1)
    for tos in (EF, 0, 0x28):
        assert stream.install(tos=tos) == 0
        stream.send(rtp(tos))
        stream.b.settimeout(2)
        data, ancillary, _, _ = stream.b.recvmsg(2048, 256)
        assert data == rtp(tos)
        values = [int.from_bytes(value, sys.byteorder) for _, _, value in ancillary]  # one byte, or an int
        assert sorted(values) == sorted([tos, 63])


def test_a_used_up_time_to_live_ends_the_packet(stream: Stream) -> None:
    protocol, option = (
        (socket.IPPROTO_IP, socket.IP_TTL) if stream.family == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    )
    stream.a.setsockopt(protocol, option, 1)
    stream.send(rtp(1))
    wait_until(lambda: "counter packets 1 " in stream.bed.ruleset(), 5, "the drop is counted")
    assert nothing_waits(stream.b, stream.relay)
    stream.a.setsockopt(protocol, option, 2)
    assert stream.passes(rtp(2))


def test_fragments_and_ip_options_go_up(bed: Bed) -> None:
    stream = Stream(bed, 4)
    assert stream.install() == 0
    assert stream.goes_up(rtp(1, 3000))
    ours = ADDRESSES[4]
    mac = re.findall(r"link/ether (\S+)", bed.p.ip("link", "show", "p0"))[0]
    odd = Ether(dst=mac) / IP(src=ours[0], dst=ours[1], options=[IPOption(b"\x01\x01\x01\x00")])
    odd /= UDP(sport=stream.flow.source.port if stream.flow.source else 0, dport=stream.flow.local.port) / rtp(2)
    raw = bed.a.call(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
    with raw:
        raw.bind(("a0", 0))
        raw.send(bytes(odd))
    got = receive(stream.relay)
    assert got is not None
    assert got[0] == rtp(2)
    assert nothing_waits(stream.b)


def test_ipv6_fragments_go_up(bed: Bed) -> None:
    stream = Stream(bed, 6)
    assert stream.install() == 0
    assert stream.goes_up(rtp(1, 3000))


def test_both_agents_behind_one_device(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    ours = ADDRESSES[family]
    other = bed.udp(bed.a, ours[0])
    stream.flow = replace(stream.flow, sender=Endpoint(ours[1], 30004), target=endpoint(other))
    assert set_flow(bed.backend, stream.flow, stream.slot, way_out=ifindex(bed.p, "p0")) == 0
    stream.b = other
    assert stream.passes(rtp(1))


def test_a_gateway_is_used(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    far, gateway = (("10.9.0.9", "10.2.0.2"), ("fd09::9", "fd02::2"))[family == 6]
    bed.lab.address(bed.b, "lo", f"{far}/{32 if family == 4 else 128}")
    bed.p.ip("-4" if family == 4 else "-6", "route", "add", far, "via", gateway)
    bed.b.ip("-4" if family == 4 else "-6", "route", "replace", ADDRESSES[family][2], "dev", "b0")
    stream.b = bed.udp(bed.b, far)
    assert stream.install(target=endpoint(stream.b)) == 0
    assert stream.passes(rtp(1))


def test_both_agents_on_this_host(bed: Bed, family: int) -> None:
    loop = "127.0.0.1" if family == 4 else "::1"
    a, b, relay = (bed.udp(bed.p, loop) for _ in range(3))
    out = bed.udp(bed.p, loop)
    flow = Flow(endpoint(relay), endpoint(a), endpoint(out), endpoint(b))
    assert set_flow(bed.backend, flow, Slot(3, 1), local_peer=True) == 0
    a.sendto(rtp(1), relay.getsockname())
    got = receive(b)
    assert got is not None
    assert got == (rtp(1), out.getsockname()[:2])
    assert nothing_waits(relay)
    assert bed.counters(Slot(3, 1)).packets == 1
    if family == 4:
        a.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        a.sendto(rtp(2), relay.getsockname())
        assert receive(b) == (rtp(2), out.getsockname()[:2])


def test_an_agent_here_and_one_elsewhere(bed: Bed, family: int) -> None:
    """Left to the socket both ways, and not counted."""
    ours = ADDRESSES[family]
    here = bed.udp(bed.p, ours[1])
    outward = Stream(bed, family)
    outward.a = here
    assert outward.install(source=endpoint(here)) == 0
    assert outward.goes_up(rtp(1))
    inward = Stream(bed, family, Slot(6, 1))
    inward.flow = replace(inward.flow, target=endpoint(here))
    assert set_flow(bed.backend, inward.flow, inward.slot, local_peer=True) == 0
    inward.send(rtp(2))
    assert receive(inward.relay) is not None
    assert nothing_waits(here)
    assert bed.counters(inward.slot).packets == 0
    assert bed.counters(outward.slot).packets == 0


def test_what_is_too_long_for_the_way_out_goes_up(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    assert stream.install() == 0
    assert stream.passes(rtp(1, 1400))
    bed.p.ip("link", "set", "p1", "mtu", "1300")
    bed.backend.attach(links(bed.p))
    assert stream.goes_up(rtp(2, 1400))
    assert stream.passes(rtp(3, 1200))


def test_one_flow_with_a_shorter_way_is_regarded(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    assert set_flow(bed.backend, stream.flow, stream.slot, way_out=stream.way_out, mtu=1300) == 0
    assert stream.goes_up(rtp(1, 1400))
    assert stream.passes(rtp(2, 1200))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"opaque": True}, errno.EOPNOTSUPP),
        ({"tap": True}, errno.EOPNOTSUPP),
        ({"drop": True}, errno.EOPNOTSUPP),
        ({"target": Endpoint("fd02::2", 4000)}, errno.EAFNOSUPPORT),
        ({"sender": Endpoint("fd02::1", 4000)}, errno.EAFNOSUPPORT),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else errno.errorcode[value],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(bed: Bed, change: dict[str, object], expected: int) -> None:
    stream = Stream(bed, 4)
    assert stream.install() == 0
    assert stream.install(**change) == -expected
    assert installed(bed.backend) == []
    assert stream.goes_up(rtp(1))


def test_a_full_table_is_named_and_the_others_stay(bare: Bed) -> None:
    bare.open(slots=4)
    way_out = ifindex(bare.p, "p1")
    records = [
        FlowRecord(SET, InstalledFlow(numbered_flow(number), Slot(number, 1)), way_out, 1500) for number in range(6)
    ]
    assert apply(bare.backend, records) == [0, 0, 0, 0, -errno.EINVAL, -errno.EINVAL]
    twice = FlowRecord(SET, InstalledFlow(numbered_flow(9), Slot(2, 5)), way_out, 1500)
    assert apply(bare.backend, [twice]) == [-errno.ENOSPC]
    assert {record.installed.slot.index for record in installed(bare.backend)} == {0, 1, 2, 3}


def test_a_late_removal_does_not_hit_the_flow_that_followed(stream: Stream) -> None:
    assert remove_flow(stream.bed.backend, stream.flow, Slot(stream.slot.index, 1)) == 0
    assert stream.passes(rtp(1))
    assert remove_flow(stream.bed.backend, stream.flow, stream.slot) == 0
    assert remove_flow(stream.bed.backend, stream.flow, stream.slot) == 0
    assert stream.goes_up(rtp(2))


def test_removal_and_set_of_one_key_in_one_call(stream: Stream) -> None:
    again = Slot(9, 2)
    records = [
        FlowRecord(REMOVE, InstalledFlow(stream.flow, stream.slot)),
        FlowRecord(SET, InstalledFlow(stream.flow, again), stream.way_out, 1500),
    ]
    assert apply(stream.bed.backend, records) == [0, 0]
    assert stream.passes(rtp(1))
    assert stream.bed.counters(again).packets == 1
    assert [record.installed.slot for record in installed(stream.bed.backend)] == [again]


# ---- counters ----


def test_counters_are_payload_and_survive_replacement_and_removal(stream: Stream) -> None:
    bed, sizes = stream.bed, (172, 92, 12)
    targets = itertools.cycle([stream.b, bed.udp(bed.b, ADDRESSES[stream.family][3])])
    for number, size in enumerate(sizes * 4):
        stream.b = next(targets)
        source = stream.a if number % 4 else bed.udp(bed.a, ADDRESSES[stream.family][0])
        stream.a = source
        assert stream.install(target=endpoint(stream.b), source=endpoint(source), tos=4 * number) == 0
        assert stream.passes(rtp(number, size))
    before = time.monotonic()
    counters = bed.counters(stream.slot)
    assert (counters.packets, counters.bytes) == (12, 4 * sum(sizes))
    assert counters.last_seen is not None
    assert before <= counters.last_seen <= time.monotonic()
    assert stream.passes(rtp(99, 100))
    assert remove_flow(bed.backend, stream.flow, stream.slot) == 0
    last = bed.counters_as_they_are(stream.slot)
    assert (last.packets, last.bytes) == (13, 4 * sum(sizes) + 100)


@pytest.mark.parametrize("then_removed", [False, True], ids=["replaced", "removed"])
def test_what_was_counted_survives_two_changes_in_one_call(stream: Stream, then_removed: bool) -> None:
    for number in range(3):
        assert stream.passes(rtp(number))
    flows = [replace(stream.flow, sender=Endpoint(stream.flow.sender.address, port)) for port in (30012, 30014)]
    records = [FlowRecord(SET, InstalledFlow(flow, stream.slot), stream.way_out, 1500) for flow in flows]
    if then_removed:
        records[1] = FlowRecord(REMOVE, InstalledFlow(flows[0], stream.slot))
    assert apply(stream.bed.backend, records) == [0, 0]
    assert stream.bed.counters_as_they_are(stream.slot).packets == 3


def test_another_slot_begins_at_nothing(stream: Stream) -> None:
    assert stream.passes(rtp(1))
    old, stream.slot = stream.slot, Slot(6, 8)
    assert stream.install() == 0
    assert stream.passes(rtp(2))
    assert stream.bed.counters(old).packets == 1
    assert stream.bed.counters(stream.slot).packets == 1
    older, stream.slot = stream.slot, Slot(6, 9)
    assert stream.install() == 0
    assert stream.bed.counters_as_they_are(older).packets == 1


def test_500_replacements_under_load_lose_nothing(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    targets = [stream.b, bed.udp(bed.b, ADDRESSES[family][3])]
    for target in targets:
        target.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * 1024 * 1024)
    assert stream.install() == 0
    port = endpoint(stream.a).port
    stream.a.close()
    sender = bed.lab.start(
        "sender", bed.a, sys.executable, "-c", SENDER, ADDRESSES[family][0], str(port), ADDRESSES[family][1],
        str(stream.flow.local.port), "20000", "2000000",
    )  # fmt: skip
    wait_until(lambda: bed.counters(stream.slot).packets > 0, 10, "the first packet")
    senders = itertools.cycle([30002, 30004, 30006])
    arrived = 0
    for number in range(500):
        target = endpoint(targets[number % 2])
        flow = replace(stream.flow, target=target, sender=Endpoint(stream.flow.sender.address, next(senders)))
        assert set_flow(bed.backend, flow, stream.slot, way_out=stream.way_out) == 0
        arrived += sum(map(drain, targets))  # which lets some packets pass between two replacements
        if number % 50 == 0:
            bed.backend.check()
    assert sender.returncode is None
    sender.stop()
    sent = int(sender.log().split()[-1])
    arrived += sum(map(drain, targets))
    assert (arrived, drain(stream.relay)) == (sent, 0)
    counters = bed.counters(stream.slot)
    assert sent - COUNTED_TOO_LATE <= counters.packets <= sent
    assert counters.bytes == 172 * counters.packets


def drain(udp: socket.socket) -> int:
    """How many datagrams wait on a socket."""
    udp.setblocking(False)
    for count in itertools.count():
        try:
            udp.recv(2048)
        except BlockingIOError:
            return count
    raise AssertionError


# ---- the table and others ----


def numbered_flow(number: int) -> Flow:
    return Flow(
        local=Endpoint("10.1.0.1", 10000 + number),
        source=Endpoint("10.1.0.2", 10000 + number),
        sender=Endpoint("10.2.0.1", 10000 + number),
        target=Endpoint("10.2.0.2", 10000 + number),
    )


def numbered_records(operation: int, count: int, way_out: int) -> bytearray:
    return bytearray().join(
        pack_record(FlowRecord(operation, InstalledFlow(numbered_flow(number), Slot(100 + number, 3)), way_out, 1500))
        for number in range(count)
    )


def test_20000_flows(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    records = numbered_records(SET, MANY, ifindex(bed.p, "p1"))
    begin = time.perf_counter()
    bed.backend.apply(records)
    inserted = time.perf_counter()
    assert set(results(records)) == {0}
    bed.backend.check()
    polled = time.perf_counter()
    assert len(bed.backend.dump()) == MANY * CHANGE.size
    removals = numbered_records(REMOVE, MANY, 0)
    begin_removal = time.perf_counter()
    bed.backend.apply(removals)
    removed = time.perf_counter()
    assert set(results(removals)) == {0}
    assert installed(bed.backend) == []
    with capsys.disabled():
        print(
            f"\n{bed.form.value}: {MANY} flows set in {inserted - begin:.3f} s, counters read in"
            f" {polled - inserted:.3f} s, removed in {removed - begin_removal:.3f} s"
        )


def test_installing_and_removing_leaves_nothing_behind(bed: Bed) -> None:
    way_out = ifindex(bed.p, "p1")

    def round_trip() -> None:
        records = numbered_records(SET, 500, way_out)
        bed.backend.apply(records)
        assert set(results(records)) == {0}
        bed.backend.apply(numbered_records(REMOVE, 500, 0))

    def state() -> tuple[int, str]:
        bed.backend.check()
        return len(os.listdir("/proc/self/fd")), bed.ruleset()

    for _ in range(3):
        round_trip()
    before, memory = state(), resident_kib()
    for _ in range(GROWTH_ROUNDS):
        round_trip()
    assert state() == before
    assert "elements" not in before[1]
    gc.collect()
    assert resident_kib() - memory < 4096


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def test_a_flushed_ruleset_is_noticed_and_made_again(stream: Stream) -> None:
    bed = stream.bed
    (watched,) = bed.backend.watch_fds
    assert stream.passes(rtp(1))
    assert bed.backend.check() == []
    bed.p.nft("flush ruleset\n")
    assert select.select([watched], [], [], 2)[0]
    lost, restored = bed.backend.check()
    assert (lost.kind, lost.flows_gone) == (DatapathEventKind.LOST, True)
    assert restored.kind is DatapathEventKind.RESTORED
    assert TABLE in lost.text
    assert installed(bed.backend) == []
    assert not select.select([watched], [], [], 0)[0]
    assert stream.goes_up(rtp(2))
    assert stream.install() == 0
    assert stream.passes(rtp(3))
    assert bed.backend.check() == []


@pytest.mark.parametrize(
    "command",
    [
        f"delete table netdev {TABLE}",
        f"flush table netdev {TABLE}",
        f"flush map netdev {TABLE} flows4",
        f"flush chain netdev {TABLE} media4",
    ],
)
def test_whatever_others_do_to_the_table_is_noticed(bed: Bed, command: str) -> None:
    stream = Stream(bed, 4)
    assert stream.install() == 0
    bed.p.nft(command + "\n")
    assert select.select(bed.backend.watch_fds, [], [], 2)[0]
    assert [event.kind for event in bed.backend.check()] == [DatapathEventKind.LOST, DatapathEventKind.RESTORED]
    assert stream.install() == 0
    assert stream.passes(rtp(1))


def test_changes_before_a_flush_is_noticed_fail_by_name(stream: Stream) -> None:
    bed, other = stream.bed, Stream(stream.bed, stream.family, Slot(8, 2))
    bed.p.nft("flush ruleset\n")
    assert other.install() == -errno.ENOENT
    assert stream.install(tos=0) == -errno.ENOENT
    assert remove_flow(bed.backend, stream.flow, stream.slot) == 0
    assert [event.kind for event in bed.backend.check()] == [DatapathEventKind.LOST, DatapathEventKind.RESTORED]
    assert (stream.install(), other.install()) == (0, 0)
    assert stream.passes(rtp(1))


def test_our_own_changes_and_other_tables_are_no_event(stream: Stream) -> None:
    bed = stream.bed
    assert stream.install(tos=0) == 0
    assert remove_flow(bed.backend, stream.flow, stream.slot) == 0
    bed.backend.attach(links(bed.p))
    assert not select.select(bed.backend.watch_fds, [], [], 0)[0]
    bed.p.nft("table ip other {\n  chain c {\n  }\n}\n")
    assert bed.backend.check() == []
    assert not select.select(bed.backend.watch_fds, [], [], 0)[0]


def test_a_listing_loads_again_with_calls_up_and_forwards(family: int) -> None:
    """Readable form only; ``fast`` is the one that can't."""
    with NetLab("nft") as lab:
        bed = build(lab, NftForm.READABLE)
        bed.open()
        stream = Stream(bed, family)
        other = Stream(bed, 10 - family, Slot(8, 1))
        assert (stream.install(), other.install(source=None)) == (0, 0)
        assert stream.passes(rtp(1))
        bed.backend.check()
        listed = bed.ruleset()
        bed.backend.leave()  # or it would notice, and make its own again
        bed.p.nft("flush ruleset\n" + listed)
        assert bed.ruleset() == listed
        set_offload(bed.a, "a0", tx_checksum=False)
        assert stream.passes(rtp(2))
        set_offload(bed.a, "a0", tx_checksum=True)
        assert stream.passes(rtp(3))
        assert other.passes(rtp(4))
        bed.open()
        assert {record.installed.slot for record in installed(bed.backend)} == {stream.slot, other.slot}
        assert bed.counters(stream.slot).packets == 3
        bed.close()


def test_a_listing_of_the_fast_form_prints_and_does_not_load() -> None:
    with NetLab("nft") as lab:
        bed = build(lab, NftForm.FAST)
        bed.open()
        stream = Stream(bed, 4)
        assert stream.install() == 0
        listed = bed.ruleset()
        assert TABLE in listed
        with pytest.raises(NetLabError):
            bed.p.nft("flush ruleset\n" + listed)
        assert stream.passes(rtp(1))
        bed.close()


# ---- owner ----


@pytest.fixture
def owned(bare: Bed) -> Bed:
    bare.owner = True
    try:
        bare.open()
    except OffloadError as error:
        bare.owner = False
        bare.open()
        pytest.skip(f"needs kernel 6.9: {error}")
    return bare


def test_an_owned_table_survives_what_others_do(owned: Bed) -> None:
    stream = Stream(owned, 4)
    assert stream.install() == 0
    owned.p.nft("flush ruleset\n")
    with pytest.raises(NetLabError, match="not permitted"):
        owned.p.nft(f"delete table netdev {TABLE}\n")
    assert owned.backend.check() == []
    assert stream.passes(rtp(1))
    with pytest.raises(OffloadError, match="another process owns"):
        owned.p.call(lambda: open_nft(BackendSettings("test", None, SLOTS, owned.form, True)))


def test_an_owned_table_outlives_its_process_and_is_owned_again(owned: Bed) -> None:
    stream = Stream(owned, 4)
    assert stream.install() == 0
    owned.backend.leave()
    assert stream.passes(rtp(1))
    owned.open()
    assert [record.installed.flow for record in installed(owned.backend)] == [stream.flow]
    with pytest.raises(NetLabError, match="not permitted"):
        owned.p.nft(f"delete table netdev {TABLE}\n")
    owned.backend.remove()
    assert TABLE not in owned.ruleset()
    owned.open()


def test_a_listing_of_an_owned_table_loads_without_its_flags_line() -> None:
    with NetLab("nft") as lab:
        bed = build(lab, NftForm.READABLE)
        bed.owner = True
        try:
            bed.open()
        except OffloadError as error:
            pytest.skip(f"needs kernel 6.9: {error}")
        stream = Stream(bed, 4)
        assert stream.install() == 0
        listed = bed.ruleset()
        assert "flags owner" in listed
        bed.backend.leave()
        orphaned = bed.ruleset()
        with pytest.raises(NetLabError):
            bed.p.nft("flush ruleset\n" + orphaned)  # "flags " with nothing behind it
        bed.p.nft("flush ruleset\n")
        assert TABLE not in bed.ruleset()
        bed.p.nft("\n".join(line for line in listed.splitlines() if "flags owner" not in line) + "\n")
        assert stream.passes(rtp(1))
        bed.open()
        bed.close()


# ---- processes and devices ----


def test_a_process_that_dies_leaves_all_forwarding_to_the_next(bare: Bed, family: int) -> None:
    stream = Stream(bare, family)
    record = FlowRecord(SET, InstalledFlow(stream.flow, stream.slot), stream.way_out, 1500)
    code = (
        "import os, signal, sys\n"
        "from mediaproxy.backends.kernel_backend import BackendSettings, NftForm\n"
        "from mediaproxy.backends.nft import open_nft\n"
        "from tests.support.kernel_lab import links\n"
        "class Here:\n"
        "    def call(self, function): return function()\n"
        f"backend = open_nft(BackendSettings('test', None, {SLOTS}, NftForm({bare.form.value!r})))\n"
        "backend.attach(links(Here()))\n"
        f"records = bytearray.fromhex({pack_record(record).hex()!r})\n"
        "backend.apply(records)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    dead = subprocess.run(bare.p.command(sys.executable, "-c", code), check=False, timeout=60)
    assert dead.returncode == -signal.SIGKILL
    assert stream.passes(rtp(1))
    bare.open()
    (found,) = installed(bare.backend)
    assert found == record
    assert stream.passes(rtp(2))
    assert bare.counters(stream.slot).packets == 2
    assert stream.install(tos=0) == 0
    assert stream.passes(rtp(3))
    assert bare.counters(stream.slot).packets == 3
    assert remove_flow(bare.backend, stream.flow, stream.slot) == 0
    assert stream.goes_up(rtp(4))


def test_all_kinds_of_flows_are_taken_over(bed: Bed) -> None:
    way_out = ifindex(bed.p, "p1")
    records = [
        FlowRecord(
            SET,
            InstalledFlow(
                Flow(
                    Endpoint(ours[1], 10000 + number),
                    Endpoint(ours[0], 20000 + number) if number & 1 else None,
                    Endpoint(ours[2], 30000 + number),
                    Endpoint(ours[3], 40000 + number),
                    strict=bool(number & 4),
                    tos=(4 * number) & 0xFC,
                ),
                Slot(number + 16 * (family == 6), 4_000_000_000 + number),
            ),
            0 if number & 2 else way_out,
            0 if number & 2 else 1500,
            local_peer=bool(number & 2),
        )
        for family, ours in ADDRESSES.items()
        for number in range(16)
    ]
    assert set(apply(bed.backend, records)) == {0}
    bed.backend.leave()
    bed.open()

    def key(record: FlowRecord) -> int:
        return record.installed.slot.index

    assert sorted(installed(bed.backend), key=key) == sorted(records, key=key)


CHANGER: Final = """
while :; do
    echo 'table ip other { chain c { } }' | nft -f - && nft delete table ip other
done
"""


def test_all_flows_are_taken_over_while_others_change_nftables(bed: Bed) -> None:
    records = numbered_records(SET, 5000, ifindex(bed.p, "p1"))
    bed.backend.apply(records)
    changer = bed.lab.start("changer", bed.p, "sh", "-c", CHANGER)
    for _ in range(5):
        bed.backend.leave()
        bed.open()
        assert len(bed.backend.dump()) == len(records)
        assert bed.backend.check() == []
    assert changer.returncode is None


def test_a_table_of_another_shape_is_replaced(bed: Bed) -> None:
    stream = Stream(bed, 4)
    assert stream.install() == 0
    bed.backend.leave()
    bed.open(slots=SLOTS // 2)
    assert installed(bed.backend) == []
    assert stream.goes_up(rtp(1))
    bed.backend.leave()
    bed.p.nft(
        f"delete table netdev {TABLE}\ntable netdev {TABLE} {{\n  map flows4 {{\n    type mark : mark\n  }}\n}}\n"
    )
    bed.open()
    assert stream.install() == 0
    assert stream.passes(rtp(2))


def test_remove_takes_everything_and_a_neighbour_instance_stays(bed: Bed) -> None:
    other = bed.p.call(lambda: open_nft(BackendSettings("other", None, SLOTS, bed.form)))
    other.attach(links(bed.p))
    bed.backend.remove()
    assert TABLE not in bed.ruleset()
    assert "mediaproxy_other" in bed.ruleset()
    assert other.check() == []
    other.remove()
    assert bed.ruleset() == ""
    with pytest.raises(OffloadError):
        bed.backend.check()
    bed.open()


def test_a_device_that_vanishes_and_returns_is_hooked_again(bed: Bed, family: int) -> None:
    stream = Stream(bed, family)
    assert stream.install() == 0
    assert stream.passes(rtp(1))
    bed.p.ip("link", "del", "p0")
    assert bed.backend.attach(links(bed.p)) == []
    bed.lab.cable(bed.a, "a0", bed.p, "p0")
    for ours in ADDRESSES.values():
        bits = 24 if "." in ours[0] else 64
        bed.lab.address(bed.a, "a0", f"{ours[0]}/{bits}")
        bed.lab.address(bed.p, "p0", f"{ours[1]}/{bits}")
    assert bed.backend.attach(links(bed.p)) == []
    assert list(bed.backend.unattached) == []
    assert remove_flow(bed.backend, stream.flow, stream.slot) == 0
    for udp in (stream.a, stream.relay):
        udp.close()
    stream.a = bed.udp(bed.a, ADDRESSES[family][0])
    stream.relay = bed.udp(bed.p, ADDRESSES[family][1])
    assert stream.install(source=endpoint(stream.a), local=endpoint(stream.relay)) == 0
    assert stream.passes(rtp(2))
    assert bed.backend.check() == []


def test_a_device_that_is_not_there_is_named(bed: Bed) -> None:
    here = links(bed.p)
    gone = replace(here[-1], index=77, name="nowhere0")
    events = bed.backend.attach([*here, gone])
    hooked_by_name = not events  # a kernel that keeps hooks of devices to come
    if not hooked_by_name:
        assert [event.kind for event in events] == [DatapathEventKind.NOTE]
        assert "nowhere0" in events[0].text
        assert list(bed.backend.unattached) == [77]
        assert bed.backend.attach([*here, gone]) == []
    assert bed.backend.attach(here) == []
    assert list(bed.backend.unattached) == []


@pytest.mark.parametrize("instance", ["", "a b", 'x"; flush ruleset', "a" * 65])
def test_an_instance_that_nft_could_not_read_is_refused(bed: Bed, instance: str) -> None:
    with pytest.raises(OffloadError, match="instance"):
        bed.p.call(lambda: open_nft(BackendSettings(instance, None, SLOTS, bed.form)))


OPEN_AND_SAY: Final = """
from mediaproxy.backends.kernel_backend import BackendSettings
from mediaproxy.backends.nft import open_nft
from mediaproxy.errors import OffloadError
try:
    open_nft(BackendSettings("x", None, 16))
except OffloadError as error:
    print(error)
"""


def test_without_the_right_it_says_so(bed: Bed) -> None:
    said = bed.p.run("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", OPEN_AND_SAY)
    assert said == "nft: no CAP_NET_ADMIN, or another process owns the table mediaproxy_x\n"


def test_without_the_library_it_says_so(bed: Bed) -> None:
    broken = bed.lab.folder / "libnftnl.so.11"
    broken.write_bytes(b"no library")
    path = f"LD_LIBRARY_PATH={bed.lab.folder}"
    said = bed.p.run("env", path, sys.executable, "-c", OPEN_AND_SAY)
    assert said == "nft: libnftnl.so.11 cannot be loaded (Debian: libnftnl11 libmnl0)\n"
