"""From settings to addresses: devices and host names are looked up, defaults are chosen and said aloud."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediaproxy.backends.netlink import HostNetwork, can_bind
from mediaproxy.config.address_kinds import DEFAULT_INTERFACE_NAME, InterfaceSpec, IpNetwork, ListenSpec, is_address
from mediaproxy.config.load import ConfigProblemsError, Configuration
from mediaproxy.errors import ConfigError
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint, parse_address

Lookup = Callable[[str], list[str]]
"""Host name to canonical addresses, IPv4 first; an empty list if there is none."""

_ANY: Final = "any"
_EPHEMERAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")

_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    # RFC 1918, RFC 6598 (carriers' shared space), RFC 4193, and link-local addresses.
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "169.254.0.0/16",
        "fe80::/10",
    )
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the daemon binds.

    Attributes:
        interfaces: at least one; the first is the default.
        control: where ng requests are taken.
        control_peers: who may send them.
        open_control: no ``allow`` was configured although a listener can be reached from elsewhere: the first
            refused peer is worth a line that says what to add.
        notes: what was chosen by default or looked up, one line each.
        warnings: what will not work as it is, one line each.
    """

    interfaces: tuple[Interface, ...]
    control: tuple[Endpoint, ...]
    control_peers: tuple[IpNetwork, ...]
    open_control: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def look_up(host: str) -> list[str]:
    """Ask the resolver of this host."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found if "%" not in str(entry[4][0])))
    return sorted((parse_address(address)[0] for address in addresses), key=lambda address: ":" in address)


def resolve_addresses(
    configuration: Configuration,
    host: HostNetwork,
    lookup: Lookup = look_up,
    is_local: Callable[[str], bool] = can_bind,
) -> Addresses:
    """Look up what the settings name.

    Args:
        host: the addresses of this host.
        is_local: whether an address can be bound here.
    Raises:
        ConfigProblemsError: a device or host name is unknown, or a listener would be open to the internet; names all.
    """
    resolver = _Resolver(configuration, host, lookup, is_local)
    interfaces = resolver.interfaces()
    control = resolver.control()
    peers, is_open = resolver.control_peers(control)
    if resolver.problems:
        raise ConfigProblemsError(resolver.problems)
    return Addresses(interfaces, control, peers, is_open, tuple(resolver.notes), tuple(resolver.warnings))


class _Resolver:
    def __init__(
        self, configuration: Configuration, host: HostNetwork, lookup: Lookup, is_local: Callable[[str], bool]
    ) -> None:
        self._settings = configuration.settings
        self._sources = configuration.sources
        self._host = host
        self._lookup = lookup
        self._is_local = is_local
        self.problems: list[ConfigError] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def _problem(self, key: str, reason: str) -> None:
        self.problems.append(ConfigError(self._sources[key], key, reason))

    def interfaces(self) -> tuple[Interface, ...]:
        specs = self._settings.interface or (self._default_interface(),)
        found: dict[tuple[str, str], Interface] = {}
        for spec in specs:
            for address in self._interface_addresses(spec):
                advertised = spec.advertised or address
                if (":" in advertised) != (":" in address):
                    if is_address(spec.host):
                        self._problem("interface", f"{spec} advertises an address of another family")
                    # A device has addresses of both families; the advertised one stands in for those of its own.
                    advertised = address
                interface = Interface(
                    name=spec.name,
                    address=address,
                    advertised=advertised,
                    port_min=self._settings.port_min if spec.port_min is None else spec.port_min,
                    port_max=self._settings.port_max if spec.port_max is None else spec.port_max,
                )
                found.setdefault((interface.name, interface.address), interface)
        for interface in found.values():
            if not self._is_local(interface.address):
                self.warnings.append(
                    f"interface: {interface.name}/{interface.address}: this host has no such address now; "
                    "calls on this interface fail until it has"
                )
        self._warn_of_overlaps(list(found.values()))
        return tuple(found.values())

    def _warn_of_overlaps(self, interfaces: list[Interface]) -> None:
        """Equal ranges of one address share a pool; different ones that overlap are in each other's way."""
        for number, one in enumerate(interfaces):
            for other in interfaces[:number]:
                ours, theirs = (one.port_min, one.port_max), (other.port_min, other.port_max)
                if one.address == other.address and ours != theirs and ours[0] <= theirs[1] and theirs[0] <= ours[1]:
                    self.warnings.append(
                        f"interface: {other.name} and {one.name} have overlapping port ranges on {one.address}; "
                        "make them equal or separate"
                    )

    def _default_interface(self) -> InterfaceSpec:
        address = self._host.default_address
        if address is None:
            self.notes.append(
                "interface: there is no default route, media uses 127.0.0.1; give --interface to change it"
            )
            return InterfaceSpec(DEFAULT_INTERFACE_NAME, "127.0.0.1")
        self.notes.append(f"interface: none configured, media uses the default route's address {address}")
        return InterfaceSpec(DEFAULT_INTERFACE_NAME, address)

    def _interface_addresses(self, spec: InterfaceSpec) -> list[str]:
        if is_address(spec.host):
            return [spec.host]
        usable = [address for address in self._host.addresses if not address.link_local]
        if spec.host == _ANY:
            found = [address.address for address in usable if not address.loopback]
        else:
            found = [address.address for address in usable if address.device == spec.host] or self._lookup(spec.host)
        if found:
            self.notes.append(f"interface: {spec} is {', '.join(found)}")
        elif spec.host == _ANY:
            self._problem("interface", f"{spec}: this host has no address but loopback ones")
        elif any(address.device == spec.host for address in self._host.addresses):
            self._problem("interface", f"{spec}: device {spec.host} has no address that others could send to")
        else:
            devices = ", ".join(dict.fromkeys(address.device for address in self._host.addresses)) or "none"
            self._problem(
                "interface",
                f"{spec}: {spec.host!r} is neither a device with an address (there are: {devices}) nor a host name "
                "that can be looked up",
            )
        return found

    def control(self) -> tuple[Endpoint, ...]:
        endpoints: dict[Endpoint, None] = {}
        for spec in self._settings.listen_ng:
            for address in self._listen_addresses(spec):
                endpoints.setdefault(Endpoint(address, spec.port))
        return tuple(endpoints)

    def _listen_addresses(self, spec: ListenSpec) -> list[str]:
        if not spec.host:
            has_ip6 = any(":" in address.address for address in self._host.addresses)
            return ["0.0.0.0", "::"] if has_ip6 else ["0.0.0.0"]
        if is_address(spec.host):
            return [spec.host]
        found = self._lookup(spec.host)
        if not found:
            self._problem("listen-ng", f"{spec}: {spec.host!r} is no host name that can be looked up")
            return []
        self.notes.append(f"listen-ng: {spec} is {found[0]}")
        return found[:1]

    def control_peers(self, control: Sequence[Endpoint]) -> tuple[tuple[IpNetwork, ...], bool]:
        """Who may send requests: what ``allow`` says, else what can't come from the internet."""
        own: list[IpNetwork] = [*_LOOPBACK, *(ipaddress.ip_network(a.address) for a in self._host.addresses)]
        if self._settings.allow:
            return _unique([*own, *self._settings.allow]), False
        outside = [endpoint for endpoint in control if not ipaddress.ip_address(endpoint.address).is_loopback]
        if not outside:
            return _unique(own), False
        public = [a.address for a in self._host.addresses if ipaddress.ip_address(a.address).is_global]
        for endpoint in outside:
            if ipaddress.ip_address(endpoint.address).is_unspecified and public:
                self._problem(
                    "listen-ng",
                    f"{endpoint} would take requests on the public address {public[0]}: give --allow with the SIP "
                    "servers' addresses, or bind to one address",
                )
        connected = [
            ipaddress.ip_network(f"{a.address}/{a.prefix_length}", strict=False)
            for a in self._host.addresses
            if not a.loopback
        ]
        return _unique([*own, *connected, *_PRIVATE]), True


