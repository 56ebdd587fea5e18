"""Time: is the clock right, and cheap to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject

_SLOW_SOURCES: Final = frozenset({"hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"})
"""Read by a system call of microseconds; the relay reads the clock for each batch of packets."""
_SOURCE: Final = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def check_clock(host: Host, _subject: Subject) -> Iterator[Finding]:
    """Times of calls are compared with those of other hosts."""
    clock = host.clock()
    if clock is None:
        return
    if clock.synchronised:
        yield Finding("clock", Severity.OK, f"synchronised, at most {clock.max_error * 1000:,.0f} ms off")
    else:
        yield Finding(
            "clock",
            Severity.WARNING,
            "the clock is not synchronised: times in logs and statistics cannot be compared with those of other hosts",
            "run chrony or systemd-timesyncd (timedatectl set-ntp true)",
        )


def check_clock_source(host: Host, _subject: Subject) -> Iterator[Finding]:
    """How the clock is read."""
    source = host.read(_SOURCE)
    if source is None:
        return
    if source in _SLOW_SOURCES:
        yield Finding(
            "clock-source",
            Severity.WARNING,
            f"the kernel reads its clock from {source}, which takes microseconds each time",
            "boot with clocksource=tsc, or find out in `dmesg` why tsc was given up",
        )
    else:
        yield Finding("clock-source", Severity.OK, f"clock source {source}")
