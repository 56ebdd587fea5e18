"""What the privileged process lets through: flows between relay endpoints that were configured, and nothing else.

The daemon parses what the whole network sends, so it may be taken over one day. Whoever has it then can still not make
this host forward anything that does not arrive at, and leave from, the relay's own addresses and ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from errno import EINVAL, EOPNOTSUPP, EPERM
from functools import lru_cache
from typing import Final

from mediaproxy.backends.flow_records import CHANGE, DROP, OPAQUE, REMOVE, SET, STRICT, TAP
from mediaproxy.backends.packed_address import pack_address, unpack_address
from mediaproxy.datapath.flow import MAX_FLOW_CLOCK_RATES, Capabilities
from mediaproxy.privileged.settings import RelayRange

_CACHED_ADDRESSES: Final = 8192
_MAPPED: Final = bytes(10) + b"\xff\xff"
_NOWHERE: Final = bytes(16)
_ASKABLE_FLAGS: Final = STRICT | OPAQUE | TAP | DROP
"""All but the one that the installer sets itself."""


@lru_cache(maxsize=_CACHED_ADDRESSES)
def is_host(packed: bytes) -> bool:
    """Whether a packed address can be that of one host; multicast, broadcast and "nowhere" cannot."""
    address = ipaddress.ip_address(unpack_address(packed))
    if isinstance(address, ipaddress.IPv4Address):
        return not (packed[12] == 0 or packed[12] >= 224)  # "this network", multicast, reserved, broadcast
    # A link-local address means nothing without its link, and SDP cannot name that.
    return not (address.is_unspecified or address.is_multicast or address.is_link_local)


def is_ip4(packed: bytes) -> bool:
    """The family of a packed address."""
    return packed.startswith(_MAPPED)


class Fence:
    """Judges ``struct mpo_flow_change``, one at a time."""

    def __init__(self, relays: Sequence[RelayRange], capabilities: Capabilities, slots: int) -> None:
        self._ranges: dict[bytes, list[tuple[int, int]]] = {}
        for relay in relays:
            self._ranges.setdefault(pack_address(relay.address), []).append((relay.port_min, relay.port_max))
        self._capabilities = capabilities
        self._slots = slots

    def is_ours(self, packed: bytes, port: int) -> bool:
        """Whether it is a relay endpoint."""
        return any(low <= port <= high for low, high in self._ranges.get(packed, ()))

    def judge(self, record: bytes, is_known: bool) -> int:
        """0 if the record may be carried out, else -errno.

        Args:
            record: ``CHANGE.size`` bytes.
            is_known: a flow is installed at its key: it may be removed whatever was configured since.
        Returns:
            -EPERM: not between relay endpoints. -EINVAL: no flow can be like that. -EOPNOTSUPP: the backend cannot.
        """
        fields = CHANGE.unpack(record)
        local, local_port, operation, zero, source, source_port, sender, sender_port, target, target_port = fields[:10]
        slot, generation, ifindex, mtu, flags, _tos, rates = fields[10:17]
        payload_types, result = fields[18:-1:2], fields[-1]
        if zero or operation not in {SET, REMOVE}:
            return -EINVAL
        if operation == REMOVE:
            return 0 if is_known or self.is_ours(local, local_port) else -EPERM
        if not (self.is_ours(local, local_port) and self.is_ours(sender, sender_port)):
            return -EPERM
        if target_port == 0 or not is_host(target) or slot >= self._slots or generation == 0:
            return -EINVAL
        if flags & ~_ASKABLE_FLAGS or ifindex or mtu or result:
            return -EINVAL  # the way out is not the daemon's to choose
        if rates > MAX_FLOW_CLOCK_RATES or any(payload_type > 127 for payload_type in payload_types):
            return -EINVAL
        if source_port == 0:
            if source != _NOWHERE or flags & STRICT:
                return -EINVAL
        elif not is_host(source) or is_ip4(source) != is_ip4(local):
            return -EINVAL
        if is_ip4(target) != is_ip4(sender):
            return -EINVAL
        return self._judge_capabilities(flags, source_port == 0, is_ip4(local) != is_ip4(sender))

    def _judge_capabilities(self, flags: int, any_source: bool, family_change: bool) -> int:
        able = self._capabilities
        missing = (
            (family_change and not able.family_change)
            or (any_source and not able.any_source)
            or (flags & OPAQUE and not able.opaque)
            or (flags & TAP and not able.tap)
        )
        return -EOPNOTSUPP if missing else 0
