"""How many calls ports and descriptors are enough for."""

from __future__ import annotations

from typing import Final

_PORTS_PER_CALL: Final = 4
_DESCRIPTORS_PER_CALL: Final = 6
"""Of a call with one audio stream: four sockets, and one more for each source that was learnt. A quarter of all
descriptors is left for everything else."""


def calls_for_ports(ports: int) -> int:
    """How many calls there are ports for."""
    return ports // _PORTS_PER_CALL


def calls_for_descriptors(limit: int) -> int:
    """How many calls a limit of descriptors is enough for."""
    return limit * 3 // 4 // _DESCRIPTORS_PER_CALL


def descriptors_for(calls: int) -> int:
    """The limit of descriptors that so many calls need."""
    return calls * _DESCRIPTORS_PER_CALL * 4 // 3
