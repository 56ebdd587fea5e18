"""Orphan flows: media of calls that a dead daemon has left goes on until it falls silent.

Their ports must not serve new calls meanwhile: two calls would hear each other. So the pairs are withheld from the
pools, and bound: else each of the agents' RTCP packets would be answered with "port unreachable".
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from itertools import islice
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
MAX_LISTED: Final = 100
"""Orphans in one report, which has to fit into one datagram."""

_Pair = tuple[str, int]
"""Local address and even port."""


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
        self._looked = now
        orphans = holder.orphans
        self._left: dict[Endpoint, InstalledFlow] = {orphan.flow.local: orphan for orphan in orphans}
        # When each may have been silent for long enough: with thousands of them a look at all would stop everything.
        self._due = [(now + timeout, number, orphan) for number, orphan in enumerate(orphans)] if timeout > 0 else []
        self._users: Counter[_Pair] = Counter()
        for orphan in orphans:
            self._users.update(_pairs(orphan))
        pools.withhold(self._users.keys())
        self._bound: dict[_Pair, tuple[TransportHandle, ...]] = {pair: self._bind(*pair) for pair in self._users}

    def next_deadline(self) -> float | None:
        """When ``expire`` wants to be called next."""
        return max(self._due[0][0], self._looked + LOOK) if self._due else None

    def expire(self, now: float) -> list[CallEvent]:
        """End the flows that have been silent for too long."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        self._looked = now
        silent = []
        while self._due and self._due[0][0] <= now:
            _, number, orphan = heapq.heappop(self._due)
            due = self._last_heard(orphan) + self._timeout
            if due > now:
                heapq.heappush(self._due, (due, number, orphan))
            else:
                silent.append(orphan)
        return self._end(silent, "silent", now)

    def report(self, now: float) -> tuple[int, list[NgReplyValue]]:
        """How many there are, and ``MAX_LISTED`` of them in words, with the seconds since the last packet of each."""
        listed: list[NgReplyValue] = [
            {
                "local": str(orphan.flow.local),
                "source": str(orphan.flow.source),
                "sender": str(orphan.flow.sender),
                "target": str(orphan.flow.target),
                "silent": round(now - self._last_heard(orphan)),
            }
            for orphan in islice(self._left.values(), MAX_LISTED)
        ]
        return len(self._left), listed

    def sweep(self, now: float) -> list[CallEvent]:
        """End them all."""
        self._due = []
        return self._end(list(self._left.values()), "swept", now)

    def _last_heard(self, orphan: InstalledFlow) -> float:
        return max(self._holder.orphan_last_seen(orphan) or 0.0, self._started)

    def _end(self, ended: Sequence[InstalledFlow], why: str, now: float) -> list[CallEvent]:
        if not ended:
            return []
        self._holder.remove_orphans(ended)
        for orphan in ended:
            del self._left[orphan.flow.local]
            for pair in _pairs(orphan):
                self._users[pair] -= 1
                if not self._users[pair]:
                    del self._users[pair]
                    self._relay.close(self._bound.pop(pair))
                    self._pools.release(pair, now)
        return [
            CallEvent(EventKind.ORPHAN_ENDED, "", {"local": str(orphan.flow.local), "why": why}) for orphan in ended
        ]

    def _bind(self, address: str, port: int) -> tuple[TransportHandle, ...]:
        try:
            return self._relay.open_pair(address, port, 0)
        except RelayError:
            return ()  # somebody else's by now; the flow goes on all the same


def _pairs(orphan: InstalledFlow) -> set[_Pair]:
    """The pair where a flow arrives and the one that it leaves by."""
    return {(end.address, end.port & ~1) for end in (orphan.flow.local, orphan.flow.sender)}
