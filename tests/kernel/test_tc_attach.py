"""The tc and xdp backends on real devices: real sockets at both ends, the relay's own namespace in between."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from mediaproxy.backends.bpf import BpfBackend, TcForm, XdpForm, open_tc, open_xdp
from mediaproxy.backends.flow_records import REMOVE, SET, FlowRecord, unpack_changes
from mediaproxy.backends.helper.bpf import ABI
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link
from mediaproxy.backends.tap import TapReader
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from tests.support import bpf_bench, kernel_lab, netlab
from tests.support.bpf_bench import StatsView
from tests.support.kernel_lab import receive, rtp, set_flow
from tests.support.netlab import Namespace, NetLab
from tests.support.processes import wait_until

_WHY_NOT = netlab.why_not() or bpf_bench.why_not()
pytestmark = pytest.mark.skipif(_WHY_NOT is not None, reason=_WHY_NOT or "")

SLOTS: Final = 256
GENERATION: Final = 3
LOCAL = {4: Endpoint("10.1.0.1", 4000), 6: Endpoint("fd01::1", 4000)}
SOURCE = {4: Endpoint("10.1.0.2", 5004), 6: Endpoint("fd01::2", 5004)}
SENDER = {4: Endpoint("10.2.0.1", 4010), 6: Endpoint("fd02::1", 4010)}
TARGET = {4: Endpoint("10.2.0.2", 6004), 6: Endpoint("fd02::2", 6004)}
FORMS = [pytest.param(TcForm.TCX, id="tcx"), pytest.param(TcForm.CLSACT, id="clsact")]
FOREIGN_FILTER: Final = ("protocol", "all", "bpf", "bytecode", "1,6 0 0 0,", "flowid", "1:1")  # matches nothing
UDP_SEGMENT: Final = 103  # linux/udp.h
SCALE: Final = float(os.environ.get("SOAK_SCALE", "0.1"))
"""How much of the long runs is run; `make soak` sets 1."""


@dataclass(slots=True)
class Bed:
    """Two agents and a proxy between them: A - (pA) P (pB) - B."""

    lab: NetLab
    a: Namespace
    p: Namespace
    b: Namespace
    pins: Path
    opened: list[KernelBackend]

    def open(self, form: TcForm = TcForm.AUTO, *, pinned: bool = True, slots: int = SLOTS) -> KernelBackend:
        """The tc backend in P, attached to all devices there."""
        backend = self.p.call(lambda: open_tc(self.settings(pinned, slots), form))
        self.opened.append(backend)
        assert self.attach(backend) == []
        return backend

    def settings(self, pinned: bool = True, slots: int = SLOTS) -> BackendSettings:
        return BackendSettings("test", self.pins if pinned else None, slots)

    def attach(self, backend: KernelBackend) -> list[str]:
        """Attach to the devices as they are now; returns what is said."""
        links = kernel_lab.links(self.p)
        return [event.text for event in self.p.call(lambda: backend.attach(links))]

    def check(self, backend: KernelBackend) -> list[tuple[DatapathEventKind, str]]:
        return [(event.kind, event.text) for event in self.p.call(backend.check)]

    def socket(self, host: Namespace, endpoint: Endpoint) -> socket.socket:
        udp = host.udp_socket(endpoint.address, endpoint.port)
        self.lab.on_exit(udp.close)
        return udp

    def install(self, backend: KernelBackend, flow: Flow, slot: int = 1, device: str = "pB") -> None:
        stats = StatsView(backend.stats_fd, backend.slots)
        stats.seed(slot, GENERATION)
        stats.close()
        way_out = kernel_lab.ifindex(self.p, device)
        assert set_flow(backend, flow, Slot(slot, GENERATION), way_out=way_out) == 0

    def counted(self, backend: KernelBackend, slot: int = 1) -> dict[str, int]:
        stats = StatsView(backend.stats_fd, backend.slots)
        try:
            return stats.counted(slot)
        finally:
            stats.close()

    def names(self) -> list[str]:
        """What is pinned; a bpffs has two files of its own."""
        return [path.name for path in self.pins.iterdir() if path.suffix != ".debug"]

    def programs(self) -> str:
        """All that hangs on the proxy's devices."""
        found = self.p.run("tc", "qdisc", "show")
        for _, name in self.p.call(socket.if_nameindex):
            shown = self.p.ip("-d", "link", "show", "dev", name)
            found += f"{name}: {kernel_lab.tcx_programs(self.p, name)} TCX, {shown.count('prog/xdp')} XDP\n"
            found += self.p.run("tc", "filter", "show", "dev", name, "ingress")
        return found


