"""Ports, descriptors and buffers: is there room for the calls that the port ranges promise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mediaproxy.config import describe_shared_ports
from mediaproxy.config.capacity import calls_for_descriptors, calls_for_ports, descriptors_for
from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject

_FEW_CALLS: Final = 100
_BUFFER_WANTED: Final = 256 * 1024
"""What a media socket asks for (kernel_offload/src/mpo_transport.c)."""
_BUFFER_SMALL: Final = 128 * 1024


def check_port_range(host: Host, subject: Subject) -> Iterator[Finding]:
    """How many calls there are ports for, and who else is given these ports."""
    if not subject.interfaces:
        return
    calls = calls_for_ports(subject.ports)
    ranges = ", ".join(f"{low}-{high}" for low, high in subject.port_ranges)
    if calls < _FEW_CALLS:
        yield Finding(
            "ports",
            Severity.WARNING,
            f"media ports {ranges}: enough for {calls} calls",
            "lower port-min, raise port-max",
        )
    else:
        yield Finding("ports", Severity.OK, f"media ports {ranges}: enough for {calls} calls")
    ephemeral = host.read("/proc/sys/net/ipv4/ip_local_port_range")
    reserved = host.read("/proc/sys/net/ipv4/ip_local_reserved_ports")
    if ephemeral is None:
        return
    shared = describe_shared_ports(subject.interfaces, ephemeral, reserved or "")
    if shared is None:
        yield Finding("port-overlap", Severity.OK, "the kernel gives none of the media ports to other programs")
    else:
        severity = Severity.NOTE if subject.default_ports else Severity.WARNING
        yield Finding("port-overlap", severity, shared.seen, shared.advice)


def check_descriptors(host: Host, subject: Subject) -> Iterator[Finding]:
    """Each call has sockets, also while the kernel carries its media."""
    limit, highest = host.descriptor_limit().hard, host.read("/proc/sys/fs/nr_open")
    if limit is None or not subject.interfaces:
        return
    calls = calls_for_descriptors(limit)
    wanted = calls_for_ports(subject.ports)
    if calls >= wanted:
        yield Finding("descriptors", Severity.OK, f"{limit} descriptors: enough for {calls} calls")
        return
    needed = descriptors_for(wanted)
    advice = f"LimitNOFILE={needed} (ulimit -n), or a smaller port range"
    if highest and highest.isdecimal() and int(highest) < needed:
        advice = f"sysctl fs.nr_open={needed}; {advice}"
    yield Finding(
        "descriptors",
        Severity.WARNING if calls < _FEW_CALLS or 4 * calls < wanted else Severity.NOTE,
        f"{limit} descriptors are enough for about {calls} calls, the ports for {wanted}",
        advice,
    )


def check_receive_buffer(host: Host, _subject: Subject) -> Iterator[Finding]:
    """What media sockets may buffer while the relay is busy."""
    limit = host.read("/proc/sys/net/core/rmem_max")  # not there in namespaces other than the first, before 6.?
    if limit is None or not limit.isdecimal():
        return
    if int(limit) >= _BUFFER_WANTED:
        yield Finding("receive-buffer", Severity.OK, f"rmem_max is {limit}")
        return
    yield Finding(
        "receive-buffer",
        Severity.WARNING if int(limit) < _BUFFER_SMALL else Severity.NOTE,
        f"rmem_max is {limit}: media sockets get less than the {_BUFFER_WANTED} bytes that they ask for",
        f"sysctl net.core.rmem_max={_BUFFER_WANTED}",
    )
