"""Devices and news of the network."""

from __future__ import annotations

from struct import Struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.backends.kernel_backend import Link
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.privileged.links import HostLinks, _addresses, _links, message_types, read_links

HEADER = Struct("=IHHII")


class Message(dict[str, Any]):
    """As pyroute2 has it."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


def message(kind: int, more: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + more, kind, 0, 0, 0) + bytes((more + 3) & ~3)


def test_types_of_all_messages_are_read() -> None:
    assert list(message_types(message(16, 5) + message(24) + message(20, 4))) == [16, 24, 20]


@given(st.binary(max_size=200))
def test_any_bytes_end(data: bytes) -> None:
    assert len(list(message_types(data))) <= len(data)


@pytest.mark.parametrize(
    ("found", "links"),
    [
        (Message(index=1, flags=9, ifi_type=772, IFLA_IFNAME="lo", IFLA_MTU=65536), [Link(1, "lo", 65536, True)]),
        (Message(index=2, flags=1, ifi_type=1, IFLA_IFNAME="eth0", IFLA_MTU=1500), [Link(2, "eth0", 1500)]),
        (
            Message(index=3, flags=1, ifi_type=65534, IFLA_IFNAME="tun0", IFLA_MTU=1400),
            [Link(3, "tun0", 1400, ethernet=False)],
        ),
        (Message(index=4, flags=0, ifi_type=1, IFLA_IFNAME="down0", IFLA_MTU=1500), []),
    ],
)
def test_device_that_is_up_becomes_a_link(found: Message, links: list[Link]) -> None:
    assert list(_links([found])) == links


def test_address_that_is_ours_is_taken_on_a_point_to_point_link() -> None:
    found = [Message(index=3, IFA_LOCAL="10.0.0.1", IFA_ADDRESS="10.0.0.2"), Message(index=4, IFA_ADDRESS="fd00::1")]
    assert list(_addresses(found)) == [(pack_address("10.0.0.1"), 3), (pack_address("fd00::1"), 4)]


def test_mtus_are_by_index() -> None:
    assert HostLinks((Link(2, "eth0", 1500),)).mtus == {2: 1500}


def test_this_host_has_a_loopback_device() -> None:
    host = read_links()
    (loopback,) = (link for link in host.links if link.loopback)
    assert (pack_address("127.0.0.1"), loopback.index) in host.addresses
