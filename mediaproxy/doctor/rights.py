"""What this process may do: capabilities, BPF file system, locked memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.kernel import MEMORY_ACCOUNTING, kernel_version
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.run_folder import SYSTEM_BPF

_SYS_RESOURCE: Final = 24
_MEMORY_NEEDED: Final = 128 << 20
"""Of maps for 50 000 calls; they are made at once in full size."""


def check_capabilities(host: Host, subject: Subject) -> Iterator[Finding]:
    """What the kernel path needs to be started; the daemon gives it all up afterwards."""
    held = host.capabilities()
    if not subject.wants_kernel:
        return
    bpf = bool(held & {Capability.BPF, Capability.SYS_ADMIN})
    if Capability.NET_ADMIN not in held:
        yield Finding(
            "capabilities",
            Severity.WARNING,
            "without CAP_NET_ADMIN there is no kernel path: all media takes the sockets (this process was asked, the "
            "daemon may be started with more)",
            "start as root and give `user`, or AmbientCapabilities=CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_SYS_ADMIN",
        )
    elif not bpf:
        yield Finding(
            "capabilities",
            Severity.WARNING,
            "CAP_NET_ADMIN, but neither CAP_BPF nor CAP_SYS_ADMIN: no tc and no xdp, at best nft",
            "add CAP_BPF and CAP_PERFMON",
        )
    else:
        yield Finding("capabilities", Severity.OK, "CAP_NET_ADMIN and BPF; the daemon gives them up after its start")


def check_bpf_file_system(host: Host, subject: Subject) -> Iterator[Finding]:
    """Flows outlive the daemon only if they can be pinned."""
    if not subject.wants_kernel:
        return
    file_systems = (host.read("/proc/filesystems") or "").split()
    own = subject.run_folder / subject.instance / "bpf"
    if "bpf" not in file_systems:
        yield Finding(
            "bpffs",
            Severity.WARNING,
            "this kernel has no BPF file system: with tc and xdp, forwarding ends with the daemon",
            "use a kernel with CONFIG_BPF_SYSCALL",
        )
    elif Capability.SYS_ADMIN not in host.capabilities():
        yield Finding(
            "bpffs",
            Severity.NOTE,
            f"without CAP_SYS_ADMIN no BPF file system can be mounted at {own}",
            f"prepare the folder {SYSTEM_BPF / subject.instance}, or forwarding by tc and xdp ends with the daemon",
        )
    else:
        yield Finding("bpffs", Severity.OK, f"the daemon mounts its own at {own}")


def check_locked_memory(host: Host, subject: Subject) -> Iterator[Finding]:
    """Before 5.11 BPF maps are locked memory."""
    if not subject.wants_kernel or kernel_version(host.release) >= MEMORY_ACCOUNTING:
        return
    limit = host.locked_memory_limit()
    if limit.hard is None or limit.hard >= _MEMORY_NEEDED or _SYS_RESOURCE in host.capabilities():
        yield Finding("memlock", Severity.OK, "enough memory may be locked for the maps of tc and xdp")
    else:
        yield Finding(
            "memlock",
            Severity.WARNING,
            f"at most {limit.hard // 1024} KiB may be locked, and on this kernel BPF maps are locked memory",
            "LimitMEMLOCK=infinity (ulimit -l unlimited)",
        )
