"""Port pairs: which even port is taken next, and how long a freed one rests.

A freed pair goes to the tail of a queue, so that late packets of the call that had it meet nobody for as long as
possible. The quarantine is a preference, not a wall: when only young pairs are left, the oldest is taken and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, MutableSequence
from typing import Final

from mediaproxy.interfaces import Interface, Interfaces

Shuffle = Callable[[MutableSequence[int]], None]
"""Puts a sequence into random order in place; randomness comes from outside."""

_NEVER: Final = float("-inf")


class PortPool:
    """The free port pairs of one local address and range, named by their even port."""

    def __init__(self, even_ports: Iterable[int], quarantine: float) -> None:
        """Args:
        even_ports: in the order in which they are to be taken first.
        quarantine: seconds for which a freed pair is not wanted again.
        """
        self._free: deque[tuple[int, float]] = deque((port, _NEVER) for port in even_ports)
        self._quarantine = quarantine
        self.size: Final = len(self._free)
        self.young_taken = 0
        """Pairs taken before their quarantine was over, because no older one was free."""
        self.busy = 0
        """Times that a pair was found bound by another program."""

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, now: float) -> int | None:
        """The even port of the pair that has been free longest; ``None`` if there is none."""
        if not self._free:
            return None
        port, freed = self._free.popleft()
        if now - freed < self._quarantine:
            self.young_taken += 1
        return port

    def give_back(self, port: int, now: float) -> None:
        """Free a pair that was taken and used."""
        self._free.append((port, now))

    def set_aside(self, port: int) -> None:
        """Return a pair that turned out to be bound by another program: it is tried again after all others."""
        self.busy += 1
        self._free.append((port, _NEVER))

    def withhold(self, ports: Collection[int]) -> None:
        """Let nobody take these pairs until they are given back."""
        self._free = deque(entry for entry in self._free if entry[0] not in ports)

    def put_back(self, port: int) -> None:
        """Return a pair that was taken but never bound: it stays the next one."""
        self._free.appendleft((port, _NEVER))


class PortPools:
    """The pools of all interfaces; interfaces with the same address and range share one."""

    def __init__(self, interfaces: Interfaces, quarantine: float, shuffle: Shuffle) -> None:
        self._pools: dict[tuple[str, int, int], PortPool] = {}
        self._withheld: dict[tuple[str, int], list[PortPool]] = {}
        for interface in interfaces.all:
            key = self._key(interface)
            if key not in self._pools:
                ports = list(range(interface.port_min + interface.port_min % 2, interface.port_max, 2))
                # Random order: a port that can be guessed invites injected media.
                shuffle(ports)
                self._pools[key] = PortPool(ports, quarantine)

    @staticmethod
    def _key(interface: Interface) -> tuple[str, int, int]:
        return interface.address, interface.port_min, interface.port_max

    def of(self, interface: Interface) -> PortPool:
        """The pool that serves an interface given to the constructor."""
        return self._pools[self._key(interface)]

    def withhold(self, pairs: Collection[tuple[str, int]]) -> None:
        """Let nobody take these pairs (local address, even port) until ``release``; to be called once, at the start."""
        for (address, port_min, port_max), pool in self._pools.items():
            ports = {port for pair_address, port in pairs if pair_address == address and port_min <= port < port_max}
            pool.withhold(ports)
            for port in ports:
                self._withheld.setdefault((address, port), []).append(pool)

    def release(self, pair: tuple[str, int], now: float) -> None:
        """Give a withheld pair back."""
        for pool in self._withheld.pop(pair, ()):
            pool.give_back(pair[1], now)
