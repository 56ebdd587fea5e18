"""The network devices of this host, and the news that they, addresses or routes have changed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final, Self

from mediaproxy.backends.kernel_backend import Link
from mediaproxy.backends.packed_address import pack_address

_IFF_UP: Final = 1
_IFF_LOOPBACK: Final = 8
_ARPHRD_WITH_ETHERNET_HEADER: Final = frozenset({1, 772})
"""ARPHRD_ETHER and ARPHRD_LOOPBACK (linux/if_arp.h)."""

_HEADER: Final = Struct("=IHHII")
"""``struct nlmsghdr``: length, type, flags, sequence, port."""
_LINK_MESSAGES: Final = frozenset({16, 17})
"""RTM_NEWLINK, RTM_DELLINK."""
_ADDRESS_MESSAGES: Final = frozenset({20, 21})
"""RTM_NEWADDR, RTM_DELADDR."""
_GROUPS: Final = (1, 5, 7, 8, 9, 11, 19)
"""RTNLGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE (linux/rtnetlink.h)."""
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_RECEIVE: Final = 65_536
_BUFFER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class HostLinks:
    """What is there now.

    Attributes:
        links: the devices that are up.
        addresses: packed address to the index of its device, also of devices that are down.
    """

    links: tuple[Link, ...] = ()
    addresses: tuple[tuple[bytes, int], ...] = ()

    @property
    def mtus(self) -> dict[int, int]:
        """By interface index."""
        return {link.index: link.mtu for link in self.links}


def read_links() -> HostLinks:
    """Ask the kernel.

    Raises:
        OSError: it does not tell.
    """
    import pyroute2  # noqa: PLC0415  # takes 0.1 s, which only the privileged process is to pay

    try:
        with pyroute2.IPRoute() as route:
            links = tuple(_links(route.get_links()))
            addresses = tuple(_addresses(route.get_addr()))
    except pyroute2.NetlinkError as error:
        raise OSError(error.code, str(error)) from error
    return HostLinks(links, addresses)


def _links(messages: Any) -> Iterator[Link]:  # pyroute2 is untyped
    for message in messages:
        if message["flags"] & _IFF_UP:
            yield Link(
                index=message["index"],
                name=message.get_attr("IFLA_IFNAME") or "?",
                mtu=message.get_attr("IFLA_MTU") or 0,
                loopback=bool(message["flags"] & _IFF_LOOPBACK),
                ethernet=message["ifi_type"] in _ARPHRD_WITH_ETHERNET_HEADER,
            )


def _addresses(messages: Any) -> Iterator[tuple[bytes, int]]:  # pyroute2 is untyped
    for message in messages:
        # On point-to-point links IFA_ADDRESS is the other end; IFA_LOCAL, where present, is always ours.
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if text is not None:
            with contextlib.suppress(ValueError):
                yield pack_address(text), message["index"]


class NetworkNews:
    """A netlink socket that is readable when links, addresses, routes or rules have changed.

    Raises:
        OSError: from the constructor: there is no netlink here.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, 0))
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self) -> bool:
        """Read all that has come; whether links or addresses are concerned, and not routes alone."""
        concerned = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return concerned
            except OSError:  # ENOBUFS: some were lost, so anything may have changed
                concerned = True
                continue
            concerned = concerned or any(
                kind in _LINK_MESSAGES or kind in _ADDRESS_MESSAGES for kind in message_types(data)
            )

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def message_types(data: bytes) -> Iterator[int]:
    """The types of the netlink messages in a datagram of the kernel's."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind
        at += max((length + 3) & ~3, _HEADER.size)
