"""The tc and xdp backends above a C helper that only pretends: what is attached when, what is said, what is left."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import cast

import pytest

from mediaproxy.backends import bpf as backend_module
from mediaproxy.backends import qdisc
from mediaproxy.backends.bpf import BpfBackend, TcForm, XdpForm, open_tc, open_xdp
from mediaproxy.backends.flow_records import CHANGE, SET, FlowRecord, pack_record
from mediaproxy.backends.helper.bpf import Hook
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint

LO = Link(1, "lo", 65536, loopback=True)
ETH0 = Link(2, "eth0", 1500)
TUN0 = Link(3, "tun0", 1500, ethernet=False)
SETTINGS = BackendSettings("test", None, 100)


class FakeKernel:
    """The functions of ``mpo_bpf.h`` on a host of sets and dictionaries.

    Attributes:
        refuses: (ifindex or 0 for all, hook) and the result of attaching there.
        hooks: what is attached.
        qdiscs: devices with a clsact qdisc.
        calls: the names of the functions that end something, in order.
    """

    def __init__(self) -> None:
        self.refuses: dict[tuple[int, int], int] = {}
        self.hooks: set[tuple[int, int]] = set()
        self.qdiscs: set[int] = set()
        self.calls: list[str] = []
        self.open_result = 0
        self.log = ""
        self.slots = 100
        self.flows = 0
        self.apply_result = 0

    def open_bpf(
        self, pin_folder: Path | None, slots: int, tap_bytes: int, xdp: bool, identity: int
    ) -> tuple[int, object, str]:
        self.identity = identity
        return self.open_result, object(), self.log

    def apply_changes(self, bpf: object, records: bytearray, count: int) -> int:
        self.applied = count
        return self.apply_result

    def dump_changes(self, bpf: object, records: bytearray, capacity: int) -> int:
        if capacity < self.flows:
            return -errno.ENOBUFS
        flow = Flow(Endpoint("10.0.0.1", 2), None, Endpoint("10.0.0.1", 4), Endpoint("10.0.0.2", 6))
        for number in range(self.flows):
            record = pack_record(FlowRecord(SET, InstalledFlow(flow, Slot(number, 1))))
            records[number * CHANGE.size : (number + 1) * CHANGE.size] = record
        return self.flows

    def mpo_bpf_slots(self, bpf: object) -> int:
        return self.slots

    def mpo_bpf_attach(self, bpf: object, ifindex: int, hook: int, ethernet: int) -> int:
        for key in ((ifindex, hook), (0, hook)):
            if key in self.refuses:
                return self.refuses[key]
        self.hooks.add((ifindex, hook))
        if hook != Hook.CLSACT or ifindex in self.qdiscs:
            return 0
        self.qdiscs.add(ifindex)
        return 1

    def mpo_bpf_detach(self, bpf: object, ifindex: int, hook: int) -> int:
        self.hooks.discard((ifindex, hook))
        return 0

    def mpo_bpf_attached(self, bpf: object, ifindex: int, hook: int) -> int:
        return int((ifindex, hook) in self.hooks)

    def mpo_bpf_remove_qdisc(self, ifindex: int) -> int:
        self.qdiscs.discard(ifindex)
        return 0

    def mpo_bpf_unpin(self, bpf: object) -> int:
        self.calls.append("unpin")
        return 0

    def mpo_bpf_close(self, bpf: object) -> None:
        self.calls.append("close")


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(backend_module, "functions", fake)
    monkeypatch.setattr(backend_module, "helper", fake)
    monkeypatch.setattr(backend_module, "_is_forwarding", lambda device: True)
    monkeypatch.setattr(qdisc, "functions", fake)
    monkeypatch.setattr(qdisc, "has_filters", lambda ifindex: False)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0"), (3, "tun0")])
    return fake


def texts(events: list[DatapathEvent]) -> list[str]:
    return [event.text for event in events]


def test_tcx_is_taken_where_the_kernel_has_it(kernel: FakeKernel) -> None:
    assert open_tc(SETTINGS).attach([LO, ETH0]) == []
    assert kernel.hooks == {(1, Hook.TCX), (2, Hook.TCX)}


def test_clsact_is_taken_where_the_kernel_lacks_tcx(kernel: FakeKernel) -> None:
    kernel.refuses[0, Hook.TCX] = -errno.EINVAL
    assert open_tc(SETTINGS).attach([LO, ETH0]) == []
    assert kernel.hooks == {(1, Hook.CLSACT), (2, Hook.CLSACT)}


def test_chosen_form_is_not_replaced_by_another(kernel: FakeKernel) -> None:
    kernel.refuses[0, Hook.TCX] = -errno.EINVAL
    said = texts(open_tc(SETTINGS, TcForm.TCX).attach([ETH0]))
    assert said == ["packets that arrive here take the slow path: eth0: Invalid argument"]
    assert kernel.hooks == set()


def test_driver_that_refuses_xdp_gets_the_generic_one(kernel: FakeKernel) -> None:
    kernel.refuses[2, Hook.XDP_NATIVE] = -errno.EOPNOTSUPP
    assert open_xdp(SETTINGS).attach([LO, ETH0]) == []
    assert kernel.hooks == {(1, Hook.XDP_NATIVE), (2, Hook.XDP_GENERIC)}


def test_xdp_says_where_the_kernel_does_not_route(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "_is_forwarding", lambda device: device != "eth0")
    (said,) = texts(open_xdp(SETTINGS, XdpForm.GENERIC).attach([LO, ETH0]))
    assert "net.ipv4.conf.eth0.forwarding = 1" in said


def test_device_that_goes_is_let_go_and_a_new_one_is_named(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS)
    backend.attach([LO, ETH0])
    assert texts(backend.attach([LO, TUN0])) == ["tun0: TCX link attached"]
    assert kernel.hooks == {(1, Hook.TCX), (3, Hook.TCX)}


def test_refusals_are_said_again_only_when_their_number_changes(kernel: FakeKernel) -> None:
    kernel.refuses[2, Hook.TCX] = kernel.refuses[2, Hook.CLSACT] = -errno.EPERM
    backend = open_tc(SETTINGS)
    expected = "packets that arrive here take the slow path: eth0: needs CAP_NET_ADMIN"
    assert texts(backend.attach([LO, ETH0])) == [expected]
    assert backend.attach([LO, ETH0]) == []
    kernel.refuses[3, Hook.TCX] = kernel.refuses[3, Hook.CLSACT] = -errno.EBUSY
    (said,) = texts(backend.attach([LO, ETH0, TUN0]))
    assert said.endswith("eth0: needs CAP_NET_ADMIN; tun0: another program is attached there")
    kernel.refuses.clear()
    assert texts(backend.attach([LO, ETH0, TUN0])) == ["eth0: TCX link attached", "tun0: TCX link attached"]


def test_vanished_hook_is_put_back_and_said(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS, TcForm.CLSACT)
    backend.attach([LO, ETH0])
    assert backend.check() == []
    kernel.hooks.discard((2, Hook.CLSACT))
    assert backend.check() == [
        DatapathEvent(DatapathEventKind.LOST, "somebody removed the tc filter of eth0"),
        DatapathEvent(DatapathEventKind.RESTORED, "the tc filter of eth0 is back"),
    ]
    assert backend.check() == []


def test_hook_that_cannot_be_put_back_is_lost_once_and_restored_later(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS, TcForm.CLSACT)
    backend.attach([ETH0])
    kernel.hooks.clear()
    kernel.refuses[2, Hook.CLSACT] = -errno.ENOMEM
    assert [event.kind for event in backend.check()] == [DatapathEventKind.LOST]
    assert backend.check() == []
    kernel.refuses.clear()
    assert [event.kind for event in backend.check()] == [DatapathEventKind.RESTORED]


def test_device_that_is_gone_is_no_loss(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS)
    backend.attach([LO, ETH0])
    kernel.hooks.discard((2, Hook.TCX))
    kernel.refuses[2, Hook.TCX] = -errno.ENODEV
    assert backend.check() == []
    assert backend.check() == []


def test_removal_takes_hooks_own_qdiscs_and_pins(kernel: FakeKernel) -> None:
    kernel.qdiscs.add(1)  # somebody else's
    backend = open_tc(SETTINGS, TcForm.CLSACT)
    backend.attach([LO, ETH0])
    backend.remove()
    assert kernel.hooks == set()
    assert kernel.qdiscs == {1}
    assert kernel.calls == ["unpin", "close"]
    backend.remove()
    backend.leave()
    assert kernel.calls == ["unpin", "close"]


def test_own_qdisc_with_somebodys_filter_stays(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdisc, "has_filters", lambda ifindex: True)
    backend = open_tc(SETTINGS, TcForm.CLSACT)
    backend.attach([ETH0])
    backend.remove()
    assert kernel.qdiscs == {2}


def test_leaving_touches_nothing(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS)
    backend.attach([LO, ETH0])
    backend.leave()
    assert kernel.hooks == {(1, Hook.TCX), (2, Hook.TCX)}
    assert kernel.calls == ["close"]
    with pytest.raises(OffloadError, match="tc was closed"):
        backend.check()


def test_marks_of_own_qdiscs_outlive_the_process(kernel: FakeKernel, tmp_path: Path) -> None:
    settings = BackendSettings("test", tmp_path, 100)
    first = open_tc(settings, TcForm.CLSACT)
    first.attach([ETH0])
    first.leave()
    second = open_tc(settings, TcForm.CLSACT)
    second.attach([ETH0])
    second.remove()
    assert kernel.qdiscs == set()
    assert list(tmp_path.iterdir()) == []


def test_links_of_a_dead_process_are_removed(kernel: FakeKernel, tmp_path: Path) -> None:
    kernel.hooks = {(7, Hook.TCX), (8, Hook.XDP_GENERIC)}
    for name in ("v1-tcx-7", "v1-xdp-8", "v1-tcx-x", "v2-tcx-9", "other"):
        (tmp_path / name).touch()
    open_tc(BackendSettings("test", tmp_path, 100)).remove()
    assert kernel.hooks == set()


def test_hooks_of_another_form_are_removed_at_the_start_only(kernel: FakeKernel) -> None:
    kernel.hooks = {(2, Hook.CLSACT), (2, Hook.XDP_GENERIC)}
    backend = open_tc(SETTINGS, TcForm.TCX)
    backend.attach([ETH0])
    assert kernel.hooks == {(2, Hook.TCX)}
    kernel.hooks = {(2, Hook.CLSACT)}
    backend.check()
    assert (2, Hook.CLSACT) in kernel.hooks


def test_fewer_slots_than_asked_for_are_said(kernel: FakeKernel) -> None:
    kernel.slots = 10
    backend = open_tc(SETTINGS)
    assert backend.slots == 10
    (said,) = texts(backend.check())
    assert "room for 10 instead of 100" in said


def test_dump_asks_again_until_all_flows_fit(kernel: FakeKernel) -> None:
    kernel.slots = 10_000
    kernel.flows = 5000
    assert len(open_tc(SETTINGS).dump()) == 5000 * CHANGE.size
    kernel.flows = 20_000
    with pytest.raises(OffloadError):
        open_tc(SETTINGS).dump()


def test_apply_counts_records_and_reports_failure(kernel: FakeKernel) -> None:
    backend = open_tc(SETTINGS)
    backend.apply(bytearray(3 * CHANGE.size))
    assert kernel.applied == 3
    kernel.apply_result = -errno.ENOMEM
    with pytest.raises(OffloadError, match="Cannot allocate memory"):
        backend.apply(bytearray(CHANGE.size))


def test_instances_have_identities_of_their_own(kernel: FakeKernel) -> None:
    identities = set()
    for name in ("a", "b", "default"):
        open_tc(BackendSettings(name, None, 100))
        identities.add(kernel.identity)
    assert len(identities) == 3


@pytest.mark.parametrize(
    ("number", "log", "expected"),
    [
        (errno.EPERM, "", "needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        (errno.EACCES, "", "needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        (errno.ENOSYS, "", "CONFIG_BPF_SYSCALL"),
        (errno.ENOMEM, "", "no memory for 100 flows"),
        (errno.EXDEV, "", "mount -t bpf bpf"),
        (
            errno.EINVAL,
            "first\nunknown func bpf_redirect_neigh#152\n",
            "5.10 or newer (Invalid argument): unknown func",
        ),
        (errno.EINVAL, "", "5.10 or newer (Invalid argument)"),
    ],
)
def test_refusal_says_what_to_do(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, number: int, log: str, expected: str
) -> None:
    monkeypatch.setattr(backend_module, "_lockdown", lambda: "")
    kernel.open_result, kernel.log = -number, log
    with pytest.raises(OffloadError) as caught:
        open_tc(SETTINGS)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [("none integrity [confidentiality]\n", "confidentiality"), ("[none] integrity\n", ""), (None, "")],
)
def test_locked_down_kernel_is_named(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, expected: str
) -> None:
    path = tmp_path / "lockdown"
    if content is not None:
        path.write_text(content, encoding="ascii")
    monkeypatch.setattr(backend_module, "_LOCKDOWN", path)
    kernel.open_result = -errno.EPERM
    with pytest.raises(OffloadError) as caught:
        open_tc(SETTINGS)
    assert (f"locked down ({expected})" in str(caught.value)) == bool(expected)


def test_backend_has_the_shape_of_a_kernel_backend(kernel: FakeKernel) -> None:
    backend: KernelBackend = BpfBackend("tc", SETTINGS, [Hook.TCX])
    assert backend.name == "tc"
    assert list(backend.watch_fds) == []
    assert cast("BpfBackend", backend).capabilities.family_change
