"""Which addresses media may be sent to: an SDP must not turn us into a sprayer of third parties."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from mediaproxy.errors import RefusedAddressError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHED_VERDICTS: Final = 4096


class AddressPolicy:
    """Judges the addresses of received SDP.

    Multicast and broadcast are never sent to. Beyond that: if an allow list is given, an address must be in it; an
    address in the deny list is refused unless a longer prefix of the allow list holds it. Our own relay addresses are
    fine: a call may pass us twice.
    """

    def __init__(
        self, allow: Iterable[Network] = (), deny: Iterable[Network] = (), broadcasts: Iterable[str] = ()
    ) -> None:
        """Args:
        allow, deny: the configured lists; an empty allow list allows all.
        broadcasts: canonical directed broadcast addresses of the host's own networks.
        """
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._broadcasts = frozenset(broadcasts)
        self._verdicts: dict[str, str] = {}

    def check(self, address: str) -> None:
        """Args:
        address: canonical; unspecified addresses are nobody's and pass.

        Raises:
            RefusedAddressError: media must not be sent there; the text names the address and the reason.
        """
        why = self._verdicts.get(address)
        if why is None:
            if len(self._verdicts) >= _CACHED_VERDICTS:
                self._verdicts.clear()
            why = self._verdicts[address] = self._judge(address)
        if why:
            raise RefusedAddressError(address, why)

    def _judge(self, text: str) -> str:
        address = ipaddress.ip_address(text)
        if address.is_unspecified:
            return ""
        if address.is_multicast:
            return "multicast"
        if text == "255.255.255.255" or text in self._broadcasts:
            return "broadcast"
        allowed = max((net.prefixlen for net in self._allow if address in net), default=-1)
        denied = max((net.prefixlen for net in self._deny if address in net), default=-1)
        if denied > allowed:
            return "denied by the media access list"
        if self._allow and allowed < 0:
            return "not in the media access list"
        return ""