@pytest.fixture
def bed() -> Iterator[Bed]:
    with NetLab("tc") as lab, kernel_lab.bpffs() as pins:
        a, p, b = lab.namespace("a"), lab.namespace("p"), lab.namespace("b")
        lab.cable(a, "aP", p, "pA")
        lab.cable(p, "pB", b, "bP")
        lab.address(a, "aP", "10.1.0.2/24", "fd01::2/64", gateway="10.1.0.1")
        lab.address(p, "pA", "10.1.0.1/24", "fd01::1/64")
        lab.address(p, "pB", "10.2.0.1/24", "fd02::1/64")
        lab.address(b, "bP", "10.2.0.2/24", "fd02::2/64", gateway="10.2.0.1")
        made = Bed(lab, a, p, b, pins, [])
        yield made
        for backend in made.opened:
            p.call(backend.leave)


def flow(family: int = 4, family_out: int | None = None) -> Flow:
    out = family_out or family
    return Flow(LOCAL[family], SOURCE[family], SENDER[out], TARGET[out])


def send_and_receive(near: socket.socket, far: socket.socket, sequence: int = 1, family: int = 4) -> tuple[str, int]:
    """Send RTP through the flow; returns where it seems to come from."""
    near.sendto(rtp(sequence), (LOCAL[family].address, LOCAL[family].port))
    received = receive(far)
    assert received is not None, "nothing arrived"
    assert received[0] == rtp(sequence)
    return received[1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("tx_checksum", "gro"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize(("family", "family_out"), [(4, 4), (6, 6), (4, 6), (6, 4)])
def test_rtp_goes_from_socket_to_socket_whatever_the_offloads(
    bed: Bed, form: TcForm, tx_checksum: bool, gro: bool, family: int, family_out: int
) -> None:
    # With the sender's offload the checksum is not in the packet (CHECKSUM_PARTIAL); without it and with GRO the kernel
    # keeps a sum of the whole packet beside it (CHECKSUM_COMPLETE). Were that one wrong, the receiver would add up
    # again: nothing is lost then, so this test would not see it.
    kernel_lab.set_offload(bed.a, "aP", tx_checksum=tx_checksum)
    kernel_lab.set_offload(bed.p, "pA", gro=gro)
    kernel_lab.set_offload(bed.p, "pB", tx_checksum=tx_checksum)
    backend = bed.open(form)
    bed.install(backend, flow(family, family_out))
    near, far = bed.socket(bed.a, SOURCE[family]), bed.socket(bed.b, TARGET[family_out])
    # A receiver that checks: what leaves in software must be right.
    for sequence in range(1, 6):
        source = send_and_receive(near, far, sequence, family)
        assert source == (SENDER[family_out].address, SENDER[family_out].port)
    assert bed.counted(backend) == {"packets": 5, "bytes": 5 * 172}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_rtp_of_the_flow_reaches_the_relays_socket(bed: Bed, form: TcForm) -> None:
    backend = bed.open(form)
    bed.install(backend, flow())
    near, far, relay = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4]), bed.socket(bed.p, LOCAL[4])
    stun = bytes.fromhex("000100002112a442") + bytes(12)
    rtcp = bytes([0x80, 201, 0, 1]) + bytes(4)
    too_long = rtp(1, 1473)  # fragments
    for datagram in (stun, rtcp, too_long):
        near.sendto(datagram, (LOCAL[4].address, LOCAL[4].port))
        received = receive(relay)
        assert received is not None
        assert received == (datagram, (SOURCE[4].address, SOURCE[4].port))
    assert kernel_lab.nothing_waits(far)
    # And the relay answers from that very port.
    relay.sendto(stun, (SOURCE[4].address, SOURCE[4].port))
    assert receive(near) == (stun, (LOCAL[4].address, LOCAL[4].port))
    assert bed.counted(backend) == {"up NOT_RTP": 1, "up RTCP": 1, "up FRAGMENT": 1}


def test_datagrams_that_a_sender_on_this_machine_has_glued_together_are_cut_apart_by_the_stack(bed: Bed) -> None:
    backend = bed.open()
    bed.install(backend, flow())
    near, far, relay = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4]), bed.socket(bed.p, LOCAL[4])
    near.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 172)
    near.sendto(rtp(1) + rtp(2) + rtp(3), (LOCAL[4].address, LOCAL[4].port))
    for sequence in (1, 2, 3):
        assert receive(relay) == (rtp(sequence), (SOURCE[4].address, SOURCE[4].port))
    assert kernel_lab.nothing_waits(far)
    assert bed.counted(backend) == {"up MTU": 1}


