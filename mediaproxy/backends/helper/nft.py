"""Flows in nftables (``mpo_nft.h``), typed."""

from __future__ import annotations

from collections.abc import Sequence
from mmap import mmap
from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

from mediaproxy.backends.helper.flow_stats import SlotsPointer, slots_pointer
from mediaproxy.backends.helper.flow_stats import memory as shared

NftPointer = NewType("NftPointer", object)
"""``struct mpo_nft *``; ends with ``mpo_nft_leave`` or ``mpo_nft_remove``."""
Pointer = NewType("Pointer", object)
"""Into memory that Python owns."""

READABLE: Final = 0
FAST: Final = 1
OWNER: Final = 1
SLOTS_MAX: Final = 1 << 20
REASON_LENGTH: Final = 160
FOREIGN: Final = 1
GONE: Final = 2

LINK: Final = Struct("=IIBBBx16s")
"""``struct mpo_nft_link``: interface index, MTU, loopback, ethernet, hooked, name."""
_NAME_LENGTH: Final = 15  # without the NUL at its end


class NftFunctions(Protocol):
    """The functions of ``mpo_nft.h``, as cffi's ``lib`` object has them."""

    def mpo_nft_open(
        self, instance: bytes, slots: int, form: int, flags: int, stats: SlotsPointer, out: Pointer, reason: Pointer, /
    ) -> int: ...
    def mpo_nft_leave(self, nft: NftPointer, /) -> None: ...
    def mpo_nft_remove(self, nft: NftPointer, /) -> int: ...
    def mpo_nft_attach(self, nft: NftPointer, links: Pointer, count: int, /) -> int: ...
    def mpo_nft_apply(self, nft: NftPointer, changes: Pointer, count: int, /) -> int: ...
    def mpo_nft_dump(self, nft: NftPointer, out: Pointer, capacity: int, /) -> int: ...
    def mpo_nft_poll(self, nft: NftPointer, /) -> int: ...
    def mpo_nft_watch_fd(self, nft: NftPointer, /) -> int: ...
    def mpo_nft_check(self, nft: NftPointer, /) -> int: ...
    def mpo_nft_rebuild(self, nft: NftPointer, /) -> int: ...


class Memory(Protocol):
    """The parts of cffi's ``ffi`` object that are used here."""

    def from_buffer(self, cdecl: str, python_buffer: bytearray, /) -> Pointer: ...
    def new(self, cdecl: str, /) -> Pointer: ...


functions: Final = cast(NftFunctions, _mediaproxy_offload.lib)
memory: Final = cast(Memory, _mediaproxy_offload.ffi)


def open_nft(instance: str, slots: int, form: int, flags: int, stats: SlotsPointer) -> tuple[int, str, NftPointer]:
    """Call ``mpo_nft_open``; the pointer means something only when the first value is 0, the reason when it is not."""
    out = memory.new("struct mpo_nft **")
    reason = bytearray(REASON_LENGTH)
    result = functions.mpo_nft_open(
        instance.encode(), slots, form, flags, stats, out, memory.from_buffer("char[]", reason)
    )
    text = reason.partition(b"\0")[0].decode("utf-8", "replace")
    return result, text, cast("list[NftPointer]", out)[0]


def attach(nft: NftPointer, links: Sequence[tuple[int, int, bool, bool, str]]) -> tuple[int, list[int]]:
    """Call ``mpo_nft_attach`` with (index, mtu, loopback, ethernet, name); returns its result and those not hooked."""
    packed = bytearray().join(
        [LINK.pack(index, mtu, loop, ether, 0, name.encode()[:_NAME_LENGTH]) for index, mtu, loop, ether, name in links]
    )
    result = functions.mpo_nft_attach(nft, memory.from_buffer("struct mpo_nft_link[]", packed), len(links))
    return result, [index for index, _, _, _, hooked, _ in LINK.iter_unpack(packed) if not hooked]


def changes_pointer(records: bytearray) -> Pointer:
    """The memory of an array of ``struct mpo_flow_change``; valid while ``records`` is."""
    return memory.from_buffer("struct mpo_flow_change[]", records)


def pin_slots(mapped: mmap) -> SlotsPointer:
    """The statistics; to be given back with ``unpin_slots`` before they are unmapped."""
    return slots_pointer(mapped)


def unpin_slots(pointer: SlotsPointer) -> None:
    """See ``pin_slots``."""
    shared.release(pointer)
