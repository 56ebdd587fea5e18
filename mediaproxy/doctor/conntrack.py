"""Connection tracking: it costs, fills up, and then drops; the kernel path does not need it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mediaproxy.config.capacity import calls_for_ports
from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.settings import KernelPath

_FULL: Final = 0.9
_FILLING: Final = 0.6
_LINES: Final = 200_000
"""A table is looked through no further."""
_ENTRIES_PER_CALL: Final = 4
_ENTRY: Final = re.compile(r"\budp\b.*?\bdst=(\S+) sport=\d+ dport=(\d+)")
"""The first direction of an entry; the address is written out in full for IPv6."""


def check_conntrack_table(host: Host, subject: Subject) -> Iterator[Finding]:
    """How full the table is."""
    limit, count = (host.read(f"/proc/sys/net/netfilter/nf_conntrack_{name}") for name in ("max", "count"))
    if not (limit and count and limit.isdecimal() and count.isdecimal()):
        yield Finding("conntrack", Severity.OK, "connection tracking is not loaded")
        return
    used = int(count) / int(limit) if int(limit) else 0.0
    seen = f"connection tracking: {count} of {limit} entries in use"
    advice = f"sysctl net.netfilter.nf_conntrack_max={2 * int(limit)}, and do not track media (see conntrack-media)"
    if used >= _FULL:
        yield Finding("conntrack", Severity.PROBLEM, f"{seen}: when it is full, new packets are dropped", advice)
    elif used >= _FILLING:
        yield Finding("conntrack", Severity.WARNING, seen, advice)
    else:
        yield Finding("conntrack", Severity.OK, seen)
    calls = calls_for_ports(subject.ports)
    if subject.kernel_path is KernelPath.IPTABLES and int(limit) < calls * _ENTRIES_PER_CALL:
        yield Finding(
            "conntrack-size",
            Severity.WARNING,
            f"the table has room for {int(limit) // _ENTRIES_PER_CALL} calls, the port ranges for {calls}",
            f"sysctl net.netfilter.nf_conntrack_max={calls * _ENTRIES_PER_CALL}",
        )


def check_tracked_media(host: Host, subject: Subject) -> Iterator[Finding]:
    """Whether media is tracked at this moment."""
    addresses = {_written_out(address) for address in subject.addresses}
    tracked = sum(
        match[1] in addresses and any(low <= int(match[2]) <= high for low, high in subject.port_ranges)
        for line in host.lines("/proc/thread-self/net/nf_conntrack", _LINES)
        if (match := _ENTRY.search(line)) is not None
    )
    if not tracked or subject.kernel_path is KernelPath.IPTABLES:  # which forwards by such entries
        return
    low, high = subject.port_ranges[0][0], subject.port_ranges[-1][1]
    yield Finding(
        "conntrack-media",
        Severity.WARNING,
        f"{tracked} tracked connections are media of ours: each costs time and room that nothing needs",
        f"nft: `udp dport {low}-{high} notrack` in a chain of type filter hook prerouting priority raw, and "
        f"`udp sport {low}-{high} notrack` in one of hook output",
    )


def _written_out(address: str) -> str:
    if ":" not in address:
        return address
    head, _, tail = address.partition("::")
    groups = head.split(":") if head else []
    if "::" in address:
        after = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(after)) + after
    return ":".join(group.zfill(4) for group in groups)