def test_way_back_has_a_flow_of_its_own(bed: Bed) -> None:
    backend = bed.open()
    bed.install(backend, flow(), 1, "pB")
    bed.install(backend, Flow(SENDER[4], TARGET[4], LOCAL[4], SOURCE[4]), 2, "pA")
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    for sequence in range(20):
        send_and_receive(near, far, sequence)
        far.sendto(rtp(sequence), (SENDER[4].address, SENDER[4].port))
        assert receive(near) == (rtp(sequence), (LOCAL[4].address, LOCAL[4].port))
    assert bed.counted(backend, 1)["packets"] == bed.counted(backend, 2)["packets"] == 20


def test_unresolved_neighbour_and_gateway_are_the_kernels_business(bed: Bed) -> None:
    bed.lab.address(bed.b, "lo", "192.0.2.5/32")
    bed.p.ip("route", "add", "192.0.2.5/32", "via", "10.2.0.2")
    bed.p.ip("neigh", "flush", "all")
    backend = bed.open()
    target = Endpoint("192.0.2.5", 6004)
    bed.install(backend, replace(flow(), target=target))
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, target)
    assert send_and_receive(near, far) == (SENDER[4].address, SENDER[4].port)


def test_both_agents_behind_one_device(bed: Bed) -> None:
    bed.lab.address(bed.a, "aP", "10.1.0.3/24")
    backend = bed.open()
    target = Endpoint("10.1.0.3", 6004)
    bed.install(backend, replace(flow(), sender=Endpoint("10.1.0.1", 4010), target=target), device="pA")
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.a, target)
    assert send_and_receive(near, far) == ("10.1.0.1", 4010)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.0.1", "::1", "fd01::1"])
def test_both_agents_on_the_proxys_own_host_talk_over_lo(bed: Bed, form: TcForm, address: str) -> None:
    backend = bed.open(form)
    local, source = Endpoint(address, 4000), Endpoint(address, 5004)
    sender, target = Endpoint(address, 4010), Endpoint(address, 6004)
    stats = StatsView(backend.stats_fd, backend.slots)
    stats.seed(1, GENERATION)
    assert set_flow(backend, Flow(local, source, sender, target), Slot(1, GENERATION), local_peer=True) == 0
    near, far, relay = bed.socket(bed.p, source), bed.socket(bed.p, target), bed.socket(bed.p, local)
    near.sendto(rtp(1), (address, 4000))
    assert receive(far) == (rtp(1), (address, 4010))
    assert kernel_lab.nothing_waits(relay)
    assert stats.counted(1) == {"packets": 1, "bytes": 172}
    stats.close()


def test_agent_on_the_proxys_own_host_reaches_a_remote_one(bed: Bed) -> None:
    backend = bed.open()
    source = Endpoint("10.1.0.1", 5004)
    bed.install(backend, replace(flow(), source=source))
    near, far = bed.socket(bed.p, source), bed.socket(bed.b, TARGET[4])
    assert send_and_receive(near, far) == (SENDER[4].address, SENDER[4].port)


def test_packet_for_an_agent_on_this_host_goes_up_when_it_comes_from_outside(bed: Bed) -> None:
    backend = bed.open()
    stats = StatsView(backend.stats_fd, backend.slots)
    stats.seed(1, GENERATION)
    local_flow = replace(flow(), target=Endpoint("10.1.0.1", 6004))
    assert set_flow(backend, local_flow, Slot(1, GENERATION), local_peer=True) == 0
    near, relay = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.p, LOCAL[4])
    near.sendto(rtp(1), (LOCAL[4].address, LOCAL[4].port))
    assert receive(relay) == (rtp(1), (SOURCE[4].address, SOURCE[4].port))
    assert stats.counted(1) == {"up LOCAL": 1}
    stats.close()


@pytest.mark.parametrize("form", FORMS)
def test_tun_devices_carry_flows_in_and_out(bed: Bed, form: TcForm) -> None:
    tun = kernel_lab.open_tun(bed.p, "tun0")
    bed.lab.on_exit(lambda: os.close(tun))
    bed.lab.address(bed.p, "tun0", "10.9.0.1/24")
    backend = bed.open(form)
    inside = Endpoint("10.9.0.2", 5004)
    bed.install(backend, replace(flow(), local=Endpoint("10.9.0.1", 4000), source=inside), 1, "pB")
    bed.install(backend, Flow(SENDER[4], TARGET[4], Endpoint("10.9.0.1", 4000), inside), 2, "tun0")
    far = bed.socket(bed.b, TARGET[4])
    os.write(tun, bytes(IP(src="10.9.0.2", dst="10.9.0.1") / UDP(sport=5004, dport=4000) / Raw(rtp(1))))
    assert receive(far) == (rtp(1), (SENDER[4].address, SENDER[4].port))
    far.sendto(rtp(2), (SENDER[4].address, SENDER[4].port))

    def come_out() -> IP | None:
        while select.select([tun], [], [], 0)[0]:
            packet = IP(os.read(tun, 2048))
            if UDP in packet and packet[UDP].dport == 5004:
                return packet
        return None

    packet = wait_until(come_out, 2.0, "the packet out of the tun device")
    assert (packet.src, packet.dst, packet[UDP].sport) == ("10.9.0.1", "10.9.0.2", 4000)
    assert bytes(packet[UDP].payload) == rtp(2)


