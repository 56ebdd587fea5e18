"""Slots of the kernel path's statistics: each is taken by one flow at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from mediaproxy.datapath.flow import Slot

GENERATIONS: Final = 0xFFFFFFFF
"""The highest generation; after it comes 1."""


class SlotPool:
    """The free slots. The generation tells the users of one slot apart."""

    def __init__(self, slots: int, used: Collection[int], generation: int) -> None:
        """Args:
        slots: how many there are.
        used: indices that are somebody's already; they may be given back later.
        generation: the first one is the next after this (32 bits, never 0).
        """
        taken = set(used)
        self._free: deque[int] = deque(index for index in range(slots) if index not in taken)
        self._generation = generation & GENERATIONS

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self) -> Slot | None:
        """The slot that has been free longest, for a new flow; ``None`` if none is free."""
        if not self._free:
            return None
        self._generation = self._generation % GENERATIONS + 1
        return Slot(self._free.popleft(), self._generation)

    def give_back(self, slot: Slot) -> None:
        """Return a slot that no flow counts in any more."""
        self._free.append(slot.index)
