"""Which addresses media may be sent to: an SDP must not turn us into a sprayer of third parties."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from mediaproxy.errors import RefusedAddressError
from mediaproxy.net import Endpoint

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHED_VERDICTS: Final = 4096


class AddressPolicy:
    """Judges the endpoints of received SDP.

    Multicast and broadcast are never sent to, nor are the control listeners (whoever reaches a relay port could speak
    to them in our name). Loopback and link-local addresses are refused unless an interface has such an address or the
    allow list names them. Beyond that: if an allow list is given, an address must be in it; an address in the deny list
    is refused unless a longer prefix of the allow list holds it. Our own relay addresses are fine: a call may pass us
    twice.
    """

    def __init__(
        self,
        allow: Iterable[Network] = (),
        deny: Iterable[Network] = (),
        broadcasts: Iterable[str] = (),
        control: Iterable[Endpoint] = (),
        local: Iterable[str] = (),
    ) -> None:
        """Args:
        allow, deny: the configured lists; an empty allow list allows all.
        broadcasts: canonical directed broadcast addresses of the host's own networks.
        control: where requests are taken, one endpoint per local address of a wildcard.
        local: the addresses of our interfaces.
        """
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._broadcasts = frozenset(broadcasts)
        self._control = frozenset(control)
        own = [ipaddress.ip_address(address) for address in local]
        self._near_is_fine = any(address.is_loopback or address.is_link_local for address in own)
        self._verdicts: dict[str, str] = {}

    def check(self, endpoint: Endpoint) -> None:
        """Args:
        endpoint: of canonical address; unspecified addresses are nobody's and pass.

        Raises:
            RefusedAddressError: media must not be sent there; the text names the address and the reason.
        """
        why = self.objection(endpoint)
        if why:
            raise RefusedAddressError(endpoint.address, why)

    def objection(self, endpoint: Endpoint) -> str:
        """Why media must not be sent there; empty if it may."""
        if endpoint in self._control:
            return f"port {endpoint.port} there is our own control port"
        address = endpoint.address
        why = self._verdicts.get(address)
        if why is None:
            if len(self._verdicts) >= _CACHED_VERDICTS:
                self._verdicts.clear()
            why = self._verdicts[address] = self._judge(address)
        return why

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
        if not self._near_is_fine and allowed <= 0 and (address.is_loopback or address.is_link_local):
            return "loopback" if address.is_loopback else "link-local"
        return ""
