"""Each kind of value: what it reads, what it refuses with which words, and that it reads what it writes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from mediaproxy.config.address_kinds import InterfaceKind, InterfaceSpec, Listen, ListenSpec, Network, check_port_range
from mediaproxy.config.kinds import (
    Choice,
    FilePath,
    Integer,
    Kind,
    Level,
    OptionalInteger,
    Seconds,
    Switch,
    Text,
    toml_string,
)
from mediaproxy.config.options import SourceLock
from mediaproxy.logs import LogLevel

PORT = Integer(1, 65535, 30000)
TOS = OptionalInteger(Integer(0, 255, 184))

ACCEPTED: list[tuple[Kind[Any], str, Any]] = [
    (Switch(), "true", True),
    (Switch(), "Yes", True),
    (Switch(), "0", False),
    (PORT, "30000", 30000),
    (PORT, " 0x10 ", 16),
    (PORT, "0100", 100),
    (TOS, "184", 184),
    (TOS, "0xb8", 184),
    (TOS, "-1", None),
    (Seconds(), "60", 60.0),
    (Seconds(), "0.5", 0.5),
    (Choice(SourceLock), "Strict", SourceLock.STRICT),
    (Level(), "6", LogLevel.INFO),
    (Level(), "debug", LogLevel.DEBUG),
    (Level(), "warn", LogLevel.WARNING),
    (FilePath(), "/run/x.pid", Path("/run/x.pid")),
    (FilePath(), "", None),
    (Text("[a-z]+", "letters"), " edge ", "edge"),
    (Network(), "192.0.2.7", ipaddress.ip_network("192.0.2.7/32")),
    (Network(), "192.0.2.7/24", ipaddress.ip_network("192.0.2.0/24")),
    (Network(), "2001:db8::/32", ipaddress.ip_network("2001:db8::/32")),
    (Listen(), "2223", ListenSpec("", 2223)),
    (Listen(), "*:2223", ListenSpec("", 2223)),
    (Listen(), "127.0.0.1:2223", ListenSpec("127.0.0.1", 2223)),
    (Listen(), "[2001:db8:0::1]:22", ListenSpec("2001:db8::1", 22)),
    (Listen(), "localhost:2223", ListenSpec("localhost", 2223)),
    (InterfaceKind(), "192.0.2.1", InterfaceSpec("default", "192.0.2.1")),
    (InterfaceKind(), "2001:DB8::1", InterfaceSpec("default", "2001:db8::1")),
    (InterfaceKind(), "pub/eth0", InterfaceSpec("pub", "eth0")),
    (InterfaceKind(), "any", InterfaceSpec("default", "any")),
    (InterfaceKind(), "pub:1/10.0.0.1!192.0.2.1", InterfaceSpec("pub:1", "10.0.0.1", "192.0.2.1")),
    (InterfaceKind(), "[2001:db8::1]!2001:db8::2", InterfaceSpec("default", "2001:db8::1", "2001:db8::2")),
    (InterfaceKind(), "a/eth0.5!192.0.2.1@30000-30099", InterfaceSpec("a", "eth0.5", "192.0.2.1", 30000, 30099)),
]

REFUSED: list[tuple[Kind[Any], str, str]] = [
    (Switch(), "maybe", "neither true nor false"),
    (PORT, "abc", "not a whole number"),
    (PORT, "0", "out of range"),
    (PORT, "65536", "out of range"),
    (PORT, "1.5", "not a whole number"),
    (PORT, "3_0", "not a whole number"),
    (Seconds(), "1_0", "not a number"),
    (Level(), "0_6", "no log level"),
    (Listen(), "[::1]", "no port"),
    (Listen(), "[::1]:", "no port"),
    (TOS, "256", "out of range"),
    (TOS, "-2", "out of range"),
    (Seconds(), "-1", "no length of time"),
    (Seconds(), "nan", "no length of time"),
    (Seconds(), "inf", "no length of time"),
    (Seconds(), "1 minute", "not a number"),
    (Choice(SourceLock), "loose", "not one of the words"),
    (Level(), "8", "no log level"),
    (Level(), "loud", "no log level"),
    (FilePath(), "a\0b", "NUL"),
    (Text("[a-z]+", "letters"), "A B", "not allowed"),
    (Network(), "192.0.2.0/33", "no network"),
    (Network(), "example.com", "no network"),
    (Listen(), "127.0.0.1", "no port"),
    (Listen(), "127.0.0.1:0", "no port"),
    (Listen(), "127.0.0.1:65536", "no port"),
    (Listen(), "::1:2223", "without brackets"),
    (Listen(), "1.2.3:2223", "neither an IP address nor a name"),
    (Listen(), "bad name:2223", "neither an IP address nor a name"),
    (InterfaceKind(), "", "no address"),
    (InterfaceKind(), "pub/", "no address"),
    (InterfaceKind(), "/192.0.2.1", "a name ''"),
    (InterfaceKind(), "a b/192.0.2.1", "a name 'a b'"),
    (InterfaceKind(), "192.0.2.256", "neither an IP address nor a name"),
    (InterfaceKind(), "10.0.0.1!", "no address after the !"),
    (InterfaceKind(), "10.0.0.1!eth0", "no IP address"),
    (InterfaceKind(), "10.0.0.1!2001:db8::1", "another family"),
    (InterfaceKind(), "10.0.0.1@30000", "no port range MIN-MAX"),
    (InterfaceKind(), "10.0.0.1@30001-30002", "without an even port"),
    (InterfaceKind(), "10.0.0.1@40000-30000", "before it begins"),
    (InterfaceKind(), "pub=pub1", "alias"),
]


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED)
def test_kind_with_good_text_reads_it(kind: Kind[Any], text: str, value: Any) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(("kind", "text", "value"), ACCEPTED)
def test_kind_reads_what_it_writes(kind: Kind[Any], text: str, value: Any) -> None:
    assert kind.parse(kind.write(value)) == value


@pytest.mark.parametrize(("kind", "text", "why"), REFUSED)
def test_kind_with_bad_text_says_why(kind: Kind[Any], text: str, why: str) -> None:
    with pytest.raises(ValueError, match="(?i)" + why.replace("(", r"\(")):
        kind.parse(text)


@pytest.mark.parametrize(
    "table",
    [
        {"name": "pub", "address": "10.0.0.1", "advertised": "192.0.2.1", "port-min": 30000, "port-max": 30001},
        {"name": "pub", "address": "10.0.0.1", "advertised": "192.0.2.1", "port_min": 30000, "port_max": 30001},
    ],
)
def test_interface_from_a_toml_table_has_all_parts(table: dict[str, object]) -> None:
    assert InterfaceKind().parse_toml(table) == InterfaceSpec("pub", "10.0.0.1", "192.0.2.1", 30000, 30001)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"adress": "10.0.0.1"}, "unknown key 'adress'"),
        ({"name": "pub"}, "no address"),
        ({"address": "10.0.0.1", "port-min": 5}, "only one of"),
        ({"address": "10.0.0.1", "port-min": "5", "port-max": 9}, "port-min that is not a whole number"),
        ({"address": "10.0.0.1", "port-min": True, "port-max": 9}, "port-min that is not a whole number"),
        ({"address": 10}, "address that is not a string"),
        ({"address": "10.0.0.1", "port-min": 0, "port-max": 9}, "not from 1 to 65535"),
    ],
)
def test_interface_from_a_bad_toml_table_says_why(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        InterfaceKind().parse_toml(table)


@pytest.mark.parametrize(("value", "why"), [({}, "a table"), ([], "a list"), (True, "a boolean")])
def test_number_from_another_toml_type_says_so(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PORT.parse_toml(value)


def test_switch_and_numbers_take_tomls_own_types() -> None:
    assert Switch().parse_toml(True) is True
    assert PORT.parse_toml(5) == 5
    assert Seconds().parse_toml(0.5) == 0.5


@pytest.mark.parametrize(("low", "high"), [(2, 3), (1, 3), (65534, 65535)])
def test_port_range_with_a_pair_is_accepted(low: int, high: int) -> None:
    check_port_range(low, high)


@pytest.mark.parametrize(("low", "high"), [(3, 4), (2, 2), (4, 2), (0, 9), (65535, 65535)])
def test_port_range_without_a_pair_is_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="port"):
        check_port_range(low, high)


def test_toml_string_escapes_quotes_and_controls() -> None:
    assert toml_string('a"b\\c\n') == '"a\\"b\\\\c\\u000a"'
