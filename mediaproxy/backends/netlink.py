"""What the kernel says about this host's addresses and routes, as values.

pyroute2's synchronous interface refuses to work in a thread whose event loop runs: call these functions before the loop
starts, or in a thread of their own.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any, Final

from mediaproxy.errors import MediaProxyError
from mediaproxy.net import parse_address

_MAIN_TABLE: Final = 254  # RT_TABLE_MAIN
_SCOPE_LINK: Final = 253  # RT_SCOPE_LINK: fe80::, 169.254.x.x
_SCOPE_HOST: Final = 254  # RT_SCOPE_HOST: loopback
_IFA_F_TENTATIVE: Final = 0x40  # not usable before duplicate address detection is over
_IFA_F_DADFAILED: Final = 0x08


class NetlinkError(MediaProxyError):
    """The kernel did not tell."""


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of this host.

    Attributes:
        device: name of the network device.
        address: canonical.
        prefix_length: of the directly connected network.
        loopback: reachable from this host only.
        link_local: meaningless without its link, so not usable in SDP.
    """

    device: str
    address: str
    prefix_length: int
    loopback: bool = False
    link_local: bool = False


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """The addresses of this host in the kernel's order, and the one that the default route leaves with, if any."""

    addresses: tuple[LocalAddress, ...]
    default_address: str | None = None


def read_host_network() -> HostNetwork:
    """Ask the kernel for all addresses and the default routes of this network namespace.

    Raises:
        NetlinkError: netlink is not available.
    """
    import pyroute2  # noqa: PLC0415  # takes 0.2 s, which only a start-up is to pay

    try:
        with pyroute2.IPRoute() as route:
            names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
            addresses: list[tuple[int, LocalAddress]] = []
            for message in route.get_addr():
                address = _local_address(message, names)
                if address is not None:
                    addresses.append((message["index"], address))
            default = None
            for family in (socket.AF_INET, socket.AF_INET6):
                default = default or _default_address(list(route.get_default_routes(family=family)), addresses)
    except (OSError, pyroute2.NetlinkError) as error:
        raise NetlinkError(f"netlink: {error}") from error
    return HostNetwork(tuple(address for _, address in addresses), default)


def _local_address(message: Any, names: dict[int, str]) -> LocalAddress | None:  # pyroute2's messages are untyped
    # On point-to-point links IFA_ADDRESS is the other end; IFA_LOCAL, where present, is always ours.
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    if text is None or flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
        return None
    address, _ = parse_address(text)
    return LocalAddress(
        device=names.get(message["index"], "?"),
        address=address,
        prefix_length=message["prefixlen"],
        loopback=message["scope"] == _SCOPE_HOST,
        link_local=message["scope"] == _SCOPE_LINK,
    )


def _default_address(routes: list[Any], addresses: list[tuple[int, LocalAddress]]) -> str | None:
    """The source address of the best default route: the route's own choice, else the first of its device."""
    in_main_table = [route for route in routes if (route.get_attr("RTA_TABLE") or route["table"]) == _MAIN_TABLE]
    for route in sorted(in_main_table, key=lambda route: route.get_attr("RTA_PRIORITY") or 0):
        preferred = route.get_attr("RTA_PREFSRC")
        if preferred is not None:
            return parse_address(preferred)[0]
        hops = route.get_attr("RTA_MULTIPATH") or []
        devices = [route.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)]
        is_ip6 = route["family"] == socket.AF_INET6
        for device in devices:
            for index, address in addresses:
                usable = not (address.loopback or address.link_local)
                if index == device and usable and (":" in address.address) == is_ip6:
                    return address.address
    return None


def can_bind(address: str) -> bool:
    """Whether this host has the address (or may bind it without, ``ip_nonlocal_bind``)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True
