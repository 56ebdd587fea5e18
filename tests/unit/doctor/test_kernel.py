"""Checks of the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.kernel import (
    check_jit,
    check_lockdown,
    check_unprivileged_bpf,
    check_version,
    kernel_version,
)
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.settings import KernelPath
from tests.unit.doctor.fakes import FakeHost, severities


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.1.0-18-amd64", (6, 1)), ("5.10", (5, 10)), ("6.18.44-fc-v595", (6, 18)), ("strange", (0, 0))],
)
def test_kernel_version_is_read_from_the_release(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


@pytest.mark.parametrize(
    ("release", "severity", "word"),
    [
        ("6.6.1", Severity.OK, "TCX"),
        ("6.5.9", Severity.NOTE, "clsact"),
        ("5.10.0", Severity.NOTE, "clsact"),
        ("5.9.0", Severity.WARNING, "redirect_neigh"),
        ("strange", Severity.NOTE, "cannot be read"),
    ],
)
def test_version_says_what_the_kernel_has(release: str, severity: Severity, word: str) -> None:
    (finding,) = check_version(FakeHost(release=release), Subject())
    assert finding.severity is severity
    assert word in finding.seen
    assert bool(finding.advice) == (severity is not Severity.OK and word != "cannot be read")


@pytest.mark.parametrize(("release", "warned"), [("6.8.0", True), ("6.9.0", False)])
def test_version_owned_tables_on_an_old_kernel_are_a_warning(release: str, warned: bool) -> None:
    found = severities(check_version(FakeHost(release=release), replace(Subject(), nft_owner=True)))
    assert (found.get("nft-owner") is Severity.WARNING) == warned


def test_jit_switched_off_is_a_warning_and_not_visible_says_nothing() -> None:
    host = FakeHost()
    assert severities(check_jit(host, Subject())) == {"bpf-jit": Severity.OK}
    host.files["/proc/sys/net/core/bpf_jit_enable"] = "0"
    (finding,) = check_jit(host, Subject())
    assert finding.severity is Severity.WARNING
    assert "net.core.bpf_jit_enable=1" in finding.advice
    (finding,) = check_jit(host, replace(Subject(), kernel_path=KernelPath.USERSPACE))
    assert finding.severity is Severity.NOTE
    del host.files["/proc/sys/net/core/bpf_jit_enable"]
    assert not list(check_jit(host, Subject()))


@pytest.mark.parametrize(("value", "severity"), [("0", Severity.NOTE), ("1", Severity.OK), ("2", Severity.OK)])
def test_unprivileged_bpf_allowed_is_a_note(value: str, severity: Severity) -> None:
    host = FakeHost()
    host.files["/proc/sys/kernel/unprivileged_bpf_disabled"] = value
    assert severities(check_unprivileged_bpf(host, Subject())) == {"unprivileged-bpf": severity}


def test_unprivileged_bpf_before_5_19_says_who_changes_flows() -> None:
    (finding,) = check_unprivileged_bpf(FakeHost(release="5.18.0"), Subject())
    assert "privileged process" in finding.seen


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("[none] integrity confidentiality", Severity.OK),
        ("none [integrity] confidentiality", Severity.OK),
        ("none integrity [confidentiality]", Severity.NOTE),
    ],
)
def test_lockdown_confidentiality_is_a_note(text: str, severity: Severity) -> None:
    host = FakeHost()
    host.files["/sys/kernel/security/lockdown"] = text
    assert severities(check_lockdown(host, Subject())) == {"lockdown": severity}
