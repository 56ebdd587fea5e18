"""Others on this host: a second instance, a program on our control port."""

from __future__ import annotations

from collections.abc import Iterator

from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.subject import Subject


def check_instance(host: Host, subject: Subject) -> Iterator[Finding]:
    """Who has our name and our control port."""
    holder = host.lock_holder(subject.run_folder / subject.instance / "lock")
    if holder is not None:
        yield Finding(
            "instance", Severity.NOTE, f"a daemon runs as instance {subject.instance} (process {holder})",
            "a second one needs another --instance, other ports and another --listen-ng",
        )  # fmt: skip
    else:
        yield Finding("instance", Severity.OK, f"no daemon runs as instance {subject.instance}")
    for endpoint in subject.control:
        owner = host.udp_owner(endpoint)
        if owner is None:
            continue
        pid, name = owner
        ours = name.startswith("mediaproxy") or (holder is not None and pid == holder)
        yield Finding(
            "control-port",
            Severity.NOTE if ours else Severity.PROBLEM,
            f"port {endpoint.port} ({endpoint}) is in use by {name}" + (f", process {pid}" if pid else ""),
            "" if ours else "stop it, or give another --listen-ng",
        )
