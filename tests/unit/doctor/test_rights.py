"""Checks of what this process may do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.host import Limit
from mediaproxy.doctor.rights import check_bpf_file_system, check_capabilities, check_locked_memory
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.settings import KernelPath
from tests.unit.doctor.fakes import FakeHost

USERSPACE = replace(Subject(), kernel_path=KernelPath.USERSPACE)


@pytest.mark.parametrize(
    ("held", "severity", "word"),
    [
        ({Capability.NET_ADMIN, Capability.BPF}, Severity.OK, "gives them up"),
        ({Capability.NET_ADMIN, Capability.SYS_ADMIN}, Severity.OK, "gives them up"),
        ({Capability.NET_ADMIN}, Severity.WARNING, "at best nft"),
        (set[int](), Severity.WARNING, "no kernel path"),
        ({Capability.BPF}, Severity.WARNING, "no kernel path"),
    ],
)
def test_capabilities_too_few_are_a_warning(held: set[int], severity: Severity, word: str) -> None:
    (finding,) = check_capabilities(FakeHost(held=frozenset(held)), Subject())
    assert finding.severity is severity
    assert word in finding.seen
    assert bool(finding.advice) == (severity is Severity.WARNING)


def test_rights_with_userspace_configured_do_not_matter() -> None:
    host = FakeHost(held=frozenset(), release="5.4.0", locked_memory=Limit(65536, 65536))
    for check in (check_capabilities, check_bpf_file_system, check_locked_memory):
        assert not list(check(host, USERSPACE))


def test_bpf_file_system_missing_or_not_to_be_mounted_is_said() -> None:
    host = FakeHost()
    (finding,) = check_bpf_file_system(host, Subject())
    assert finding.severity is Severity.OK
    assert "/run/mediaproxy/default/bpf" in finding.seen
    (finding,) = check_bpf_file_system(FakeHost(held=frozenset({Capability.NET_ADMIN})), Subject())
    assert finding.severity is Severity.NOTE
    assert "/sys/fs/bpf/mediaproxy/default" in finding.advice
    host.files["/proc/filesystems"] = "nodev\tsysfs"
    (finding,) = check_bpf_file_system(host, Subject())
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    ("release", "hard", "severity"),
    [
        ("5.10.0", 65536, Severity.WARNING),
        ("5.10.0", None, Severity.OK),
        ("5.10.0", 1 << 30, Severity.OK),
        ("5.11.0", 65536, None),
    ],
)
def test_locked_memory_counts_before_5_11(release: str, hard: int | None, severity: Severity | None) -> None:
    host = FakeHost(release=release, locked_memory=Limit(hard, hard))
    assert [finding.severity for finding in check_locked_memory(host, Subject())] == (
        [severity] if severity is not None else []
    )
