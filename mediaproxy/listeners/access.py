"""Who may send requests to the control listeners."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED: Final = 4096
"""How many answers are kept; spoofed sources can fill this, and then only make it start anew."""


class AccessList:
    """A list of networks; nobody else is served.

    Args:
        networks: whose addresses are allowed.
    """

    def __init__(self, networks: Iterable[IpNetwork]) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def allows(self, address: str) -> bool:
        """Whether requests from this address are taken.

        Args:
            address: an IPv4 or IPv6 address, without zone.
        """
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[address] = self._look_up(address)
        return known

    def _look_up(self, address: str) -> bool:
        peer = ipaddress.ip_address(address)
        return any(peer.version == network.version and peer in network for network in self._networks)
