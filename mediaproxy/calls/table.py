"""All calls, and when each wants to be looked at next: the one owner of both."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, ValuesView
from typing import Final

from mediaproxy.calls.call import Call

_COMPACT_FROM: Final = 1024
"""The heap is swept only from this size on; below it dead entries cost nothing."""


class CallTable:
    """Calls by call-id, with one heap of deadlines.

    A call has at most one valid entry in the heap, the one that equals its ``wake_at``; older entries are skipped when
    they come up, and swept when they outnumber the calls.
    """

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._deadlines: list[tuple[float, int, Call]] = []
        self._entries = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[str]:
        """The call-ids, oldest call first."""
        return iter(self._calls)

    def get(self, call_id: str) -> Call | None:
        return self._calls.get(call_id)

    def values(self) -> ValuesView[Call]:
        return self._calls.values()

    def add(self, call: Call) -> None:
        self._calls[call.call_id] = call

    def remove(self, call: Call) -> None:
        """Forget a call; its heap entries die with it."""
        del self._calls[call.call_id]
        call.wake_at = None
        self._sweep()

    def wake(self, call: Call, when: float | None) -> None:
        """Set when the call is to be looked at next (monotonic seconds; ``None`` for never)."""
        if call.wake_at == when:
            return
        call.wake_at = when
        if when is not None:
            self._entries += 1
            heapq.heappush(self._deadlines, (when, self._entries, call))
        self._sweep()

    def next_deadline(self) -> float | None:
        """The earliest valid deadline."""
        self._drop_stale_head()
        return self._deadlines[0][0] if self._deadlines else None

    def pop_due(self, now: float) -> Call | None:
        """The call whose deadline came first and is due; its ``wake_at`` is cleared. ``None`` when none is due."""
        self._drop_stale_head()
        if not self._deadlines or self._deadlines[0][0] > now:
            return None
        call = heapq.heappop(self._deadlines)[2]
        call.wake_at = None
        return call

    def _drop_stale_head(self) -> None:
        while self._deadlines and self._deadlines[0][2].wake_at != self._deadlines[0][0]:
            heapq.heappop(self._deadlines)

    def _sweep(self) -> None:
        if len(self._deadlines) > _COMPACT_FROM and len(self._deadlines) > 2 * len(self._calls):
            self._deadlines = [entry for entry in self._deadlines if entry[2].wake_at == entry[0]]
            heapq.heapify(self._deadlines)