def _unique(networks: Sequence[IpNetwork]) -> tuple[IpNetwork, ...]:
    return tuple(dict.fromkeys(networks))


def has_default_port_range(configuration: Configuration) -> bool:
    """Whether nobody chose where the media range ends, so that what ``port_range_warning`` says is only a note."""
    return configuration.sources["port-max"] == "default" and all(
        spec.port_max is None for spec in configuration.settings.interface
    )


@dataclass(frozen=True, slots=True)
class SharedPorts:
    """Media ports that the kernel also gives to other programs: what was seen, and what to do about it."""

    seen: str
    advice: str


def port_range_warning(
    interfaces: Sequence[Interface],
    ephemeral_range: Path = _EPHEMERAL_RANGE,
    reserved_ports: Path = _RESERVED_PORTS,
) -> str | None:
    """Say it if the kernel gives ports of our ranges to other programs; it skips reserved ones."""
    try:
        shared = describe_shared_ports(interfaces, ephemeral_range.read_text(), reserved_ports.read_text())
    except OSError:
        return None
    return None if shared is None else f"{shared.seen}; one in use is skipped, but to be sure {shared.advice}"


def describe_shared_ports(interfaces: Sequence[Interface], ephemeral: str, reserved: str) -> SharedPorts | None:
    """The first range of ours that the kernel takes ports from for others, if any.

    Args:
        ephemeral: ``net.ipv4.ip_local_port_range``; what cannot be read says nothing.
        reserved: ``net.ipv4.ip_local_reserved_ports``, which the kernel leaves alone.
    """
    try:
        low, high = (int(word) for word in ephemeral.split())
        left_alone = _parse_ports(reserved)
    except ValueError:
        return None
    ranges = sorted({(interface.port_min, interface.port_max) for interface in interfaces})
    for port_min, port_max in ranges:
        shared_low, shared_high = max(port_min, low), min(port_max, high)
        if shared_low > shared_high or all(
            any(first <= port <= last for first, last in left_alone) for port in range(shared_low, shared_high + 1)
        ):
            continue
        advice = f"add {shared_low}-{shared_high} to net.ipv4.ip_local_reserved_ports"
        if port_min < low:
            advice = f"set port-max to {low - 1}, or {advice}"
        return SharedPorts(
            f"ports {shared_low}-{shared_high} of the media range {port_min}-{port_max} are also given to other "
            f"programs (net.ipv4.ip_local_port_range is {low}-{high})",
            advice,
        )
    return None


def _parse_ports(text: str) -> list[tuple[int, int]]:
    ranges = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            ranges.append((int(first), int(last or first)))
    return ranges
