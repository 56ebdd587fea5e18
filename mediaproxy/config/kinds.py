"""The kinds of values that options take: how each is read from text and from TOML, and how it is written."""

from __future__ import annotations

import ipaddress
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from mediaproxy.logs import LogLevel
from mediaproxy.net import family_of, parse_address

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

MAX_PORT: Final = 65535

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(ABC, Generic[T]):
    """One kind of value.

    Attributes:
        metavar: how ``--help`` names the value.
        expects: what would be right, for error messages.
    """

    metavar: str
    expects: str

    @abstractmethod
    def parse(self, text: str) -> T:
        """Read the value from a command line, an environment variable or an INI file.

        Raises:
            ValueError: the text is not such a value; the message says why, for people.
        """

    @abstractmethod
    def write(self, value: T) -> str:
        """The text that ``parse`` reads."""

    def parse_toml(self, value: object) -> T:
        """Read the value from TOML: a string as ``parse`` would, or TOML's own type where it has one.

        Raises:
            ValueError: it is of another type, or ``parse`` refuses it.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{_toml_type(value)} is not allowed here")
        return self.parse(str(value))

    def write_toml(self, value: T) -> str:
        """The value as TOML."""
        return toml_string(self.write(value))


class Switch(Kind[bool]):
    """On or off; on the command line the bare option means on."""

    metavar = "true|false"
    expects = "true or false"

    _WORDS: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)

    def parse(self, text: str) -> bool:
        try:
            return self._WORDS[text.strip().lower()]
        except KeyError:
            raise ValueError("is neither true nor false") from None

    def parse_toml(self, value: object) -> bool:
        return value if isinstance(value, bool) else super().parse_toml(value)

    def write(self, value: bool) -> str:
        return "true" if value else "false"

    def write_toml(self, value: bool) -> str:
        return self.write(value)


@dataclass(frozen=True)
class Integer(Kind[int]):
    """A whole number within bounds, both included."""

    minimum: int
    maximum: int
    example: int
    metavar: str = "INT"

    @property
    def expects(self) -> str:  # type: ignore[override]  # computed from the bounds
        return f"a whole number from {self.minimum} to {self.maximum}, such as {self.example}"

    def parse(self, text: str) -> int:
        try:
            # rtpengine reads numbers of any base, e.g. --tos=0xb8.
            number = int(text.strip(), 0) if not re.fullmatch(r"\s*-?0\d+\s*", text) else int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
        if not self.minimum <= number <= self.maximum:
            raise ValueError("is out of range")
        return number

    def write(self, value: int) -> str:
        return str(value)

    def write_toml(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class OptionalInteger(Kind["int | None"]):
    """As ``Integer``, and ``-1`` switches the option off (``None``)."""

    inner: Integer

    @property
    def metavar(self) -> str:  # type: ignore[override]  # that of the number
        return self.inner.metavar

    @property
    def expects(self) -> str:  # type: ignore[override]  # that of the number
        return f"{self.inner.expects}, or -1 for off"

    def parse(self, text: str) -> int | None:
        return None if text.strip() == "-1" else self.inner.parse(text)

    def write(self, value: int | None) -> str:
        return "-1" if value is None else self.inner.write(value)

    def write_toml(self, value: int | None) -> str:
        return self.write(value)


class Seconds(Kind[float]):
    """A length of time, 0 or more; fractions are allowed."""

    metavar = "SECS"
    expects = "a number of seconds, 0 or more, such as 60"

    def parse(self, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            raise ValueError("is not a number") from None
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError("is no length of time")
        return seconds

    def write(self, value: float) -> str:
        return f"{value:g}" if value < 1e6 else str(int(value))

    def write_toml(self, value: float) -> str:
        return self.write(value)


@dataclass(frozen=True)
class Choice(Kind[E]):
    """One word of a closed set; the words are the values of an enum.

    Args:
        words: the enum.
        synonyms: further spellings.
    """

    words: type[E]
    synonyms: tuple[tuple[str, E], ...] = ()

    @property
    def metavar(self) -> str:  # type: ignore[override]  # computed from the words
        return "|".join(str(word.value) for word in self.words)

    @property
    def expects(self) -> str:  # type: ignore[override]  # computed from the words
        return "one of " + ", ".join(str(word.value) for word in self.words)

    def parse(self, text: str) -> E:
        wanted = text.strip().lower()
        for word in self.words:
            if wanted == word.value:
                return word
        for spelling, word in self.synonyms:
            if wanted == spelling:
                return word
        raise ValueError("is not one of the words")

    def write(self, value: E) -> str:
        return str(value.value)


_LEVEL_NAMES: Final = {level.name.lower(): level for level in LogLevel} | {
    "emerg": LogLevel.EMERGENCY,
    "crit": LogLevel.CRITICAL,
    "err": LogLevel.ERROR,
    "warn": LogLevel.WARNING,
}


class Level(Kind[LogLevel]):
    """A log level, by number or by name."""

    metavar = "0..7|NAME"
    expects = "a number from 0 to 7 or a name such as notice, info or debug"

    def parse(self, text: str) -> LogLevel:
        wanted = text.strip().lower()
        if wanted in _LEVEL_NAMES:
            return _LEVEL_NAMES[wanted]
        try:
            return LogLevel(int(wanted))
        except ValueError:
            raise ValueError("is no log level") from None

    def write(self, value: LogLevel) -> str:
        return value.name.lower()


class FilePath(Kind["Path | None"]):
    """A path; empty means none."""

    metavar = "FILE"
    expects = "a path"

    def parse(self, text: str) -> Path | None:
        if "\0" in text:
            raise ValueError("has a NUL in it")
        return Path(text) if text.strip() else None

    def write(self, value: Path | None) -> str:
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Text(Kind[str]):
    """Free text of a given form."""

    pattern: str
    expects: str
    metavar: str = "STRING"

    def parse(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text.strip()):
            raise ValueError("has characters that are not allowed")
        return text.strip()

    def write(self, value: str) -> str:
        return value


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


def toml_string(text: str) -> str:
    """Quote a text as a TOML basic string."""
    escaped = "".join(
        f"\\{character}" if character in '\\"' else character if character.isprintable() else f"\\u{ord(character):04x}"
        for character in text
    )
    return f'"{escaped}"'


def _toml_type(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f"a {type(value).__name__}"
