"""Addresses and endpoints as values: no sockets, no look-ups."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

_CACHED_ADDRESSES: Final = 4096
"""How many parsed addresses are remembered; a peer can't make the cache grow beyond this."""


class AddressFamily(Enum):
    """The address types of SDP (RFC 8866, section 5.7); the value is how SDP and ng spell them."""

    IP4 = "IP4"
    IP6 = "IP6"

    @property
    def long_name(self) -> str:
        """How ``query`` spells the family (reference B.5)."""
        return "IPv4" if self is AddressFamily.IP4 else "IPv6"

    @property
    def unspecified(self) -> str:
        """The all-zero address, which SDP uses for "nowhere"."""
        return "0.0.0.0" if self is AddressFamily.IP4 else "::"


@lru_cache(maxsize=_CACHED_ADDRESSES)
def parse_address(text: str) -> tuple[str, AddressFamily]:
    """Check an IP address literal and put it into its canonical text form.

    Args:
        text: ``192.0.2.1`` or ``2001:db8::1``; no brackets, no zone, no host name.
    Returns:
        The canonical text (an IPv4-mapped IPv6 address becomes IPv4) and its family.
    Raises:
        ValueError: it is not an address literal.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone, which means nothing to a peer")
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped), AddressFamily.IP4
        return str(address), AddressFamily.IP6
    return str(address), AddressFamily.IP4


def family_of(address: str) -> AddressFamily:
    """The family of a canonical address text."""
    return AddressFamily.IP6 if ":" in address else AddressFamily.IP4


def is_unspecified(address: str) -> bool:
    """Whether it is ``0.0.0.0`` or ``::``."""
    return address in {"0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A remote or local UDP address: canonical address text and port (0..65535, host order)."""

    address: str
    port: int

    @property
    def family(self) -> AddressFamily:
        return family_of(self.address)

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
