"""Addresses and devices: are they there, do their settings let media through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mediaproxy.doctor.finding import Finding, Severity
from mediaproxy.doctor.host import Device, Host
from mediaproxy.doctor.subject import Subject
from mediaproxy.privileged.settings import KernelPath

_STRICT: Final = 1
_LOOSE: Final = 2
_IPV6_MINIMUM_MTU: Final = 1280  # RFC 8200, section 5
_ETHERNET_MTU: Final = 1500

MERGING_OFFLOADS: Final = ("rx-udp-gro-forwarding", "rx-gro-list")


def relay_devices(host: Host, subject: Subject) -> list[Device]:
    """The devices that have our addresses, and are not loopback."""
    wanted = set(subject.addresses)
    return [device for device in host.devices() if wanted & set(device.addresses) and not device.loopback]


def check_addresses(host: Host, subject: Subject) -> Iterator[Finding]:
    """Every configured address is on a device that is up."""
    on: dict[str, Device] = {address: device for device in host.devices() for address in device.addresses}
    good = []
    for address in subject.addresses:
        device = on.get(address)
        if device is not None and not device.up:
            yield Finding(
                "address",
                Severity.PROBLEM,
                f"{address} is on {device.name}, which is down",
                f"ip link set {device.name} up",
            )
        elif device is not None:
            good.append(f"{address} ({device.name})")
        elif host.can_bind(address):
            yield Finding(
                "address",
                Severity.NOTE,
                f"{address} is not on this host now, but may be bound (ip_nonlocal_bind): it serves once it moves here",
            )
        else:
            yield Finding(
                "address",
                Severity.PROBLEM,
                f"{address} is not an address of this host: calls on its interface fail",
                "correct `interface`, add the address, or set net.ipv4.ip_nonlocal_bind=1 if it moves here later",
            )
    if good:
        yield Finding("address", Severity.OK, f"media uses {', '.join(good)}")


def _rp_filter(host: Host, device: str) -> int:
    """What is in force: the higher of both (ip-sysctl)."""
    values = [host.read(f"/proc/sys/net/ipv4/conf/{name}/rp_filter") for name in ("all", device)]
    return max((int(value) for value in values if value and value.isdecimal()), default=0)


def check_rp_filter(host: Host, subject: Subject) -> Iterator[Finding]:
    """A packet that would not be answered by the device it came from is dropped before any socket."""
    devices = relay_devices(host, subject)
    modes = {device.name: _rp_filter(host, device.name) for device in devices}
    strict = [name for name, mode in modes.items() if mode == _STRICT]
    if strict:
        yield Finding(
            "rp-filter",
            Severity.WARNING if len(devices) > 1 else Severity.NOTE,
            f"rp_filter is strict on {', '.join(strict)}: where the way back is another device, IPv4 media is dropped "
            "before sockets and iptables see it (tc, xdp and nft come before it)",
            "; ".join(f"sysctl net.ipv4.conf.{name}.rp_filter={_LOOSE}" for name in strict)
            + f"; sysctl net.ipv4.conf.all.rp_filter={_LOOSE} if it is 1",
        )
    elif devices:
        yield Finding("rp-filter", Severity.OK, f"rp_filter is not strict on {', '.join(modes)}")


def check_forwarding(host: Host, subject: Subject) -> Iterator[Finding]:
    """iptables sends media through the forwarding path of the stack; xdp asks the stack for the way."""
    forwarding = host.read("/proc/sys/net/ipv4/ip_forward")
    if forwarding is None:
        return
    if forwarding == "0" and subject.kernel_path in {KernelPath.IPTABLES, KernelPath.XDP}:
        yield Finding(
            "ip-forward",
            Severity.WARNING,
            f"ip_forward is 0: the {subject.kernel_path.value} backend forwards nothing",
            "sysctl net.ipv4.ip_forward=1 (tc and nft do not need it)",
        )
    else:
        yield Finding("ip-forward", Severity.OK, f"ip_forward is {forwarding}; tc and nft do not need it")


def check_mtu(host: Host, subject: Subject) -> Iterator[Finding]:
    """A packet larger than its way out is left to the sockets, and fragmented."""
    devices = [device for device in relay_devices(host, subject) if device.up]
    small = [device for device in devices if device.mtu < _ETHERNET_MTU]
    if small:
        tiny = [device for device in small if device.mtu < _IPV6_MINIMUM_MTU]
        names = ", ".join(f"{device.name} ({device.mtu})" for device in small)
        yield Finding(
            "mtu",
            Severity.WARNING if tiny else Severity.NOTE,
            f"MTU below {_ETHERNET_MTU}: {names}; larger packets (video) leave the kernel path with reason `mtu`",
            f"raise it to {_ETHERNET_MTU} if the path allows" if tiny else "",
        )
    elif devices:
        yield Finding("mtu", Severity.OK, ", ".join(f"{device.name} {device.mtu}" for device in devices))


def check_offloads(host: Host, subject: Subject) -> Iterator[Finding]:
    """UDP GRO for forwarding merges packets before tc and nft see them."""
    devices = relay_devices(host, subject)
    merging = _merging(host, devices)
    for name, offloads in merging.items():
        yield Finding(
            "offload",
            Severity.PROBLEM if subject.wants_kernel else Severity.WARNING,
            f"{' and '.join(offloads)} on {name}: packets of a stream are merged before the kernel path sees them",
            "; ".join(f"ethtool -K {name} {offload} off" for offload in offloads),
        )
    if devices and not merging:
        yield Finding("offload", Severity.OK, f"no merging of UDP packets on {', '.join(d.name for d in devices)}")


def _merging(host: Host, devices: Sequence[Device]) -> dict[str, list[str]]:
    found = {}
    for device in devices:
        features = host.features(device.name) or {}
        offloads = [name for name in MERGING_OFFLOADS if features.get(name)]
        if offloads:
            found[device.name] = offloads
    return found
