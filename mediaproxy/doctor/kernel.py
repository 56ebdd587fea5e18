"""The kernel: its version, and what it lets BPF do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject

Version = tuple[int, int]

REDIRECT_NEIGH: Final[Version] = (5, 10)
"""bpf_redirect_neigh, by which the tc backend sends."""
MEMORY_ACCOUNTING: Final[Version] = (5, 11)
"""From here on BPF maps are charged to the memory cgroup, before to RLIMIT_MEMLOCK."""
UNPRIVILEGED_MAPS: Final[Version] = (5, 19)
"""From here on unprivileged_bpf_disabled leaves the maps of others alone that a process was given."""
TCX: Final[Version] = (6, 6)
OWNED_TABLES: Final[Version] = (6, 9)
"""nftables table flag persist."""


def kernel_version(release: str) -> Version:
    """``6.1.0-18-amd64`` is (6, 1); what cannot be read is (0, 0)."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def check_version(host: Host, subject: Subject) -> Iterator[Finding]:
    """What this version has of what the backends use."""
    version = kernel_version(host.release)
    if version == (0, 0):
        yield Finding("kernel", Severity.NOTE, f"kernel {host.release}: its version cannot be read")
    elif version < REDIRECT_NEIGH:
        yield Finding(
            "kernel",
            Severity.WARNING,
            f"kernel {host.release}: older than 5.10, so there is no tc backend (no bpf_redirect_neigh)",
            "use a newer kernel; until then nft carries the media, without RTP statistics",
        )
    elif version < TCX:
        yield Finding(
            "kernel",
            Severity.NOTE,
            f"kernel {host.release}: older than 6.6, so tc programs are attached as clsact filters (no TCX)",
            "`tc qdisc del dev X clsact` by others removes them; they are put back within 2 s",
        )
    else:
        yield Finding("kernel", Severity.OK, f"kernel {host.release}: TCX and bpf_redirect_neigh")
    if subject.nft_owner and version < OWNED_TABLES:
        yield Finding(
            "nft-owner",
            Severity.WARNING,
            f"kernel {host.release}: nftables table flags owner and persist need 6.9",
            "switch nft-owner off, or use a newer kernel",
        )


def check_jit(host: Host, subject: Subject) -> Iterator[Finding]:
    """Without the compiler each packet is interpreted."""
    jit = host.read("/proc/sys/net/core/bpf_jit_enable")  # not there in namespaces other than the first
    if jit == "0":
        yield Finding(
            "bpf-jit",
            Severity.WARNING if subject.wants_kernel else Severity.NOTE,
            "the BPF compiler is off: programs of tc and xdp are interpreted, several times slower",
            "sysctl net.core.bpf_jit_enable=1",
        )
    elif jit is not None:
        yield Finding("bpf-jit", Severity.OK, "the BPF compiler is on")


def check_unprivileged_bpf(host: Host, _subject: Subject) -> Iterator[Finding]:
    """Who may call bpf(2)."""
    value = host.read("/proc/sys/kernel/unprivileged_bpf_disabled")
    if value is None:
        return
    if value == "0":
        yield Finding(
            "unprivileged-bpf",
            Severity.NOTE,
            "any user of this host may load BPF programs; this proxy does not need that",
            "sysctl kernel.unprivileged_bpf_disabled=2",
        )
    elif kernel_version(host.release) < UNPRIVILEGED_MAPS:
        yield Finding(
            "unprivileged-bpf",
            Severity.OK,
            f"unprivileged_bpf_disabled={value}: on this kernel the privileged process alone changes flows",
        )
    else:
        yield Finding("unprivileged-bpf", Severity.OK, f"unprivileged_bpf_disabled={value}")


def check_lockdown(host: Host, _subject: Subject) -> Iterator[Finding]:
    """Kernel lockdown may refuse BPF."""
    text = host.read("/sys/kernel/security/lockdown")
    match = re.search(r"\[(\w+)\]", text or "")
    if match is None:
        return
    if match[1] == "confidentiality":
        yield Finding(
            "lockdown",
            Severity.NOTE,
            "the kernel is locked down (confidentiality): if tc is refused below, this may be why",
            "boot without lockdown=confidentiality, or let nft carry the media",
        )
    else:
        yield Finding("lockdown", Severity.OK, f"kernel lockdown: {match[1]}")
