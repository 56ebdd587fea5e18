"""The kinds of values that are addresses: networks, listeners, and logical interfaces."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

from mediaproxy.config.kinds import MAX_PORT, Kind
from mediaproxy.net import family_of, parse_address

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Network(Kind[IpNetwork]):
    """An address or a network in CIDR notation."""

    metavar = "CIDR"
    expects = "an address or a network such as 192.0.2.0/24"

    def parse(self, text: str) -> IpNetwork:
        try:
            return ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError("is no network") from None

    def write(self, value: IpNetwork) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class ListenSpec:
    """Where a listener is wanted: ``host`` is an address, a host name, or empty for all addresses of this host."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.host:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


class Listen(Kind[ListenSpec]):
    """``[ADDR:]PORT``, IPv6 addresses in brackets."""

    metavar = "[ADDR:]PORT"
    expects = "[ADDR:]PORT, such as 127.0.0.1:2223, [::1]:2223 or 2223"

    def parse(self, text: str) -> ListenSpec:
        text = text.strip()
        if bracketed := re.fullmatch(r"\[([^]]*)\]:(\d+)", text):
            host, port = bracketed.groups()
        elif text.startswith("["):
            raise ValueError("has no port from 1 to 65535 after the brackets")
        else:
            host, _, port = text.rpartition(":")
            if ":" in host:
                raise ValueError("has an IPv6 address without brackets")
        if not re.fullmatch(r"\d{1,5}", port) or not 1 <= int(port) <= MAX_PORT:
            raise ValueError("has no port from 1 to 65535")
        return ListenSpec(_parse_host(host) if host and host != "*" else "", int(port))

    def write(self, value: ListenSpec) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """An interface as configured, before devices and host names are looked up.

    Attributes:
        name: the logical name.
        host: a canonical address, a network device, a host name, or ``any``.
        advertised: canonical address for SDP; ``None`` means the address itself.
        port_min, port_max: the range of this interface; ``None`` means the common one.
    """

    name: str
    host: str
    advertised: str | None = None
    port_min: int | None = None
    port_max: int | None = None

    def __str__(self) -> str:
        text = f"{self.name}/{self.host}"
        if self.advertised is not None:
            text += f"!{self.advertised}"
        if self.port_min is not None:
            text += f"@{self.port_min}-{self.port_max}"
        return text


DEFAULT_INTERFACE_NAME: Final = "default"
_INTERFACE_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,63}")
_INTERFACE_KEYS: Final = ("name", "address", "advertised", "port-min", "port-max")


class InterfaceKind(Kind[InterfaceSpec]):
    """``[NAME/]ADDR|DEVICE[!ADVERTISED][@MIN-MAX]``, or a TOML table with the same parts."""

    metavar = "[NAME/]ADDR|DEVICE[!ADVERTISED][@MIN-MAX]"
    expects = "[NAME/]ADDR|DEVICE[!ADVERTISED][@MIN-MAX], such as pub/10.0.0.5!192.0.2.5 or eth0@30000-30999"

    def parse(self, text: str) -> InterfaceSpec:
        rest, _, port_range = text.strip().partition("@")
        rest, exclamation, advertised = rest.partition("!")
        name, slash, host = rest.rpartition("/")
        if "=" in rest:
            raise ValueError("is an alias, which is not implemented: list the address again under the second name")
        port_min = port_max = None
        if "@" in text:
            numbers = re.fullmatch(r"(\d{1,5})-(\d{1,5})", port_range)
            if numbers is None:
                raise ValueError("has no port range MIN-MAX after the @")
            port_min, port_max = int(numbers[1]), int(numbers[2])
        if exclamation and not advertised:
            raise ValueError("has no address after the !")
        return _interface_spec(name if slash else DEFAULT_INTERFACE_NAME, host, advertised, port_min, port_max)

    def parse_toml(self, value: object) -> InterfaceSpec:
        if not isinstance(value, dict):
            return super().parse_toml(value)
        table: dict[str, Any] = {key.replace("_", "-"): part for key, part in value.items()}
        for key in table:
            if key not in _INTERFACE_KEYS:
                raise ValueError(f"has an unknown key {key!r} (known: {', '.join(_INTERFACE_KEYS)})")
        for key in ("port-min", "port-max"):
            if not isinstance(table.get(key, 0), int) or isinstance(table.get(key), bool):
                raise ValueError(f"has a {key} that is not a whole number")
        for key in ("name", "address", "advertised"):
            if not isinstance(table.get(key, ""), str):
                raise ValueError(f"has a {key} that is not a string")
        return _interface_spec(
            table.get("name", DEFAULT_INTERFACE_NAME),
            table.get("address", ""),
            table.get("advertised", ""),
            table.get("port-min"),
            table.get("port-max"),
        )

    def write(self, value: InterfaceSpec) -> str:
        return str(value)


def _interface_spec(name: str, host: str, advertised: str, port_min: int | None, port_max: int | None) -> InterfaceSpec:
    if not _INTERFACE_NAME.fullmatch(name):
        raise ValueError(f"has a name {name!r} that is not made of letters, digits, '_', '.', ':' and '-'")
    if not host:
        raise ValueError("has no address")
    if (port_min is None) != (port_max is None):
        raise ValueError("has only one of port-min and port-max")
    if port_min is not None and port_max is not None:
        check_port_range(port_min, port_max)
    host = _parse_host(host)
    if not advertised:
        return InterfaceSpec(name, host, None, port_min, port_max)
    try:
        advertised, family = parse_address(advertised.strip("[]"))
    except ValueError:
        raise ValueError(f"advertises {advertised!r}, which is no IP address") from None
    if is_address(host) and family_of(host) is not family:
        raise ValueError(f"advertises {advertised}, which is of another family than {host}")
    return InterfaceSpec(name, host, advertised, port_min, port_max)


def check_port_range(port_min: int, port_max: int) -> None:
    """Check that a range holds at least one pair of an even and the next odd port.

    Raises:
        ValueError: it does not; the message says why.
    """
    if not (1 <= port_min <= MAX_PORT and 1 <= port_max <= MAX_PORT):
        raise ValueError("has a port that is not from 1 to 65535")
    if port_min > port_max:
        raise ValueError(f"has a port range that ends ({port_max}) before it begins ({port_min})")
    if port_min + port_min % 2 + 1 > port_max:
        raise ValueError(f"has a port range {port_min}-{port_max} without an even port and the next odd one")


def is_address(host: str) -> bool:
    """Whether a host as configured is an IP address literal."""
    try:
        parse_address(host)
    except ValueError:
        return False
    return True


def _parse_host(text: str) -> str:
    """An address in canonical form, or what may be a host or device name.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        return parse_address(text)[0]
    except ValueError:
        pass
    # All digits and dots is an address with a mistake in it, not a name.
    if not _HOST_NAME.fullmatch(text) or re.fullmatch(r"[\d.]+", text):
        raise ValueError(f"has {text!r}, which is neither an IP address nor a name")
    return text
