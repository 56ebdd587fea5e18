"""Checks of addresses and devices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.host import Device
from mediaproxy.doctor.network import (
    MERGING_OFFLOADS,
    check_addresses,
    check_forwarding,
    check_mtu,
    check_offloads,
    check_rp_filter,
)
from mediaproxy.privileged.settings import KernelPath
from tests.unit.doctor.fakes import OTHER, RELAY, FakeHost, eth, subject_of

ONE = subject_of(RELAY)
TWO = subject_of(RELAY, OTHER)


def test_addresses_all_there_are_named_with_their_devices() -> None:
    (finding,) = check_addresses(FakeHost(), ONE)
    assert finding.severity is Severity.OK
    assert f"{RELAY} (eth0)" in finding.seen


def test_addresses_absent_is_a_problem_unless_it_may_be_bound() -> None:
    (finding,) = check_addresses(FakeHost(network=()), ONE)
    assert finding.severity is Severity.PROBLEM
    assert RELAY in finding.seen
    assert "ip_nonlocal_bind" in finding.advice
    (finding,) = check_addresses(FakeHost(network=(), bindable=frozenset({RELAY})), ONE)
    assert finding.severity is Severity.NOTE


def test_addresses_on_a_device_that_is_down_is_a_problem() -> None:
    (finding,) = check_addresses(FakeHost(network=(eth(up=False),)), ONE)
    assert finding.severity is Severity.PROBLEM
    assert finding.advice == "ip link set eth0 up"


@pytest.mark.parametrize(
    ("everywhere", "device", "strict"), [("0", "0", False), ("0", "1", True), ("1", "0", True), ("1", "2", False)]
)
def test_rp_filter_the_higher_value_is_in_force(everywhere: str, device: str, strict: bool) -> None:
    host = FakeHost(network=(eth(), eth("eth1", OTHER)))
    host.files["/proc/sys/net/ipv4/conf/all/rp_filter"] = everywhere
    host.files["/proc/sys/net/ipv4/conf/eth0/rp_filter"] = device
    host.files["/proc/sys/net/ipv4/conf/eth1/rp_filter"] = "2"
    (finding,) = check_rp_filter(host, TWO)
    assert finding.severity is (Severity.WARNING if strict else Severity.OK)
    assert ("net.ipv4.conf.eth0.rp_filter=2" in finding.advice) == strict
    assert "eth1.rp_filter" not in finding.advice


def test_rp_filter_strict_with_one_device_is_a_note() -> None:
    host = FakeHost()
    host.files["/proc/sys/net/ipv4/conf/eth0/rp_filter"] = "1"
    (finding,) = check_rp_filter(host, ONE)
    assert finding.severity is Severity.NOTE


def test_rp_filter_of_devices_without_relay_addresses_does_not_matter() -> None:
    host = FakeHost(network=(eth(), eth("eth1", OTHER)))
    host.files["/proc/sys/net/ipv4/conf/eth1/rp_filter"] = "1"
    (finding,) = check_rp_filter(host, ONE)
    assert finding.severity is Severity.OK


@pytest.mark.parametrize(
    ("path", "forwarding", "severity"),
    [
        (KernelPath.IPTABLES, "0", Severity.WARNING),
        (KernelPath.IPTABLES, "1", Severity.OK),
        (KernelPath.XDP, "0", Severity.WARNING),
        (KernelPath.AUTO, "0", Severity.OK),
    ],
)
def test_forwarding_only_iptables_and_xdp_need_it(path: KernelPath, forwarding: str, severity: Severity) -> None:
    host = FakeHost()
    host.files["/proc/sys/net/ipv4/ip_forward"] = forwarding
    (finding,) = check_forwarding(host, replace(ONE, kernel_path=path))
    assert finding.severity is severity


@pytest.mark.parametrize(
    ("mtu", "severity"), [(1500, Severity.OK), (9000, Severity.OK), (1400, Severity.NOTE), (1200, Severity.WARNING)]
)
def test_mtu_small_ones_are_named(mtu: int, severity: Severity) -> None:
    (finding,) = check_mtu(FakeHost(network=(eth(mtu=mtu),)), ONE)
    assert finding.severity is severity
    assert str(mtu) in finding.seen


@pytest.mark.parametrize("offload", MERGING_OFFLOADS)
def test_offloads_that_merge_packets_are_a_problem(offload: str) -> None:
    host = FakeHost(offloads={"eth0": {offload: True, "rx-gro": True}})
    (finding,) = check_offloads(host, ONE)
    assert finding.severity is Severity.PROBLEM
    assert finding.advice == f"ethtool -K eth0 {offload} off"
    (finding,) = check_offloads(host, replace(ONE, kernel_path=KernelPath.USERSPACE))
    assert finding.severity is Severity.WARNING


def test_offloads_plain_gro_and_unknown_devices_are_fine() -> None:
    for offloads in ({"eth0": {"rx-gro": True, "rx-gro-list": False}}, {}):
        (finding,) = check_offloads(FakeHost(offloads=dict(offloads)), ONE)
        assert finding.severity is Severity.OK


def test_loopback_is_no_relay_device() -> None:
    loopback = Device("lo", 65536, up=True, loopback=True, addresses=("127.0.0.1",))
    host = FakeHost(network=(loopback,), offloads={"lo": {"rx-gro-list": True}})
    assert not list(check_offloads(host, subject_of("127.0.0.1")))
    assert not list(check_mtu(host, subject_of("127.0.0.1")))
