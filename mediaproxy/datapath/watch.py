"""Watching young flows: does the kernel really move their packets?

A flow that was accepted may still forward nothing, because something stands in the way that nobody asked: another
program at the hook, a table that comes first, a device that nobody watches. Its packets then go on reaching the socket,
so nobody hears a difference, but it must not be called a kernel flow.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mediaproxy.datapath.flow import Slot
from mediaproxy.datapath.kernel import FlowCounters, FlowUp
from mediaproxy.datapath.relay import TransportHandle

_SETTLING: Final = 0.25
"""Seconds after the installation until what was queued in the socket before is drained."""
_YOUNG: Final = 0.3
"""Seconds between looks in the first ones; with _SETTLING a fall-back takes less than a second."""
_QUIET: Final = 2.0
"""Seconds between looks at a flow that has carried nothing for a while (a party on hold)."""
_PATIENCE: Final = 4
"""Looks until a flow counts as quiet."""
_ENOUGH: Final = 3
"""Packets at the socket that prove that the kernel does not take them."""
_SEEN: Final = (FlowUp.SOURCE, FlowUp.OPTIONS, FlowUp.FRAGMENT, FlowUp.MTU)
"""The kernel saw these packets and let them pass for a reason of their own."""
_LOOKS_PER_TURN: Final = 256


class Finding(Enum):
    """What a look at a flow has shown."""

    MOVES = "moves"
    STUCK = "stuck"
    LOCAL = "local"
    """It would have to leave to this host, which only packets from this host can."""
    NOTHING_YET = "nothing yet"


@dataclass(order=True, slots=True)
class _Watched:
    due: float
    number: int
    handle: TransportHandle
    slot: Slot
    heard: int | None = None
    looks: int = 0


def judge(counters: FlowCounters, heard: int) -> Finding:
    """Say what becomes of a flow.

    Args:
        heard: RTP packets that its socket has accepted since the flow had settled.
    """
    if counters.packets or any(counters.ups[reason] for reason in _SEEN) or any(counters.drops):
        return Finding.MOVES
    if heard < _ENOUGH:
        return Finding.NOTHING_YET
    return Finding.LOCAL if counters.ups[FlowUp.LOCAL] else Finding.STUCK


class Watch:
    """The flows that have not proved themselves."""

    def __init__(self) -> None:
        self._watched: list[_Watched] = []
        self._number = 0

    def add(self, handle: TransportHandle, slot: Slot, now: float) -> None:
        """A flow was installed."""
        self._number += 1
        heapq.heappush(self._watched, _Watched(now + _SETTLING, self._number, handle, slot))

    def next_look(self) -> float | None:
        """When ``look`` wants to be called next."""
        return self._watched[0].due if self._watched else None

    def look(
        self,
        now: float,
        is_current: Callable[[TransportHandle, Slot], bool],
        read: Callable[[Slot], FlowCounters],
        heard: Callable[[TransportHandle], int],
    ) -> list[tuple[TransportHandle, Finding]]:
        """Look at the flows that are due; returns those that are stuck.

        Args:
            is_current: whether the flow still is the transport's.
            heard: how many RTP packets the transport's sockets have accepted so far.
        """
        stuck: list[tuple[TransportHandle, Finding]] = []
        for _ in range(_LOOKS_PER_TURN):
            if not self._watched or self._watched[0].due > now:
                break
            watched = heapq.heappop(self._watched)
            if not is_current(watched.handle, watched.slot):
                continue
            so_far = heard(watched.handle)
            if watched.heard is None:
                watched.heard = so_far
            finding = judge(read(watched.slot), so_far - watched.heard)
            if finding is Finding.NOTHING_YET:
                watched.looks += 1
                watched.due = now + (_YOUNG if watched.looks < _PATIENCE else _QUIET)
                heapq.heappush(self._watched, watched)
            elif finding is not Finding.MOVES:
                stuck.append((watched.handle, finding))
        return stuck