def test_macvlan_with_the_relay_address_takes_its_packets(bed: Bed) -> None:
    bed.p.ip("link", "add", "mv0", "link", "pA", "type", "macvlan", "mode", "bridge")
    bed.p.ip("link", "set", "mv0", "up")
    bed.lab.address(bed.p, "mv0", "10.1.0.9/24")
    backend = bed.open()
    local = Endpoint("10.1.0.9", 4000)
    bed.install(backend, replace(flow(), local=local))
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    near.sendto(rtp(1), (local.address, local.port))
    assert receive(far) == (rtp(1), (SENDER[4].address, SENDER[4].port))
    assert bed.counted(backend) == {"packets": 1, "bytes": 172}


def test_virtual_address_on_lo_is_a_key_like_any_other(bed: Bed) -> None:
    bed.lab.address(bed.p, "lo", "10.77.0.1/32")
    backend = bed.open()
    local = Endpoint("10.77.0.1", 4000)
    bed.install(backend, replace(flow(), local=local))
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    near.sendto(rtp(1), (local.address, local.port))
    assert receive(far) == (rtp(1), (SENDER[4].address, SENDER[4].port))


def test_replacing_a_flow_under_load_loses_no_packet(bed: Bed) -> None:
    backend = bed.open()
    bed.install(backend, flow())
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    way_out = kernel_lab.ifindex(bed.p, "pB")
    for sequence in range(500):
        assert set_flow(backend, replace(flow(), tos=sequence & 0xFF), Slot(1, GENERATION), way_out=way_out) == 0
        near.sendto(rtp(sequence), (LOCAL[4].address, LOCAL[4].port))
        if sequence % 50 == 49:  # more than the socket holds would be lost there
            for waiting in range(sequence - 49, sequence + 1):
                assert receive(far) == (rtp(waiting), (SENDER[4].address, SENDER[4].port))
    assert bed.counted(backend) == {"packets": 500, "bytes": 500 * 172}


# ---- what happens to the hooks ----


def test_qdisc_removed_by_somebody_is_noticed_and_put_back(bed: Bed) -> None:
    backend = bed.open(TcForm.CLSACT)
    bed.install(backend, flow())
    near, far, relay = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4]), bed.socket(bed.p, LOCAL[4])
    assert bed.check(backend) == []
    bed.p.run("tc", "qdisc", "del", "dev", "pA", "clsact")
    near.sendto(rtp(1), (LOCAL[4].address, LOCAL[4].port))
    assert receive(relay) is not None  # the slow path has it meanwhile
    assert bed.check(backend) == [
        (DatapathEventKind.LOST, "somebody removed the tc filter of pA"),
        (DatapathEventKind.RESTORED, "the tc filter of pA is back"),
    ]
    assert bed.check(backend) == []
    send_and_receive(near, far, 2)
    assert bed.counted(backend) == {"packets": 1, "bytes": 172}


def test_filter_removed_or_replaced_by_somebody_is_put_back(bed: Bed) -> None:
    backend = bed.open(TcForm.CLSACT)
    bed.p.run("tc", "filter", "del", "dev", "pA", "ingress")
    assert [kind for kind, _ in bed.check(backend)] == [DatapathEventKind.LOST, DatapathEventKind.RESTORED]
    assert bed.check(backend) == []


def test_tcx_link_does_not_mind_what_happens_to_qdiscs(bed: Bed) -> None:
    backend = bed.open(TcForm.TCX)
    bed.install(backend, flow())
    bed.p.run("tc", "qdisc", "add", "dev", "pA", "clsact")
    bed.p.run("tc", "qdisc", "del", "dev", "pA", "clsact")
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    send_and_receive(near, far)
    assert bed.check(backend) == []


def test_foreign_clsact_and_its_filters_stay(bed: Bed) -> None:
    bed.p.run("tc", "qdisc", "add", "dev", "pA", "clsact")
    bed.p.run("tc", "filter", "add", "dev", "pA", "ingress", "prio", "60000", *FOREIGN_FILTER)
    before = bed.p.run("tc", "filter", "show", "dev", "pA", "ingress")
    backend = bed.open(TcForm.CLSACT)
    assert "mpo_tc_ethernet" in bed.p.run("tc", "filter", "show", "dev", "pA", "ingress")
    bed.p.call(backend.remove)
    assert bed.p.run("tc", "filter", "show", "dev", "pA", "ingress") == before
    assert "clsact" not in bed.p.run("tc", "qdisc", "show", "dev", "pB")
    assert "clsact" in bed.p.run("tc", "qdisc", "show", "dev", "pA")


