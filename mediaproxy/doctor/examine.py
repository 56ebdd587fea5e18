"""The examination: all checks in order."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from mediaproxy.doctor.backends import check_backends, check_nft_form
from mediaproxy.doctor.clock import check_clock, check_clock_source
from mediaproxy.doctor.conntrack import check_conntrack_table, check_tracked_media
from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.instance import check_instance
from mediaproxy.doctor.kernel import check_jit, check_lockdown, check_unprivileged_bpf, check_version
from mediaproxy.doctor.network import (
    check_addresses,
    check_forwarding,
    check_mtu,
    check_offloads,
    check_rp_filter,
)
from mediaproxy.doctor.ports import check_descriptors, check_port_range, check_receive_buffer
from mediaproxy.doctor.rights import check_bpf_file_system, check_capabilities, check_locked_memory
from mediaproxy.doctor.subject import Subject

Check = Callable[[Host, Subject], Iterable[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    check_version,
    check_jit,
    check_unprivileged_bpf,
    check_lockdown,
    check_capabilities,
    check_bpf_file_system,
    check_locked_memory,
    check_backends,
    check_nft_form,
    check_addresses,
    check_offloads,
    check_rp_filter,
    check_forwarding,
    check_mtu,
    check_conntrack_table,
    check_tracked_media,
    check_port_range,
    check_descriptors,
    check_receive_buffer,
    check_clock,
    check_clock_source,
    check_instance,
)


def examine(host: Host, subject: Subject, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Run all checks; one that breaks is a finding itself and stops none of the others."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(host, subject)
        except Exception:  # noqa: BLE001  # the boundary of a check
            name, error = getattr(check, "__name__", "a check"), traceback.format_exc().strip().splitlines()[-1]
            findings.append(
                Finding("internal-error", Severity.PROBLEM, f"{name} failed: {error}", "please report this")
            )
    return findings
