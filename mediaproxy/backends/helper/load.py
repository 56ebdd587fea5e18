"""The RTP generator of the C helper (``kernel_offload/include/mpo_load.h``), typed.

All functions return 0 or ``-errno`` and run without the interpreter lock. Structures cross as plain memory.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

from mediaproxy.backends.helper.relay import Pointer, memory

LoadPointer = NewType("LoadPointer", object)
"""``struct mpo_load *``; ends with ``mpo_load_destroy``."""

SIDES: Final = 2
BURST_MAX: Final = 64
FLOW: Final = Struct("=16sHxx16sHxx16sHxxI")
"""``struct mpo_load_flow``: source, relay, sink (address with IPv4 as ::ffff:a.b.c.d, port each), side."""
RESULT: Final = Struct("=16Q")
"""``struct mpo_load_result``."""


class LoadFunctions(Protocol):
    """The functions of ``mpo_load.h``, as cffi's ``lib`` object has them."""

    def mpo_load_create(self, out: Pointer, /) -> int: ...
    def mpo_load_destroy(self, load: LoadPointer, /) -> None: ...
    def mpo_load_open_side(self, load: LoadPointer, side: int, ifindex: int, relay_mac: bytes, /) -> int: ...
    def mpo_load_set_flows(self, load: LoadPointer, flows: Pointer, count: int, /) -> int: ...
    def mpo_load_run(self, load: LoadPointer, pps: int, duration_ns: int, burst: int, result: Pointer, /) -> int: ...
    def mpo_load_redirect(self, from_ifindex: int, to_ifindex: int, /) -> int: ...


functions: Final = cast(LoadFunctions, _mediaproxy_offload.lib)

__all__ = ["BURST_MAX", "FLOW", "RESULT", "SIDES", "LoadPointer", "Pointer", "create_load", "functions", "memory"]


def create_load() -> tuple[int, LoadPointer]:
    """Call ``mpo_load_create``; the pointer means something only when the first value is 0."""
    out = memory.new("struct mpo_load **")
    result = functions.mpo_load_create(out)
    return result, cast("list[LoadPointer]", out)[0]
