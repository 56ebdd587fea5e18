"""A host of dictionaries, on which everything is fine until a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Clock, Device, Limit
from mediaproxy.doctor.subject import Subject
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.settings import Candidate

RELAY = "192.0.2.1"
OTHER = "198.51.100.1"
PLENTY = Limit(1024, 524288)
NO_LIMIT = Limit(None, None)
RIGHT = Clock(True, 0.002)


def subject_of(*addresses: str, port_min: int = 20000, port_max: int = 23999) -> Subject:
    """A configuration whose interfaces have these addresses."""
    return Subject(
        interfaces=tuple(
            Interface(f"i{number}", address, address, port_min, port_max) for number, address in enumerate(addresses)
        ),
        control=(Endpoint("127.0.0.1", 2223),),
    )


def eth(name: str = "eth0", *addresses: str, mtu: int = 1500, up: bool = True) -> Device:
    """An Ethernet device."""
    return Device(name, mtu if up else 0, up, loopback=False, addresses=addresses or (RELAY,))


@dataclass
class FakeHost:
    """See ``Host``."""

    release: str = "6.18.0"
    files: dict[str, str] = field(
        default_factory=lambda: {
            "/proc/sys/net/core/bpf_jit_enable": "1",
            "/proc/sys/kernel/unprivileged_bpf_disabled": "2",
            "/sys/kernel/security/lockdown": "[none] integrity confidentiality",
            "/proc/filesystems": "nodev\tsysfs\nnodev\tbpf\n\text4",
            "/proc/sys/net/ipv4/ip_forward": "1",
            "/proc/sys/net/netfilter/nf_conntrack_acct": "1",
            "/proc/sys/net/ipv4/conf/all/rp_filter": "0",
            "/proc/sys/net/ipv4/conf/eth0/rp_filter": "2",
            "/proc/sys/net/ipv4/ip_local_port_range": "32768\t60999",
            "/proc/sys/net/ipv4/ip_local_reserved_ports": "",
            "/proc/sys/net/core/rmem_max": "4194304",
            "/proc/sys/fs/nr_open": "1048576",
            "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        }
    )
    network: Sequence[Device] = (eth(),)
    offloads: dict[str, Mapping[str, bool]] = field(default_factory=dict)
    held: frozenset[int] = frozenset({Capability.NET_ADMIN, Capability.BPF, Capability.SYS_ADMIN})
    descriptors: Limit = PLENTY
    locked_memory: Limit = NO_LIMIT
    time: Clock | None = RIGHT
    bindable: frozenset[str] = frozenset()
    holder: int | None = None
    owners: dict[Endpoint, tuple[int, str]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    tried: list[tuple[str, NftForm]] = field(default_factory=list)

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def lines(self, path: str, limit: int) -> Iterator[str]:
        yield from self.files.get(path, "").splitlines(keepends=True)[:limit]

    def devices(self) -> Sequence[Device]:
        return self.network

    def features(self, device: str) -> Mapping[str, bool] | None:
        return self.offloads.get(device)

    def capabilities(self) -> frozenset[int]:
        return self.held

    def descriptor_limit(self) -> Limit:
        return self.descriptors

    def locked_memory_limit(self) -> Limit:
        return self.locked_memory

    def clock(self) -> Clock | None:
        return self.time

    def can_bind(self, address: str) -> bool:
        return address in self.bindable

    def lock_holder(self, path: Path) -> int | None:
        return self.holder

    def udp_owner(self, endpoint: Endpoint) -> tuple[int, str] | None:
        return self.owners.get(endpoint)

    def try_backend(self, name: str, form: NftForm) -> Candidate:
        self.tried.append((name, form))
        reason = self.refusals.get(name, "")
        return Candidate(name, not reason, reason or "forwarded a packet")


def severities(findings: Sequence[Finding] | Iterator[Finding]) -> dict[str, Severity]:
    """By the name of the check."""
    return {finding.check: finding.severity for finding in findings}
