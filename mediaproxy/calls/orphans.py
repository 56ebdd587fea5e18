"""Orphan flows: media of calls that a dead daemon has left goes on until it falls silent.

Their ports must not serve new calls meanwhile: two calls would hear each other. So the pairs are withheld from the
pools, and bound: else each of the agents' RTCP packets would be answered with "port unreachable".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mediaproxy.calls.events import CallEvent, EventKind
from mediaproxy.datapath import Relay, TransportHandle
from mediaproxy.datapath.flow import InstalledFlow
from mediaproxy.datapath.orphans import OrphanHolder
from mediaproxy.errors import RelayError
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgReplyValue
from mediaproxy.ports import PortPools

LOOK: Final = 1.0
"""Seconds between looks at the orphans."""


class Orphans:
    """Keeps the ports of orphan flows until the flows end."""

    def __init__(self, holder: OrphanHolder, pools: PortPools, relay: Relay, timeout: float, now: float) -> None:
        """Args:
        timeout: seconds without a packet after which a flow ends; 0 for never.
        """
        self._holder = holder
        self._pools = pools
        self._relay = relay
        self._timeout = timeout
        self._started = now
        self._bound: dict[tuple[str, int], tuple[TransportHandle, ...]] = {}
        pairs = self._pairs(holder.orphans)
        pools.withhold(pairs)
        for address, port in pairs:
            self._bound[address, port] = self._bind(address, port)
        self._next = now + LOOK if self._bound else None

    def next_deadline(self) -> float | None:
        """When ``expire`` wants to be called next."""
        return self._next

    def expire(self, now: float) -> list[CallEvent]:
        """End the flows that have been silent for too long."""
        if self._next is None or now < self._next:
            return []
        self._next = now + LOOK
        return self._end([orphan for orphan in self._holder.orphans if self._is_silent(orphan, now)], "silent", now)

    def report(self, now: float) -> list[NgReplyValue]:
        """Each flow in words, with the seconds since its last packet."""
        return [
            {
                "local": str(orphan.flow.local),
                "source": str(orphan.flow.source),
                "sender": str(orphan.flow.sender),
                "target": str(orphan.flow.target),
                "silent": round(now - self._last_heard(orphan)),
            }
            for orphan in self._holder.orphans
        ]

    def sweep(self, now: float) -> list[CallEvent]:
        """End them all."""
        return self._end(list(self._holder.orphans), "swept", now)

    def _is_silent(self, orphan: InstalledFlow, now: float) -> bool:
        return self._timeout > 0 and now - self._last_heard(orphan) >= self._timeout

    def _last_heard(self, orphan: InstalledFlow) -> float:
        return max(self._holder.orphan_last_seen(orphan) or 0.0, self._started)

    def _end(self, ended: Sequence[InstalledFlow], why: str, now: float) -> list[CallEvent]:
        if not ended:
            return []
        self._holder.remove_orphans(ended)
        still_used = self._pairs(self._holder.orphans)
        for pair in [pair for pair in self._bound if pair not in still_used]:
            self._relay.close(self._bound.pop(pair))
            self._pools.release(pair, now)
        if not self._bound:
            self._next = None
        return [
            CallEvent(EventKind.ORPHAN_ENDED, "", {"local": str(orphan.flow.local), "why": why}) for orphan in ended
        ]

    def _bind(self, address: str, port: int) -> tuple[TransportHandle, ...]:
        try:
            return self._relay.open_pair(address, port, 0)
        except RelayError:
            return ()  # somebody else's by now; the flow goes on all the same

    @staticmethod
    def _pairs(orphans: Sequence[InstalledFlow]) -> dict[tuple[str, int], None]:
        """The pairs where flows arrive and those that they leave by, each once."""
        ends: list[Endpoint] = [end for orphan in orphans for end in (orphan.flow.local, orphan.flow.sender)]
        return {(end.address, end.port & ~1): None for end in ends}