def test_own_clsact_stays_where_somebody_else_has_put_a_filter(bed: Bed) -> None:
    backend = bed.open(TcForm.CLSACT)
    bed.p.run("tc", "filter", "add", "dev", "pA", "egress", "prio", "60000", *FOREIGN_FILTER)
    bed.p.call(backend.remove)
    assert "bytecode" in bed.p.run("tc", "filter", "show", "dev", "pA", "egress")
    assert bed.p.run("tc", "filter", "show", "dev", "pA", "ingress") == ""
    assert "clsact" not in bed.p.run("tc", "qdisc", "show", "dev", "pB")


@pytest.mark.parametrize("form", FORMS)
def test_two_instances_do_not_meet(bed: Bed, form: TcForm) -> None:
    backend = bed.open(form)
    bed.install(backend, flow())
    with kernel_lab.bpffs() as pins:
        other = bed.p.call(lambda: open_tc(BackendSettings("other", pins, SLOTS), form))
        assert bed.attach(other) == []
        second = replace(flow(), local=Endpoint("10.1.0.1", 4100))
        bed.install(other, second)
        near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
        send_and_receive(near, far)
        near.sendto(rtp(9), ("10.1.0.1", 4100))
        assert receive(far) is not None
        bed.p.call(other.remove)
    send_and_receive(near, far, 2)
    assert bed.check(backend) == []


@pytest.mark.parametrize("form", FORMS)
def test_removal_leaves_nothing_behind(bed: Bed, form: TcForm) -> None:
    before = bed.programs()
    backend = bed.open(form)
    assert bed.programs() != before
    assert bed.names()
    bed.p.call(backend.remove)
    assert bed.programs() == before
    assert bed.names() == []
    with pytest.raises(OffloadError):
        backend.dump()
    bed.p.call(backend.remove)  # a second call does nothing


@pytest.mark.parametrize("form", FORMS)
def test_removal_takes_away_what_a_dead_process_has_left(bed: Bed, form: TcForm) -> None:
    before = bed.programs()
    bed.p.call(bed.open(form).leave)
    assert bed.programs() != before
    again = bed.p.call(lambda: open_tc(bed.settings(), form))
    bed.p.call(again.remove)
    assert bed.programs() == before
    assert bed.names() == []


