"""Checks of ports, descriptors and buffers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.host import Limit
from mediaproxy.doctor.ports import check_descriptors, check_port_range, check_receive_buffer
from mediaproxy.doctor.subject import Subject
from tests.unit.doctor.fakes import RELAY, FakeHost, severities, subject_of


def test_port_range_outside_the_kernels_is_fine() -> None:
    assert severities(check_port_range(FakeHost(), subject_of(RELAY))) == {
        "ports": Severity.OK,
        "port-overlap": Severity.OK,
    }


def test_port_range_that_is_tiny_is_a_warning() -> None:
    found = list(check_port_range(FakeHost(), subject_of(RELAY, port_min=20000, port_max=20039)))
    assert found[0].severity is Severity.WARNING
    assert "10 calls" in found[0].seen


@pytest.mark.parametrize(("chosen", "severity"), [(True, Severity.WARNING), (False, Severity.NOTE)])
def test_port_range_overlap_is_worse_where_somebody_chose_it(chosen: bool, severity: Severity) -> None:
    subject = replace(subject_of(RELAY, port_min=32000, port_max=33001), default_ports=not chosen)
    _, overlap = check_port_range(FakeHost(), subject)
    assert overlap.severity is severity
    assert "32768-33001" in overlap.seen
    assert "port-max to 32767" in overlap.advice


def test_port_range_overlap_with_reserved_ports_is_fine() -> None:
    host = FakeHost()
    host.files["/proc/sys/net/ipv4/ip_local_reserved_ports"] = "32768-34000"
    found = severities(check_port_range(host, subject_of(RELAY, port_min=32000, port_max=33001)))
    assert found["port-overlap"] is Severity.OK


def test_port_range_without_a_usable_configuration_says_nothing() -> None:
    assert not list(check_port_range(FakeHost(), Subject()))


@pytest.mark.parametrize(
    ("hard", "severity"),
    [(8000, Severity.OK), (7992, Severity.NOTE), (1600, Severity.WARNING), (None, None)],
)
def test_descriptors_are_compared_with_the_ports(hard: int | None, severity: Severity | None) -> None:
    found = [
        finding.severity for finding in check_descriptors(FakeHost(descriptors=Limit(1024, hard)), subject_of(RELAY))
    ]
    assert found == ([] if severity is None else [severity])


def test_descriptors_beyond_nr_open_say_so() -> None:
    host = FakeHost(descriptors=Limit(1024, 4096))
    host.files["/proc/sys/fs/nr_open"] = "4096"
    (finding,) = check_descriptors(host, subject_of(RELAY))
    assert finding.advice.startswith("sysctl fs.nr_open=8000; LimitNOFILE=8000")


@pytest.mark.parametrize(
    ("limit", "severity"), [("4194304", Severity.OK), ("212992", Severity.NOTE), ("65536", Severity.WARNING)]
)
def test_receive_buffer_small_ones_are_said(limit: str, severity: Severity) -> None:
    host = FakeHost()
    host.files["/proc/sys/net/core/rmem_max"] = limit
    assert severities(check_receive_buffer(host, Subject())) == {"receive-buffer": severity}


def test_receive_buffer_not_visible_in_a_namespace_says_nothing() -> None:
    host = FakeHost()
    del host.files["/proc/sys/net/core/rmem_max"]
    assert not list(check_receive_buffer(host, Subject()))
