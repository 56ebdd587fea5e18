"""The iptables backend forwards real packets between namespaces."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediaproxy.backends import flow_records, iptables
from mediaproxy.backends.firewall import Firewall, Opening
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.backends.iptables import MAX_FLOWS, IptablesBackend, open_iptables
from mediaproxy.backends.kernel_backend import BackendSettings
from mediaproxy.datapath.flow import Flow, Slot
from mediaproxy.datapath.kernel import DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from tests.support.flow_lab import (
    RTCP,
    STUN,
    V4,
    V6,
    Addresses,
    FlowLab,
    endpoint_of,
    flow_lab,
    received,
    removal_of,
    rtp,
    set_of,
    waiting,
    why_not_iptables,
)
from tests.support.namespace_thread import NamespaceThread
from tests.support.processes import wait_until

WHY_NOT = why_not_iptables()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")

SLOTS = 2048
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SETTINGS = BackendSettings("test", None, SLOTS)
FAMILIES = pytest.mark.parametrize("addresses", [V4, V6], ids=["ip4", "ip6"])


class Bench:
    """A lab with the backend in the relay's namespace."""

    def __init__(self, lab: FlowLab, thread: NamespaceThread) -> None:
        self.lab = lab
        self.thread = thread
        self.seeded: dict[int, int] = {}
        self.backend = self.open()

    def open(self) -> IptablesBackend:
        self.backend = self.thread.do(lambda: open_iptables(SETTINGS))
        return self.backend

    def apply(self, *records: bytes) -> list[int]:
        packed = bytearray().join(records)
        for record in flow_records.unpack_changes(packed):
            slot = record.installed.slot
            if (
                record.operation == flow_records.SET
                and slot.index < SLOTS
                and self.seeded.get(slot.index) != slot.generation
            ):
                self.seed(slot.index, slot.generation)
                self.seeded[slot.index] = slot.generation
        self.thread.do(lambda: self.backend.apply(packed))
        return flow_records.results(packed)

    def check(self) -> list[tuple[DatapathEventKind, bool]]:
        return [
            (event.kind, event.flows_gone)
            for event in self.thread.do(self.backend.check)
            if event.kind is not DatapathEventKind.NOTE
        ]

    def seed(self, slot: int, generation: int) -> None:
        """What the daemon does before it lets a flow be set."""
        with FlowStatsMemory(self.backend.stats_fd, SLOTS) as memory:
            memory.seed(Slot(slot, generation), None)

    def counted(self, slot: int = 0, generation: int = 1) -> tuple[int, int]:
        """Packets and bytes of a slot."""
        with FlowStatsMemory(self.backend.stats_fd, SLOTS) as memory:
            counters = memory.read(Slot(slot, generation))
        assert (counters.last_seen is None) == (counters.packets == 0)
        return counters.packets, counters.bytes

    def save(self) -> list[str]:
        """Both families' rules, without counters and dates."""
        text = "".join(self.lab.relay.run(command) for command in ("iptables-legacy-save", "ip6tables-legacy-save"))
        return [re.sub(r" \[\d+:\d+\]", "", line) for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with flow_lab() as lab:
        lab.relay.sysctl(netfilter__nf_conntrack_acct=1)
        with NamespaceThread(lab.relay) as thread:
            bench = Bench(lab, thread)
            yield bench
            thread.do(bench.backend.leave)


class Call:
    """Two phones, the relay's two sockets, and the flows between them."""

    def __init__(self, lab: FlowLab, addresses: Addresses, tos: int = 0) -> None:
        self.left = lab.socket(lab.left, addresses.left)
        self.right = lab.socket(lab.right, addresses.right)
        self.left_relay = lab.socket(lab.relay, addresses.left_relay)
        self.right_relay = lab.socket(lab.relay, addresses.right_relay)
        ends = [endpoint_of(udp) for udp in (self.left_relay, self.left, self.right_relay, self.right)]
        self.rightwards = Flow(*ends, tos=tos)
        self.leftwards = Flow(ends[2], ends[3], ends[0], ends[1], tos=tos)

    def say(self, data: bytes) -> None:
        """The left phone sends to the relay."""
        self.left.sendto(data, self.left_relay.getsockname())


@FAMILIES
def test_rtp_takes_the_kernel_and_the_rest_goes_up(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    # Both directions have been relayed by the sockets, and their entries are there.
    call.say(rtp(1))
    assert received(call.left_relay)[1] == endpoint_of(call.left)
    call.right_relay.sendto(rtp(1), call.right.getsockname())
    received(call.right)
    call.right.sendto(rtp(1), call.right_relay.getsockname())
    received(call.right_relay)

    assert bench.apply(set_of(call.rightwards), set_of(call.leftwards, 1, 7)) == [0, 0]
    for number in range(2, 7):
        call.say(rtp(number))
        assert received(call.right) == (rtp(number), endpoint_of(call.right_relay))
        call.right.sendto(rtp(number), call.right_relay.getsockname())
        assert received(call.left) == (rtp(number), endpoint_of(call.left_relay))
    for data in (STUN, RTCP, b"\r\n", b"\x80" * 11):
        call.say(data)
        assert received(call.left_relay) == (data, endpoint_of(call.left))
        call.left_relay.sendto(data, call.left.getsockname())
        assert received(call.left) == (data, endpoint_of(call.left_relay)), "the socket answers from its own port"
    assert bench.check() == []
    assert bench.counted(0) == (5, 5 * 172)
    assert bench.counted(1, 7) == (5, 5 * 172)
    assert waiting(call.left_relay) == waiting(call.right_relay) == []


@FAMILIES
def test_a_stranger_goes_up_before_and_after(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    stranger = bench.lab.socket(bench.lab.left, addresses.left)
    stranger.sendto(rtp(1), call.left_relay.getsockname())
    assert received(call.left_relay) == (rtp(1), endpoint_of(stranger))
    bench.apply(set_of(call.rightwards))
    stranger.sendto(rtp(2), call.left_relay.getsockname())
    call.say(rtp(3))
    stranger.sendto(rtp(4), call.left_relay.getsockname())
    assert received(call.right)[0] == rtp(3)
    assert received(call.left_relay) == (rtp(2), endpoint_of(stranger))
    assert received(call.left_relay) == (rtp(4), endpoint_of(stranger))
    bench.check()
    assert bench.counted()[0] == 1
    assert waiting(call.right) == []


def test_what_the_target_sends_goes_up_while_it_has_no_flow(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    call.say(rtp(1))
    received(call.right)
    call.right.sendto(rtp(9), call.right_relay.getsockname())
    assert received(call.right_relay)[0] == rtp(9), "it has yet to be learnt there"


@FAMILIES
def test_media_may_be_asymmetric(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    mouth = bench.lab.socket(bench.lab.right, addresses.right)  # the right phone sends from here, and listens elsewhere
    back = Flow(endpoint_of(call.right_relay), endpoint_of(mouth), endpoint_of(call.left_relay), endpoint_of(call.left))
    assert bench.apply(set_of(call.rightwards), set_of(back, 1)) == [0, 0]
    for number in range(3):
        call.say(rtp(number))
        assert received(call.right) == (rtp(number), endpoint_of(call.right_relay))
        mouth.sendto(rtp(number), call.right_relay.getsockname())
        assert received(call.left) == (rtp(number), endpoint_of(call.left_relay))


def test_two_flows_to_one_place_by_one_port_do_not_meet(bench: Bench) -> None:
    call, other = Call(bench.lab, V4), Call(bench.lab, V4)
    joined = Flow(
        endpoint_of(other.left_relay), endpoint_of(other.left), endpoint_of(call.right_relay), endpoint_of(call.right)
    )
    assert bench.apply(set_of(call.rightwards), set_of(joined, 1)) == [0, 0]
    for number in range(3):
        call.say(rtp(number))
        assert received(call.right)[1] == endpoint_of(call.right_relay)
        other.say(rtp(100 + number))
        assert received(call.right) == (rtp(100 + number), endpoint_of(call.right_relay))


@FAMILIES
def test_what_leaves_has_the_flows_tos(bench: Bench, addresses: Addresses) -> None:
    level, receive, kind, send = (
        (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, socket.IPV6_TCLASS, socket.IPV6_TCLASS)
        if addresses is V6
        else (socket.IPPROTO_IP, socket.IP_RECVTOS, socket.IP_TOS, socket.IP_TOS)
    )
    for tos in (0xB8, 0):
        call = Call(bench.lab, addresses, tos)
        call.right.setsockopt(level, receive, 1)
        call.left.setsockopt(level, send, 0x28)  # what the phone has set does not show
        assert bench.apply(set_of(call.rightwards, tos)) == [0]
        for number in range(2):
            call.say(rtp(number))
            _, ancillary, _, _ = call.right.recvmsg(2048, 128)
            assert [(entry[1], entry[2][0]) for entry in ancillary] == [(kind, tos)]


def test_options_go_up_and_opaque_takes_anything(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    assert bench.apply(set_of(call.rightwards)) == [0]
    call.left.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1]))
    call.say(rtp(1))
    assert received(call.left_relay)[0] == rtp(1)
    call.left.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
    fax = Flow(
        call.rightwards.local, call.rightwards.source, call.rightwards.sender, call.rightwards.target, opaque=True
    )
    assert bench.apply(set_of(fax)) == [0]
    for data in (b"\0\1udptl", STUN, RTCP, rtp(2)):
        call.say(data)
        assert received(call.right) == (data, endpoint_of(call.right_relay))
    bench.check()
    assert bench.counted()[0] == 4


@FAMILIES
def test_both_phones_on_this_host(bench: Bench, addresses: Addresses) -> None:
    lab = bench.lab
    udp = [lab.socket(lab.relay, addresses.left_relay) for _ in range(4)]
    one, one_relay, two_relay, two = (endpoint_of(each) for each in udp)
    assert bench.apply(
        set_of(Flow(one_relay, one, two_relay, two), local_peer=True),
        set_of(Flow(two_relay, two, one_relay, one), 1, local_peer=True),
    ) == [0, 0]
    for number in range(3):
        udp[0].sendto(rtp(number), udp[1].getsockname())
        assert received(udp[3]) == (rtp(number), two_relay)
        udp[3].sendto(rtp(number), udp[2].getsockname())
        assert received(udp[0]) == (rtp(number), one_relay)
    bench.check()
    assert bench.counted(0)[0] == bench.counted(1)[0] == 3


@FAMILIES
def test_one_phone_on_this_host(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    here = bench.lab.socket(bench.lab.relay, addresses.right_relay)
    inwards = Flow(
        endpoint_of(call.left_relay), endpoint_of(call.left), endpoint_of(call.right_relay), endpoint_of(here)
    )
    outwards = Flow(inwards.sender, inwards.target, inwards.local, endpoint_of(call.left))
    assert bench.apply(set_of(inwards, local_peer=True), set_of(outwards, 1)) == [0, 0]
    for number in range(3):
        call.say(rtp(number))
        assert received(here) == (rtp(number), endpoint_of(call.right_relay))
        here.sendto(rtp(number), call.right_relay.getsockname())
        assert received(call.left) == (rtp(number), endpoint_of(call.left_relay))


def test_a_drop_policy_is_not_meant_for_flows(bench: Bench) -> None:
    bench.lab.relay.run("iptables-legacy", "-P", "FORWARD", "DROP")
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    call.say(rtp(1))
    assert received(call.right)[0] == rtp(1)
    bench.lab.left.ip("route", "add", "default", "via", V4.left_relay)
    call.left.sendto(rtp(2), call.right.getsockname())
    call.say(rtp(3))
    assert received(call.right)[0] == rtp(3), "it is for everything else"


@FAMILIES
def test_removal_leads_up_and_counts_exactly(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    bench.apply(set_of(call.rightwards, 3, 9))
    for number in range(20):
        call.say(rtp(number))
    for _ in range(20):
        received(call.right)
    assert bench.apply(removal_of(call.rightwards, 3, 8)) == [0], "another generation is another flow"
    call.say(rtp(20))
    received(call.right)
    assert bench.apply(removal_of(call.rightwards, 3, 9)) == [0]
    assert bench.counted(3, 9) == (21, 21 * 172), "without a check in between"
    call.say(rtp(21))
    assert received(call.left_relay)[0] == rtp(21)
    assert bench.apply(removal_of(call.rightwards, 3, 9)) == [0]
    assert bench.backend.dump() == b""


def test_replacing_under_load_loses_nothing_and_counts_each_packet_once(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    elsewhere = bench.lab.socket(bench.lab.right, V4.right)
    for udp in (call.right, elsewhere, call.left_relay):
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 25)
    first = call.rightwards
    second = Flow(first.local, first.source, first.sender, endpoint_of(elsewhere), tos=0x20)
    bench.apply(set_of(first))
    done = threading.Event()
    sent = 0

    def talk() -> None:
        nonlocal sent
        while not done.is_set():
            for _ in range(16):
                call.say(rtp(sent))
                sent += 1
            done.wait(0.004)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        for number in range(30):
            assert bench.apply(set_of(first if number % 2 else second)) == [0]
    finally:
        done.set()
        talker.join()
    everything: list[bytes] = []
    forwarded = dict.fromkeys((call.right, elsewhere), 0)

    def all_there() -> bool:
        for udp in (call.right, elsewhere, call.left_relay):
            data = waiting(udp)
            everything.extend(data)
            if udp in forwarded:
                forwarded[udp] += len(data)
        return len(everything) >= sent

    wait_until(all_there, 5.0, "all packets")
    assert sorted(everything) == sorted(rtp(number) for number in range(sent))
    bench.check()
    assert all(forwarded.values()), "both ways were taken"
    assert bench.counted()[0] == sum(forwarded.values())


def test_hundreds_of_flows_and_then_no_more(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    flows = [
        Flow(
            Endpoint(V4.left_relay, 10000 + 2 * number),
            endpoint_of(call.left),
            Endpoint(V4.right_relay, 20000 + 2 * number),
            endpoint_of(call.right),
        )
        for number in range(MAX_FLOWS)
    ]
    results = bench.apply(*(set_of(flow, number) for number, flow in enumerate(flows)), set_of(call.rightwards, 1999))
    assert results == [0] * MAX_FLOWS + [-errno.ENOSPC]
    for flow in flows[::50]:
        call.left.sendto(rtp(flow.local.port), (flow.local.address, flow.local.port))
        assert received(call.right) == (rtp(flow.local.port), flow.sender)
    assert bench.check() == []
    assert [bench.counted(number)[0] for number in range(0, MAX_FLOWS, 50)] == [1] * (MAX_FLOWS // 50)
    assert len(bench.backend.dump()) == MAX_FLOWS * flow_records.CHANGE.size
    gone = flows[: MAX_FLOWS // 2]
    removals = [removal_of(flow, number) for number, flow in enumerate(gone)]
    assert bench.apply(*removals, set_of(call.rightwards, 1999)) == [0] * (len(gone) + 1)
    call.say(rtp(1))
    assert received(call.right)[0] == rtp(1)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"source": None}, errno.EOPNOTSUPP),
        ({"tap": True}, errno.EOPNOTSUPP),
        ({"drop": True}, errno.EOPNOTSUPP),
        ({"sender": Endpoint("fd02::1", 9)}, errno.EAFNOSUPPORT),
        ({"target": Endpoint("10.2.0.2", 0)}, errno.EINVAL),
    ],
)
def test_what_it_cannot_do_is_refused_and_leaves_nothing(bench: Bench, change: dict[str, object], number: int) -> None:
    call = Call(bench.lab, V4)
    fields = {name: getattr(call.rightwards, name) for name in ("local", "source", "sender", "target")} | change
    assert bench.apply(set_of(call.rightwards)) == [0]
    assert bench.apply(set_of(Flow(**fields))) == [-number]
    assert bench.backend.dump() == b"", "what stood at its key is gone"
    call.say(rtp(1))
    assert received(call.left_relay)[0] == rtp(1)


def test_slots_and_operations_out_of_range_are_refused(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    odd = bytearray(set_of(call.rightwards))
    struct.pack_into("=H", odd, 20, 7)
    assert bench.apply(set_of(call.rightwards, SLOTS), set_of(call.rightwards, 0, 0), bytes(odd)) == [-errno.EINVAL] * 3


def test_ip6_is_refused_where_the_host_does_not_forward_it(bench: Bench) -> None:
    bench.lab.relay.sysctl(ipv6__conf__all__forwarding=0)
    assert bench.apply(set_of(Call(bench.lab, V6).rightwards)) == [-errno.ENETUNREACH]


@pytest.mark.parametrize(
    ("sysctl", "named"),
    [
        ({"ipv4__ip_forward": 0}, "net.ipv4.ip_forward = 1"),
        ({"netfilter__nf_conntrack_acct": 0}, "net.netfilter.nf_conntrack_acct = 1"),
    ],
)
def test_a_missing_sysctl_is_named_and_nothing_is_left_behind(sysctl: dict[str, int], named: str) -> None:
    with flow_lab() as lab, NamespaceThread(lab.relay) as thread:
        lab.relay.sysctl(netfilter__nf_conntrack_acct=1)
        lab.relay.sysctl(**sysctl)
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OffloadError, match=re.escape(named)):
            thread.do(lambda: open_iptables(SETTINGS))
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        assert "MEDIAPROXY" not in lab.relay.run("iptables-legacy-save")
        assert "MEDIAPROXY" not in lab.relay.run("ip6tables-legacy-save")


def test_without_its_libraries_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise Exception("can't find library ip4tc")

    monkeypatch.setattr("mediaproxy.backends.xtables.importlib.import_module", nothing)
    with flow_lab() as lab, NamespaceThread(lab.relay) as thread:
        lab.relay.sysctl(netfilter__nf_conntrack_acct=1)
        with pytest.raises(OffloadError, match="python-iptables"):
            thread.do(lambda: open_iptables(SETTINGS))


@FAMILIES
def test_flows_of_a_dead_daemon_go_on_and_are_taken_over(bench: Bench, addresses: Addresses) -> None:
    call = Call(bench.lab, addresses)
    flow = Flow(
        call.rightwards.local,
        call.rightwards.source,
        call.rightwards.sender,
        call.rightwards.target,
        strict=False,
        tos=0xB8,
        clock_rates=tuple((96 + number, 48000 + number) for number in range(8)),
    )
    record = set_of(flow, 17, 4_000_000_000)
    assert bench.apply(record) == [0]
    call.say(rtp(1))
    received(call.right)
    bench.thread.do(bench.backend.leave)
    call.say(rtp(2))
    assert received(call.right)[0] == rtp(2), "nobody is there, and it forwards"
    bench.open()
    assert bench.backend.dump() == record
    assert bench.counted(17, 4_000_000_000) == (2, 2 * 172)
    call.say(rtp(3))
    assert received(call.right)[0] == rtp(3)
    assert bench.check() == []
    assert bench.counted(17, 4_000_000_000)[0] == 3
    assert bench.apply(removal_of(flow, 17, 4_000_000_000)) == [0]
    call.say(rtp(4))
    assert received(call.left_relay)[0] == rtp(4)


@pytest.mark.parametrize(
    "command",
    [
        "iptables-legacy -t nat -F",
        "iptables-legacy -t raw -F PREROUTING",
        "ip6tables-legacy -t mangle -F",
        "iptables-legacy -F FORWARD",
        "iptables-legacy-restore",
    ],
)
def test_a_flush_by_others_is_noticed_and_repaired(bench: Bench, command: str) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    call.say(rtp(1))
    received(call.right)
    empty = "*nat\nCOMMIT\n*raw\nCOMMIT\n" if command.endswith("restore") else None
    bench.lab.relay.run(*command.split(), stdin=empty)
    assert bench.check() == [(DatapathEventKind.LOST, True), (DatapathEventKind.RESTORED, False)]
    assert bench.backend.dump() == b""
    assert bench.counted()[0] == 1
    call.say(rtp(2))
    assert received(call.left_relay)[0] == rtp(2)
    assert bench.apply(set_of(call.rightwards)) == [0]
    call.say(rtp(3))
    assert received(call.right)[0] == rtp(3)
    assert bench.check() == []


def test_a_flush_that_a_change_meets_first_is_repaired(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    bench.lab.relay.run("iptables-legacy", "-t", "raw", "-F")
    assert bench.apply(set_of(call.rightwards, 1)) == [-errno.EAGAIN]
    assert bench.check() == [(DatapathEventKind.LOST, True), (DatapathEventKind.RESTORED, False)]
    assert bench.apply(set_of(call.rightwards, 1)) == [0]
    call.say(rtp(3))
    assert received(call.right)[0] == rtp(3)


def test_rules_of_others_are_none_of_its_business(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    bench.lab.relay.run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    bench.lab.relay.run("iptables-legacy", "-t", "nat", "-N", "THEIRS")
    assert bench.check() == []
    assert len(bench.backend.dump()) == flow_records.CHANGE.size


def test_a_busy_table_costs_no_flow(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    call, other = Call(bench.lab, V4), Call(bench.lab, V4)
    assert bench.apply(set_of(call.rightwards)) == [0]
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert bench.check() == []
        assert bench.apply(set_of(other.rightwards, 1)) == [-errno.EAGAIN]
        assert bench.check() == []
        call.say(rtp(1))
        assert received(call.right)[0] == rtp(1)
        assert bench.apply(removal_of(call.rightwards)) == [0]
        assert bench.check() == [(DatapathEventKind.LOST, True)], "what should be gone may still be there"
    assert bench.check() == [(DatapathEventKind.RESTORED, False)]
    call.say(rtp(2))
    assert received(call.left_relay)[0] == rtp(2)


def test_forwarding_switched_off_is_an_end_until_it_is_on_again(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    bench.lab.relay.sysctl(ipv4__ip_forward=0)
    assert bench.check() == [(DatapathEventKind.LOST, True)]
    call.say(rtp(2))
    assert received(call.left_relay)[0] == rtp(2)
    assert bench.apply(set_of(call.rightwards)) == [-errno.EAGAIN]
    bench.lab.relay.sysctl(ipv4__ip_forward=1)
    assert bench.check() == [(DatapathEventKind.RESTORED, False)]
    assert bench.apply(set_of(call.rightwards)) == [0]


def test_removing_leaves_the_tables_as_they_were() -> None:
    with flow_lab() as lab, NamespaceThread(lab.relay) as thread:
        lab.relay.sysctl(netfilter__nf_conntrack_acct=1)
        for command in ("iptables-legacy", "ip6tables-legacy"):
            for rule in (
                "-P FORWARD DROP",
                "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
                "-t raw -A PREROUTING -p udp --dport 53 -j NOTRACK",
                "-t mangle -A POSTROUTING -j TOS --set-tos 8",
                "-t nat -A POSTROUTING -s ::1 -j ACCEPT" if "6" in command else "-t nat -A POSTROUTING -j ACCEPT",
            ):
                lab.relay.run(command, *rule.split())
        bench = Bench(lab, thread)
        thread.do(bench.backend.remove)
        before = bench.save()
        bench.open()
        calls = [Call(lab, V4), Call(lab, V6)]
        assert bench.apply(*(set_of(call.rightwards, number) for number, call in enumerate(calls))) == [0, 0]
        for call in calls:
            call.say(rtp(1))
            received(call.right)
        assert bench.save() != before
        thread.do(bench.backend.remove)
        assert bench.save() == before
        assert "zone=" not in lab.relay.run("conntrack", "-L")
        assert "DROP" in "".join(before)


def test_counters_set_to_zero_by_others_are_gone_on_from(bench: Bench) -> None:
    call = Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    for number in range(5):
        call.say(rtp(number))
        received(call.right)
    bench.check()
    bench.lab.relay.run("conntrack", "-L", "-z")
    for number in range(5, 7):
        call.say(rtp(number))
        received(call.right)
    bench.check()
    assert bench.counted() == (7, 7 * 172)


def test_two_instances_do_not_meet(bench: Bench) -> None:
    call, other = Call(bench.lab, V4), Call(bench.lab, V4)
    bench.apply(set_of(call.rightwards))
    settings = BackendSettings("test_R", None, 16)
    second = bench.thread.do(lambda: open_iptables(settings))
    packed = bytearray(set_of(other.rightwards))
    bench.thread.do(lambda: second.apply(packed))
    assert flow_records.results(packed) == [0]
    for each in (call, other):
        each.say(rtp(1))
        assert received(each.right)[1] == endpoint_of(each.right_relay)
    bench.thread.do(second.remove)
    assert bench.check() == []
    call.say(rtp(2))
    assert received(call.right)[0] == rtp(2)


@FAMILIES
def test_flows_pass_where_media_is_not_tracked(bench: Bench, addresses: Addresses) -> None:
    """``firewall = manage`` on the same host keeps media out of connection tracking, but for flows."""
    for command in ("iptables-legacy", "ip6tables-legacy"):
        bench.lab.relay.run(command, "-P", "INPUT", "DROP")
    bench.lab.relay.run("ip6tables-legacy", "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")  # or it has no neighbours
    call = Call(bench.lab, addresses)
    port = call.rightwards.local.port
    firewall = Firewall("test", [Opening("media", addresses.left_relay, port, port + 1, media=True)])
    for _ in range(2):
        report = bench.thread.do(firewall.manage)
        assert report.changed == ("iptables-legacy",)
        bench.apply(set_of(call.rightwards))
        call.say(rtp(1))
        assert received(call.right)[0] == rtp(1)
        call.say(STUN)
        assert received(call.left_relay)[0] == STUN
        # The other order: the backend comes to a host that is opened already.
        bench.thread.do(bench.backend.remove)
        bench.open()


def test_its_limit_is_said_at_the_start(bench: Bench) -> None:
    (event,) = bench.backend.attach([])
    assert event.kind is DatapathEventKind.NOTE
    assert str(iptables.MAX_FLOWS) in event.text
    assert bench.backend.attach([]) == []
    assert bench.backend.capabilities.max_flows == MAX_FLOWS


@FAMILIES
def test_what_comes_first_does_not_decide_for_the_rest(bench: Bench, addresses: Addresses) -> None:
    """No entry is there before the flow is: neither STUN before RTP nor RTP before STUN takes the other along."""
    call = Call(bench.lab, addresses)
    bench.apply(set_of(call.rightwards))
    for data in (STUN, RTCP):
        call.say(data)
        assert received(call.left_relay)[0] == data
    call.say(rtp(1))
    assert received(call.right) == (rtp(1), endpoint_of(call.right_relay))
    bench.lab.relay.run("conntrack", "-F")
    call.say(rtp(2))
    assert received(call.right) == (rtp(2), endpoint_of(call.right_relay))
    call.say(STUN)
    assert received(call.left_relay)[0] == STUN
