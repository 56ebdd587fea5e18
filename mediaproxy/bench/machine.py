"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import resource
from datetime import UTC, datetime
from pathlib import Path


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _hypervisor() -> bool:
    return any(
        line.startswith("flags") and " hypervisor" in line for line in Path("/proc/cpuinfo").read_text().splitlines()
    )


def _memory_mib() -> int:
    words = Path("/proc/meminfo").read_text().splitlines()[0].split()
    return int(words[1]) // 1024


def describe_machine() -> dict[str, object]:
    """CPU, cores, kernel, load and limits, for the head of the report."""
    release = platform.freedesktop_os_release()
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "virtual": _hypervisor(),
        "memory_mib": _memory_mib(),
        "kernel": platform.release(),
        "system": release.get("PRETTY_NAME", "unknown"),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "descriptor_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