def test_form_that_changed_leaves_no_hook_of_the_other(bed: Bed) -> None:
    bed.p.call(bed.open(TcForm.TCX).leave)
    bed.p.call(bed.open(TcForm.CLSACT).leave)
    assert not [name for name in bed.names() if "tcx" in name]
    backend = bed.open(TcForm.TCX)
    bed.install(backend, flow())
    assert "mpo_tc" not in bed.p.run("tc", "filter", "show", "dev", "pA", "ingress")
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    send_and_receive(near, far)
    assert bed.counted(backend)["packets"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_device_that_comes_back_is_attached_again(bed: Bed, form: TcForm) -> None:
    backend = bed.open(form)
    bed.p.ip("link", "del", "pB")
    assert bed.check(backend) == []
    assert bed.attach(backend) == []
    bed.lab.cable(bed.p, "pB", bed.b, "bP")
    bed.lab.address(bed.p, "pB", "10.2.0.1/24")
    bed.lab.address(bed.b, "bP", "10.2.0.2/24", gateway="10.2.0.1")
    assert bed.attach(backend) == [f"pB: {'TCX link' if form is TcForm.TCX else 'tc filter'} attached"]
    bed.install(backend, Flow(SENDER[4], TARGET[4], LOCAL[4], SOURCE[4]), device="pA")
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    far.sendto(rtp(1), (SENDER[4].address, SENDER[4].port))
    assert receive(near) == (rtp(1), (LOCAL[4].address, LOCAL[4].port))
    assert len([name for name in bed.names() if "tcx" in name]) == (3 if form is TcForm.TCX else 0)


def test_device_that_refuses_is_named_once(bed: Bed) -> None:
    backend = bed.open(TcForm.CLSACT)
    ghost = Link(9999, "ghost0", 1500)
    links = [*kernel_lab.links(bed.p), ghost]
    events = bed.p.call(lambda: backend.attach(links))
    assert [event.kind for event in events] == [DatapathEventKind.NOTE]
    assert "ghost0: No such device" in events[0].text
    assert bed.p.call(lambda: backend.attach(links)) == []
    assert bed.check(backend) == []


# ---- what outlives a process ----

_OTHER_PROCESS = textwrap.dedent(
    """
    import pathlib, signal, sys
    from mediaproxy.backends.bpf import TcForm, open_tc
    from mediaproxy.backends.kernel_backend import BackendSettings, Link
    from mediaproxy.datapath.flow import Flow, Slot
    from mediaproxy.net import Endpoint
    from tests.support import kernel_lab
    from tests.support.bpf_bench import StatsView
    import socket
    backend = open_tc(BackendSettings("test", pathlib.Path(sys.argv[1]), 256), TcForm[sys.argv[2]])
    backend.attach([Link(index, name, 1500, name == "lo") for index, name in socket.if_nameindex()])
    stats = StatsView(backend.stats_fd, backend.slots)
    stats.seed(1, 3)
    flow = Flow(Endpoint("10.1.0.1", 4000), Endpoint("10.1.0.2", 5004), Endpoint("10.2.0.1", 4010),
                Endpoint("10.2.0.2", 6004), tos=184, clock_rates=((96, 48000),))
    result = kernel_lab.set_flow(backend, flow, Slot(1, 3), way_out=socket.if_nametoindex("pB"))
    print("ready", result, flush=True)
    signal.pause()
    """
)


@pytest.mark.parametrize("form", FORMS)
def test_killed_process_leaves_forwarding_and_its_successor_finds_the_flows(bed: Bed, form: TcForm) -> None:
    command = bed.p.command(sys.executable, "-c", _OTHER_PROCESS, str(bed.pins), form.name)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready 0\n"
        near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
        send_and_receive(near, far, 1)
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    for sequence in range(2, 50):
        send_and_receive(near, far, sequence)
    backend = bed.open(form)
    send_and_receive(near, far, 50)
    assert bed.counted(backend) == {"packets": 50, "bytes": 50 * 172}
    records = list(unpack_changes(backend.dump()))
    expected = replace(flow(), tos=184, clock_rates=((96, 48000),))
    assert [record.installed for record in records] == [InstalledFlow(expected, Slot(1, GENERATION))]
    assert kernel_lab.remove_flow(backend, expected, Slot(1, GENERATION)) == 0
    assert backend.dump() == bytearray()


@pytest.mark.parametrize("form", FORMS)
def test_successor_swaps_its_program_in_without_a_gap(bed: Bed, form: TcForm) -> None:
    first = bed.open(form)
    bed.install(first, flow())
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    for sequence in range(20):
        bed.open(form)  # the one before is still there: as if it had been killed only now
        near.sendto(rtp(sequence), (LOCAL[4].address, LOCAL[4].port))
    for sequence in range(20):
        assert receive(far) == (rtp(sequence), (SENDER[4].address, SENDER[4].port))


def test_without_pins_links_end_with_the_process(bed: Bed) -> None:
    before = bed.programs()
    backend = bed.open(TcForm.TCX, pinned=False)
    bed.install(backend, flow())
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    send_and_receive(near, far)
    bed.p.call(backend.leave)
    assert bed.programs() == before


def test_pins_of_another_version_are_removed(bed: Bed) -> None:
    bed.p.call(bed.open(TcForm.TCX).leave)
    for name in bed.names():
        (bed.pins / name).rename(bed.pins / name.replace(f"v{ABI}-", "v99-", 1))
    (bed.pins / "v99-clsact-1").mkdir()
    (bed.pins / "other").mkdir()
    backend = bed.open(TcForm.TCX)
    names = {path.name for path in bed.pins.iterdir()}
    assert not [name for name in names if name.startswith("v99")]
    assert "other" in names
    bed.install(backend, flow())
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    send_and_receive(near, far)
    assert bed.counted(backend)["packets"] == 1  # one program is there, not two
    (bed.pins / "other").rmdir()


def test_empty_maps_that_are_too_small_are_replaced(bed: Bed) -> None:
    bed.p.call(bed.open(slots=16).leave)
    assert bed.open(slots=SLOTS).slots == SLOTS


def test_small_maps_with_flows_are_kept_and_said(bed: Bed) -> None:
    first = bed.open(slots=16)
    bed.install(first, flow())
    bed.p.call(first.leave)
    backend = bed.p.call(lambda: open_tc(bed.settings()))
    bed.opened.append(backend)
    assert backend.slots == 16
    said = bed.attach(backend)
    assert len(said) == 1
    assert "room for 16 instead of 256" in said[0]
    assert len(list(unpack_changes(backend.dump()))) == 1


def test_larger_maps_are_kept_as_they_are(bed: Bed) -> None:
    bed.p.call(bed.open(slots=SLOTS).leave)
    assert bed.open(slots=16).slots == SLOTS


def test_half_of_the_pins_is_worth_nothing(bed: Bed) -> None:
    first = bed.open()
    bed.install(first, flow())
    bed.p.call(first.leave)
    (bed.pins / f"v{ABI}-flow_stats").unlink()
    assert bed.open().dump() == bytearray()


# ---- many flows ----


def numbered(number: int, slots: int) -> InstalledFlow:
    local = Endpoint(f"10.{1 + number // 30000}.0.1", 2000 + 2 * (number % 30000))
    return InstalledFlow(replace(flow(), local=local), Slot(number % slots, GENERATION))


def memory_kilobytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def test_installing_and_removing_over_and_over_lets_nothing_grow(bed: Bed) -> None:
    """60 000 installs and removals at SOAK_SCALE=1, a tenth of it otherwise."""
    rounds = max(1, round(60 * SCALE))
    backend = bed.open(slots=1024)
    flows = [numbered(number, 1024) for number in range(1000)]

    def one_round() -> None:
        sets = [FlowRecord(SET, installed, 1, 1500) for installed in flows]
        removals = [FlowRecord(REMOVE, installed) for installed in flows]
        assert set(kernel_lab.apply(backend, sets)) == {0}
        assert set(kernel_lab.apply(backend, removals)) == {0}

    one_round()
    descriptors, memory = len(os.listdir("/proc/self/fd")), memory_kilobytes()
    for _ in range(rounds):
        one_round()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert memory_kilobytes() - memory < 4096
    assert backend.dump() == bytearray()


def test_full_map_says_so_and_takes_flows_again_after_a_removal(bed: Bed) -> None:
    backend = bed.open(slots=64)
    flows = [numbered(number, 64) for number in range(65)]
    results = kernel_lab.apply(backend, [FlowRecord(SET, installed, 1) for installed in flows])
    assert results == [0] * 64 + [-errno.ENOSPC]
    assert kernel_lab.apply(backend, [FlowRecord(REMOVE, flows[0]), FlowRecord(SET, flows[64], 1)]) == [0, 0]


def test_twenty_thousand_flows_are_installed_found_and_removed(bed: Bed) -> None:
    """The time is printed (`pytest -rP`), not asserted."""
    backend = bed.open(slots=20_000)
    flows = [numbered(number, 20_000) for number in range(20_000)]
    records = bytearray().join(kernel_lab.flow_records.pack_record(FlowRecord(SET, one, 1)) for one in flows)
    began = time.perf_counter()
    backend.apply(records)
    inserted = time.perf_counter()
    assert set(kernel_lab.flow_records.results(records)) == {0}
    before_dump = time.perf_counter()
    dumped = backend.dump()
    dump_time = time.perf_counter() - before_dump
    assert {record.installed for record in unpack_changes(dumped)} == set(flows)
    removals = bytearray().join(kernel_lab.flow_records.pack_record(FlowRecord(REMOVE, one)) for one in flows)
    before_removal = time.perf_counter()
    backend.apply(removals)
    removed = time.perf_counter()
    assert backend.dump() == bytearray()
    print(
        f"20000 flows: installed in {1e3 * (inserted - began):.1f} ms, dumped in {1e3 * dump_time:.1f} ms,"
        f" removed in {1e3 * (removed - before_removal):.1f} ms"
    )


def test_tap_hands_copies_of_live_packets_to_another_descriptor(bed: Bed) -> None:
    backend = bed.open()
    bed.install(backend, replace(flow(), tap=True))
    reader = TapReader(backend.tap_fd)
    near, far = bed.socket(bed.a, SOURCE[4]), bed.socket(bed.b, TARGET[4])
    send_and_receive(near, far)
    (copy,) = list(reader.take())
    packet = IP(copy.packet)
    assert (packet.src, packet.dst, bytes(packet[UDP].payload)) == ("10.1.0.2", "10.1.0.1", rtp(1))
    assert copy.ifindex == kernel_lab.ifindex(bed.p, "pA")
    reader.close()


# ---- XDP ----


@pytest.mark.parametrize("form", [pytest.param(XdpForm.AUTO, id="auto"), pytest.param(XdpForm.GENERIC, id="generic")])
@pytest.mark.parametrize(("family", "family_out"), [(4, 4), (6, 6), (4, 6), (6, 4)])
def test_xdp_relays_between_sockets(bed: Bed, form: XdpForm, family: int, family_out: int) -> None:
    # XDP sees the packet before its checksum is filled in: a sender on this very machine has to do so itself.
    kernel_lab.set_offload(bed.a, "aP", tx_checksum=False)
    bed.p.sysctl(ipv4__conf__all__forwarding=1, ipv6__conf__all__forwarding=1)
    # A veth takes what native XDP redirects to it only while its peer runs NAPI, which GRO switches on, too.
    kernel_lab.set_offload(bed.b, "bP", gro=True)
    backend = bed.p.call(lambda: open_xdp(bed.settings(), form))
    bed.opened.append(backend)
    assert bed.attach(backend) == []
    shown = bed.p.ip("link", "show", "dev", "pA")
    assert ("xdp " if form is XdpForm.AUTO else "xdpgeneric ") in shown
    bed.install(backend, flow(family, family_out))
    near, far, relay = (
        bed.socket(bed.a, SOURCE[family]),
        bed.socket(bed.b, TARGET[family_out]),
        bed.socket(bed.p, LOCAL[family]),
    )
    # Without a neighbour entry packets are the stack's.
    probe = bed.socket(bed.p, Endpoint(SENDER[family_out].address, 0))

    def resolved() -> bool:
        probe.sendto(b"hello", (TARGET[family_out].address, 9))
        return "lladdr" in bed.p.ip("neigh", "show", TARGET[family_out].address)

    wait_until(resolved, 2.0, "the neighbour")
    source = send_and_receive(near, far, 1, family)
    assert source == (SENDER[family_out].address, SENDER[family_out].port)
    assert kernel_lab.nothing_waits(relay)
    assert bed.counted(backend) == {"packets": 1, "bytes": 172}
    near.sendto(b"hello", (LOCAL[family].address, LOCAL[family].port))
    received = receive(relay)
    assert received is not None
    assert received[0] == b"hello"
    bed.p.call(backend.remove)
    assert "mpo_xdp" not in bed.programs()
    assert bed.names() == []


def test_xdp_says_what_keeps_it_from_forwarding_and_leaves_others_programs(bed: Bed) -> None:
    tun = kernel_lab.open_tun(bed.p, "tun0")
    bed.lab.on_exit(lambda: os.close(tun))
    with kernel_lab.bpffs() as pins:
        other = bed.p.call(lambda: open_xdp(BackendSettings("other", pins, SLOTS), XdpForm.GENERIC))
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: bed.p.call(other.remove))
            only = [link for link in kernel_lab.links(bed.p) if link.name == "pB"]
            bed.p.call(lambda: other.attach(only))
            backend = bed.p.call(lambda: open_xdp(bed.settings(), XdpForm.GENERIC))
            bed.opened.append(backend)
            said = "\n".join(bed.attach(backend))
    assert "XDP forwards nothing towards pA" in said
    assert "pB: another program is attached there" in said
    assert "tun0: XDP needs an Ethernet device" in said


