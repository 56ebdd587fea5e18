"""The way out of a flow: from our sender address to the target, as this host's routing has it now."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mediaproxy.backends.packed_address import unpack_address

_MAX_CACHED: Final = 65_536
_RTN_UNICAST: Final = 1
_RTN_LOCAL: Final = 2
_RTAX_MTU: Final = 2
_DEFAULT_ERRNO: Final = errno.ENETUNREACH


@dataclass(frozen=True, slots=True)
class WayOut:
    """Where packets to a target leave.

    Attributes:
        errno: 0, or why there is no way out; the rest then means nothing.
        ifindex: of the device; 0 if the target is on this host.
        mtu: longest IP packet that may go that way; 0 for no limit.
        local: the target is an address of this host.
    """

    errno: int = 0
    ifindex: int = 0
    mtu: int = 0
    local: bool = False


Lookup = Callable[[str, str], WayOut]
"""Sender and target address to the way out; a system call."""

Pair = tuple[bytes, bytes]
"""Packed sender and target address."""


class Routes:
    """Ways out by sender and target address, remembered until ``forget``; at most ``_MAX_CACHED`` of them."""

    def __init__(self, lookup: Lookup, limit: int = _MAX_CACHED) -> None:
        self._lookup = lookup
        self._limit = limit
        self._cache: OrderedDict[Pair, WayOut] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cache)

    def find(self, pair: Pair) -> WayOut:
        """The way out, looked up if it is not remembered."""
        way = self._cache.get(pair)
        if way is None:
            if len(self._cache) >= self._limit:
                self._cache.popitem(last=False)
            way = self._cache[pair] = self._lookup(unpack_address(pair[0]), unpack_address(pair[1]))
        return way

    def forget(self) -> None:
        """Links, addresses, routes or rules have changed."""
        self._cache.clear()


class KernelRoutes:
    """Asks the kernel, by one netlink socket that stays open.

    Raises:
        OSError: from the constructor: there is no netlink here.
    """

    def __init__(self) -> None:
        import pyroute2  # noqa: PLC0415  # takes 0.1 s, which only the privileged process is to pay

        self._netlink_error = pyroute2.NetlinkError
        self._route: Any = pyroute2.IPRoute()  # pyroute2 is untyped
        self._link_mtus: dict[int, int] = {}

    def close(self) -> None:
        self._route.close()

    def set_link_mtus(self, mtus: dict[int, int]) -> None:
        """What routes without an MTU of their own have, by interface index."""
        self._link_mtus = mtus

    def look_up(self, sender: str, target: str) -> WayOut:
        """As ``ip route get TARGET from SENDER`` (a ``Lookup``)."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        same_family = (":" in sender) == (":" in target)
        try:
            # A packet of another family than its sender's address gets its source in the backend.
            answers = self._route.route("get", family=family, dst=target, **({"src": sender} if same_family else {}))
        except self._netlink_error as error:
            return WayOut(errno=error.code or _DEFAULT_ERRNO)
        except OSError as error:
            return WayOut(errno=error.errno or _DEFAULT_ERRNO)
        return self._read(answers[0]) if answers else WayOut(errno=_DEFAULT_ERRNO)

    def _read(self, answer: Any) -> WayOut:  # pyroute2 is untyped
        if answer["type"] == _RTN_LOCAL:
            return WayOut(local=True)
        ifindex = answer.get_attr("RTA_OIF")
        if answer["type"] != _RTN_UNICAST or not ifindex:
            return WayOut(errno=errno.EACCES)  # a directed broadcast: not for relayed media
        link_mtu = self._link_mtus.get(ifindex, 0)
        route_mtu = 0
        with contextlib.suppress(AttributeError):
            route_mtu = answer.get_attr("RTA_METRICS").get_attr("RTAX_MTU") or 0
        return WayOut(ifindex=ifindex, mtu=min(link_mtu, route_mtu) if route_mtu and link_mtu else link_mtu)
