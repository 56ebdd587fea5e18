"""The statistics of flows in shared memory (``mpo_flow_stats.h``), typed.

The same memory is mapped by the daemon, by the privileged process and, for the BPF backends, written by the kernel.
"""

from __future__ import annotations

from mmap import mmap
from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

from mediaproxy.backends.helper.rtp import SOURCE_SIZE, SSRC_STATS, StatePointer

SlotsPointer = NewType("SlotsPointer", object)
"""``struct mpo_flow_stats[]``: all slots."""
Pointer = NewType("Pointer", object)
"""Into memory that Python owns."""

SSRCS_MAX: Final = 2
DROPS: Final = 4
UPS: Final = 8

HEAD: Final = Struct(f"=Ixxxx4Q{DROPS}Q{UPS}Q")
"""``struct mpo_flow_stats`` up to its RTP: generation, packets, bytes, last seen, last sample of strangers, drops,
ups."""
STATS_SIZE: Final = HEAD.size + SSRCS_MAX * (SSRC_STATS.size + SOURCE_SIZE)
GENERATION: Final = Struct("=I")
"""What a slot begins with."""
COUNTERS_AND_SEEN: Final = Struct("=QQQ")
"""Packets, bytes and last seen, at ``COUNTERS_OFFSET`` of a slot."""
COUNTERS_OFFSET: Final = 8
LAST_SEEN_OFFSET: Final = 24
TOTALS: Final = Struct("=3Q")
"""``struct mpo_flow_totals``: packets, bytes, drops."""


class FlowStatsFunctions(Protocol):
    """The functions of ``mpo_flow_stats.h``, as cffi's ``lib`` object has them."""

    def mpo_flow_stats_seed(self, slots: SlotsPointer, index: int, generation: int, state: StatePointer, /) -> None: ...
    def mpo_flow_stats_read(
        self, slots: SlotsPointer, index: int, generation: int, out: Pointer, rtp: StatePointer, /
    ) -> int: ...
    def mpo_flow_stats_sum(self, slots: SlotsPointer, count: int, out: Pointer, /) -> None: ...
    def mpo_flow_stats_used(self, slots: SlotsPointer, count: int, /) -> int: ...
    def mpo_flow_stats_set(
        self,
        slots: SlotsPointer,
        slot_count: int,
        count: int,
        indices: Pointer,
        generations: Pointer,
        packets: Pointer,
        octets: Pointer,
        now: int,
        /,
    ) -> int: ...


class Memory(Protocol):
    """The parts of cffi's ``ffi`` object that are used here."""

    def from_buffer(self, cdecl: str, python_buffer: object, /) -> Pointer: ...
    def release(self, pointer: Pointer | SlotsPointer, /) -> None: ...


functions: Final = cast(FlowStatsFunctions, _mediaproxy_offload.lib)
memory: Final = cast(Memory, _mediaproxy_offload.ffi)


def slots_pointer(mapped: mmap) -> SlotsPointer:
    """All slots of a mapping, which can't be closed before ``memory.release`` of this."""
    return cast(SlotsPointer, memory.from_buffer("struct mpo_flow_stats[]", mapped))