def test_successor_of_the_other_kind_finds_the_flows(bed: Bed) -> None:
    first = bed.open()
    bed.install(first, flow())
    bed.p.call(first.leave)
    backend = bed.p.call(lambda: open_xdp(bed.settings(), XdpForm.GENERIC))
    bed.opened.append(backend)
    bed.attach(backend)
    assert len(list(unpack_changes(backend.dump()))) == 1
    assert "prog/xdp" in bed.p.ip("link", "show", "dev", "pA")
    assert kernel_lab.tcx_programs(bed.p, "pA") == 0


# ---- what is said when it cannot be had ----


def refusal(*prefix: str, folder: Path | None = None) -> str:
    """What a process says that is started with ``prefix`` in front."""
    script = textwrap.dedent(
        """
        import pathlib, sys
        from mediaproxy.backends.bpf import open_tc
        from mediaproxy.backends.kernel_backend import BackendSettings
        from mediaproxy.errors import OffloadError
        try:
            open_tc(BackendSettings("test", pathlib.Path(sys.argv[1]) if sys.argv[1:] else None, 16))
        except OffloadError as error:
            print(error)
        """
    )
    command = [*prefix, sys.executable, "-c", script, *([str(folder)] if folder else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return done.stdout.strip()


def test_process_without_capabilities_is_told_which_it_needs() -> None:
    said = refusal("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
    assert said == "eBPF is refused: it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or root), in a container too"


def test_folder_that_is_no_bpffs_is_named(tmp_path: Path) -> None:
    expected = "is not a folder of a mounted bpffs (mount -t bpf bpf FOLDER)"
    assert refusal(folder=tmp_path) == f"{tmp_path} {expected}"
    assert refusal(folder=tmp_path / "none") == f"{tmp_path / 'none'} {expected}"


def test_backend_is_what_the_privileged_process_expects(bed: Bed) -> None:
    backend = bed.open()
    assert isinstance(backend, BpfBackend)
    assert (backend.name, backend.slots, list(backend.watch_fds)) == ("tc", SLOTS, [])
    capabilities = backend.capabilities
    assert capabilities.family_change
    assert capabilities.rtp_statistics
    assert capabilities.any_source
    assert capabilities.strict_source
    assert capabilities.opaque
    assert capabilities.tap
