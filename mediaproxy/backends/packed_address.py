"""Addresses as C has them: the 16 bytes of ``mpo_endpoint.address``."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

_CACHED_ADDRESSES: Final = 8192
"""How many addresses are remembered in each form; a peer can't make the caches grow beyond this."""
_MAPPED: Final = bytes(10) + b"\xff\xff"

NOWHERE: Final = bytes(16)
"""No address; its port is 0 then."""


@lru_cache(maxsize=_CACHED_ADDRESSES)
def pack_address(address: str) -> bytes:
    """16 bytes, network order; IPv4 as ::ffff:a.b.c.d.

    Raises:
        ValueError: it is not an address literal.
    """
    packed = ipaddress.ip_address(address).packed
    return packed if len(packed) == len(NOWHERE) else _MAPPED + packed


@lru_cache(maxsize=_CACHED_ADDRESSES)
def unpack_address(packed: bytes) -> str:
    """Canonical text, as ``mediaproxy.net.parse_address`` yields it."""
    if packed.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(packed[len(_MAPPED) :]))
    return str(ipaddress.IPv6Address(packed))
