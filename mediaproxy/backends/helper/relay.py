"""The relay of the C helper (``mpo_relay_*``), typed.

Ownership and errors of each function: ``kernel_offload/include/mpo.h``. All of them return a count, 0 or ``-errno``,
and run without the interpreter lock. Structures cross as plain memory that Python packs and unpacks by
``struct``: the layouts below are those of ``mpo_abi.h`` (the tests compare them field by field).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

from mediaproxy.backends.helper.rtp import SSRC_STATS, SSRCS_MAX, StatePointer

RelayPointer = NewType("RelayPointer", object)
"""``struct mpo_relay *``; ends with ``mpo_relay_destroy``."""
Pointer = NewType("Pointer", object)
"""Into memory that Python owns (or, for statistics, that the relay owns until it is destroyed)."""

SINKS_MAX: Final = 8
CLOCK_RATES_MAX: Final = 16
DROP_REASONS: Final = 7
CONFIG_OPAQUE: Final = 1
CONFIG_DROP: Final = 2
CONFIG_TOS: Final = 4

ENDPOINT: Final = Struct("=16sHxx")
"""``struct mpo_endpoint``: address (IPv4 as ::ffff:a.b.c.d), port; port 0 means none."""
CLOCK_RATE: Final = Struct("=IB3x")
"""``struct mpo_clock_rate``: Hz, payload type."""
CONFIG_HEAD: Final = Struct("=Q16sHxx16sHxxBBBBBBxx")
"""``struct mpo_transport_config`` up to the sinks: handle, remote, expected, policy, flags, tos, three counts."""
CONFIG_RTP_SINKS: Final = CONFIG_HEAD.size
CONFIG_RTCP_SINKS: Final = CONFIG_RTP_SINKS + 8 * SINKS_MAX
CONFIG_CLOCK_RATES: Final = CONFIG_RTCP_SINKS + 8 * SINKS_MAX
CONFIG_SIZE: Final = CONFIG_CLOCK_RATES + CLOCK_RATE.size * CLOCK_RATES_MAX
HANDLES: Final = tuple(Struct(f"={count}Q") for count in range(SINKS_MAX + 1))
"""Arrays of handles, by their length."""
EVENT: Final = Struct("=Q16sHxxIBB6x")
"""``struct mpo_event``: handle, source, ssrc, kind, packet class."""
STREAM_HEAD: Final = Struct("=6Q")
"""``struct mpo_stream_stats`` up to its SSRCs: packets, bytes, errors, packets out, bytes out, last seen."""
STREAM_SIZE: Final = STREAM_HEAD.size + SSRC_STATS.size * SSRCS_MAX
STATS_HEAD: Final = Struct(f"=QQIxxxxQQ{DROP_REASONS}Q")
"""``struct mpo_transport_stats`` up to its streams: handle, last seen, version, reports, suppressed, drops."""
STATS_SIZE: Final = STATS_HEAD.size + 2 * STREAM_SIZE
TOTALS: Final = Struct("=12Q")
"""``struct mpo_relay_totals``."""


class RelayFunctions(Protocol):
    """The functions of ``mpo.h``, as cffi's ``lib`` object has them."""

    def mpo_relay_create(self, workers: int, capacity: int, out: Pointer, /) -> int: ...
    def mpo_relay_destroy(self, relay: RelayPointer, /) -> None: ...
    def mpo_relay_open_pair(self, relay: RelayPointer, local: Pointer, group: int, handles: Pointer, /) -> int: ...
    def mpo_relay_close(self, relay: RelayPointer, handles: Pointer, count: int, /) -> int: ...
    def mpo_relay_close_all(self, relay: RelayPointer, /) -> int: ...
    def mpo_relay_configure(self, relay: RelayPointer, configs: Pointer, count: int, /) -> int: ...
    def mpo_relay_event_fd(self, relay: RelayPointer, /) -> int: ...
    def mpo_relay_take_events(self, relay: RelayPointer, events: Pointer, capacity: int, /) -> int: ...
    def mpo_relay_stats(self, relay: RelayPointer, count: Pointer, /) -> Pointer: ...
    def mpo_relay_read_stats(self, relay: RelayPointer, handle: int, out: Pointer, /) -> int: ...
    def mpo_relay_read_rtp(self, relay: RelayPointer, handle: int, out: StatePointer, /) -> int: ...
    def mpo_relay_resume_rtp(self, relay: RelayPointer, handle: int, state: StatePointer, /) -> int: ...
    def mpo_relay_read_totals(self, relay: RelayPointer, out: Pointer, /) -> None: ...
    def mpo_relay_thread_ids(self, relay: RelayPointer, ids: Pointer, capacity: int, /) -> int: ...


class Memory(Protocol):
    """The parts of cffi's ``ffi`` object that are used here."""

    def from_buffer(self, cdecl: str, python_buffer: bytearray, /) -> Pointer: ...
    def buffer(self, cdata: Pointer, size: int, /) -> memoryview: ...
    def new(self, cdecl: str, /) -> Pointer: ...


functions: Final = cast(RelayFunctions, _mediaproxy_offload.lib)
memory: Final = cast(Memory, _mediaproxy_offload.ffi)


def create_relay(workers: int, capacity: int) -> tuple[int, RelayPointer]:
    """Call ``mpo_relay_create``; the pointer means something only when the first value is 0."""
    out = memory.new("struct mpo_relay **")
    result = functions.mpo_relay_create(workers, capacity, out)
    return result, cast("list[RelayPointer]", out)[0]


def view_stats(relay: RelayPointer) -> memoryview:
    """The statistics of all slots as 64-bit words, read-only; must be released before the relay is destroyed."""
    count = memory.new("__u32 *")
    pointer = functions.mpo_relay_stats(relay, count)
    length = cast("list[int]", count)[0] * STATS_SIZE
    return memoryview(memory.buffer(pointer, length)).toreadonly().cast("B").cast("Q")
