"""Checks of connection tracking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.doctor.conntrack import check_conntrack_table, check_tracked_media
from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.settings import KernelPath
from tests.unit.doctor.fakes import RELAY, FakeHost, severities, subject_of

ONE = subject_of(RELAY)
IPTABLES = replace(ONE, kernel_path=KernelPath.IPTABLES)
ENTRY = (
    "ipv4     2 udp      17 29 src=10.0.0.9 dst={dst} sport=4000 dport={port} src={dst} dst=10.0.0.9 sport=1 dport=2"
)


def _host(count: int, limit: int, *entries: str) -> FakeHost:
    host = FakeHost()
    host.files["/proc/sys/net/netfilter/nf_conntrack_count"] = str(count)
    host.files["/proc/sys/net/netfilter/nf_conntrack_max"] = str(limit)
    host.files["/proc/thread-self/net/nf_conntrack"] = "\n".join(entries)
    return host


def test_table_not_loaded_is_fine() -> None:
    assert severities(check_conntrack_table(FakeHost(), ONE)) == {"conntrack": Severity.OK}


@pytest.mark.parametrize(
    ("count", "severity"), [(10, Severity.OK), (60, Severity.WARNING), (89, Severity.WARNING), (90, Severity.PROBLEM)]
)
def test_table_that_fills_up_is_said(count: int, severity: Severity) -> None:
    (finding,) = check_conntrack_table(_host(count, 100), ONE)
    assert finding.severity is severity
    assert f"{count} of 100" in finding.seen
    assert ("nf_conntrack_max=200" in finding.advice) == (severity is not Severity.OK)


def test_table_too_small_for_the_calls_of_iptables_is_a_warning() -> None:
    # 4000 ports are 1000 calls are 4000 entries.
    found = severities(check_conntrack_table(_host(0, 3999), IPTABLES))
    assert found["conntrack-size"] is Severity.WARNING
    assert "conntrack-size" not in severities(check_conntrack_table(_host(0, 4000), IPTABLES))
    assert "conntrack-size" not in severities(check_conntrack_table(_host(0, 3999), ONE))


def test_media_tracked_is_counted_with_advice() -> None:
    host = _host(
        3,
        100,
        ENTRY.format(dst=RELAY, port=20000),
        ENTRY.format(dst=RELAY, port=23999),
        ENTRY.format(dst=RELAY, port=24000),
        ENTRY.format(dst="10.1.1.1", port=20000),
        ENTRY.format(dst=RELAY, port=20000).replace("udp ", "tcp "),
    )
    (finding,) = check_tracked_media(host, ONE)
    assert finding.severity is Severity.WARNING
    assert finding.seen.startswith("2 tracked")
    assert "udp dport 20000-23999 notrack" in finding.advice


def test_media_tracked_over_ipv6_is_found() -> None:
    entry = ENTRY.format(dst="2001:0db8:0000:0000:0000:0000:0000:0001", port=20000)
    assert severities(check_tracked_media(_host(1, 100, entry), subject_of("2001:db8::1")))


def test_media_tracked_is_how_iptables_works() -> None:
    host = _host(1, 100, ENTRY.format(dst=RELAY, port=20000))
    assert not list(check_tracked_media(host, IPTABLES))


def test_media_without_table_or_interfaces_says_nothing() -> None:
    assert not list(check_tracked_media(FakeHost(), ONE))
    assert not list(check_tracked_media(_host(1, 100, ENTRY.format(dst=RELAY, port=20000)), Subject()))
