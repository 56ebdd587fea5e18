"""RTP reception statistics and how they are handed from path to path (``mpo.h``, ``mpo_rtp_state_*``), typed."""

from __future__ import annotations

from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

StatePointer = NewType("StatePointer", object)
"""``struct mpo_rtp_state[1]``, in memory that Python owns."""

SSRCS_MAX: Final = 4

SSRC_STATS: Final = Struct("=QQQIIIIIIIB11x")
"""``struct mpo_ssrc_stats``: packets, bytes, last seen, ssrc, timestamp, sequence, lost, duplicates, reordered, jitter,
payload type."""
SOURCE_SIZE: Final = 88
"""Of ``struct mpo_rtp_source``, which only C looks into."""
STATE_SIZE: Final = SSRCS_MAX * (SSRC_STATS.size + SOURCE_SIZE)
"""Of ``struct mpo_rtp_state``: its ``mpo_ssrc_stats``, then its ``mpo_rtp_source``."""


class RtpFunctions(Protocol):
    """The functions, as cffi's ``lib`` object has them."""

    def mpo_rtp_state_seed(self, into: StatePointer, state: StatePointer, /) -> None: ...
    def mpo_rtp_state_merge(self, into: StatePointer, state: StatePointer, /) -> None: ...
    def mpo_rtp_state_count(self, state: StatePointer, packet: bytes, length: int, now: int, /) -> None: ...


class _Memory(Protocol):
    def from_buffer(self, cdecl: str, python_buffer: bytes | bytearray, /) -> StatePointer: ...


functions: Final = cast(RtpFunctions, _mediaproxy_offload.lib)
_memory: Final = cast(_Memory, _mediaproxy_offload.ffi)


def state_pointer(state: bytes | bytearray) -> StatePointer:
    """A state as C takes it; ``bytes`` only where C doesn't write.

    Raises:
        ValueError: it is shorter than a state.
    """
    return _memory.from_buffer("struct mpo_rtp_state[1]", state)
