"""Which addresses count, and which one the default route leaves with; from messages as pyroute2 delivers them."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mediaproxy.backends import netlink
from mediaproxy.backends.netlink import LocalAddress, can_bind, read_host_network


class Message(dict[str, Any]):
    """A netlink message: fixed fields as a dictionary, attributes by name."""

    def __init__(self, attributes: dict[str, Any], **fields: Any) -> None:
        super().__init__(fields)
        self._attributes = attributes

    def get_attr(self, name: str) -> Any:
        return self._attributes.get(name)


def address(device: int, text: str, scope: int = 0, flags: int = 0x80, **attributes: Any) -> Message:
    attributes = {"IFA_ADDRESS": text, **attributes}
    return Message(attributes, index=device, prefixlen=24, scope=scope, flags=flags)


def route(family: int = socket.AF_INET, table: int = 254, **attributes: Any) -> Message:
    return Message(attributes, family=family, table=table)


NAMES = {1: "lo", 2: "eth0", 3: "eth1"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (address(2, "192.0.2.1"), LocalAddress("eth0", "192.0.2.1", 24)),
        (address(1, "127.0.0.1", scope=254), LocalAddress("lo", "127.0.0.1", 24, loopback=True)),
        (address(2, "fe80::1", scope=253), LocalAddress("eth0", "fe80::1", 24, link_local=True)),
        (address(2, "192.0.2.9", IFA_LOCAL="192.0.2.1"), LocalAddress("eth0", "192.0.2.1", 24)),  # point-to-point
        (address(9, "192.0.2.1"), LocalAddress("?", "192.0.2.1", 24)),
        (address(2, "2001:db8::1", IFA_FLAGS=0x40), None),  # tentative
        (address(2, "2001:db8::1", IFA_FLAGS=0x08), None),  # somebody else has it
        (Message({}, index=2, prefixlen=0, scope=0, flags=0), None),
    ],
)
def test_address_message_is_understood(message: Message, expected: LocalAddress | None) -> None:
    assert netlink._local_address(message, NAMES) == expected


ADDRESSES = [
    (1, LocalAddress("lo", "127.0.0.1", 8, loopback=True)),
    (2, LocalAddress("eth0", "fe80::2", 64, link_local=True)),
    (2, LocalAddress("eth0", "2001:db8::2", 64)),
    (2, LocalAddress("eth0", "192.0.2.2", 24)),
    (2, LocalAddress("eth0", "192.0.2.22", 24)),
    (3, LocalAddress("eth1", "198.51.100.3", 24)),
]


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ([], None),
        ([route(RTA_OIF=2)], "192.0.2.2"),
        ([route(RTA_OIF=2, RTA_PREFSRC="192.0.2.22")], "192.0.2.22"),
        ([route(RTA_OIF=2, RTA_PRIORITY=100), route(RTA_OIF=3, RTA_PRIORITY=50)], "198.51.100.3"),
        ([route(RTA_OIF=2, RTA_PRIORITY=100), route(RTA_OIF=3)], "198.51.100.3"),
        ([route(family=socket.AF_INET6, RTA_OIF=2)], "2001:db8::2"),
        ([route(RTA_MULTIPATH=[{"oif": 3}, {"oif": 2}])], "198.51.100.3"),
        ([route(RTA_OIF=7)], None),
        ([route(RTA_OIF=7), route(RTA_OIF=3, RTA_PRIORITY=9)], "198.51.100.3"),  # the first has no address
        ([route(RTA_OIF=2, RTA_TABLE=100)], None),
        ([route(RTA_OIF=2, table=100)], None),
    ],
)
def test_default_address_is_that_of_the_best_route(routes: list[Message], expected: str | None) -> None:
    assert netlink._default_address(routes, ADDRESSES) == expected


def test_this_host_has_its_loopback_address() -> None:
    host = read_host_network()
    (loopback,) = [each for each in host.addresses if each.address == "127.0.0.1"]
    assert loopback.loopback
    assert loopback.device == "lo"
    assert can_bind("127.0.0.1")


def test_address_of_nobody_cannot_be_bound() -> None:
    assert not can_bind("192.0.2.254")  # TEST-NET-1 (RFC 5737)
