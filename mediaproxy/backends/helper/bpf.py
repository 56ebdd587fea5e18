"""The functions of ``mpo_bpf.h``, typed: eBPF maps, programs, hooks, and the reader of copied packets.

Ownership and errors of each function: ``kernel_offload/include/mpo_bpf.h``. All return a count, 0 or ``-errno``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final, NewType, Protocol, cast

import _mediaproxy_offload

from mediaproxy.backends.helper.relay import Pointer, memory

BpfPointer = NewType("BpfPointer", object)
"""``struct mpo_bpf *``; ends with ``mpo_bpf_close``."""
TapPointer = NewType("TapPointer", object)
"""``struct mpo_tap *``; ends with ``mpo_tap_close``."""

ABI: Final = 1
"""``MPO_BPF_ABI``: part of the names of all pins."""

TAP_RECORD: Final = Struct("=16sHxxIIIQII")
"""``struct mpo_tap_record``: key (address, port), slot, generation, ifindex, monotonic nanoseconds, length of the copy,
length of the packet."""
_LOG_LENGTH: Final = 64 * 1024


class Hook(IntEnum):
    """Where on a device a program hangs."""

    TCX = 1
    CLSACT = 2
    XDP_NATIVE = 3
    XDP_GENERIC = 4


class Program(IntEnum):
    """Which program a test runs."""

    TC_ETHERNET = 1
    TC_IP = 2
    XDP = 3


class BpfFunctions(Protocol):
    """The functions of ``mpo_bpf.h``, as cffi's ``lib`` object has them."""

    def mpo_bpf_open(
        self,
        pin_folder: bytes | object,
        slots: int,
        tap_bytes: int,
        xdp: int,
        identity: int,
        log: Pointer,
        log_length: int,
        out: Pointer,
        /,
    ) -> int: ...
    def mpo_bpf_close(self, bpf: BpfPointer, /) -> None: ...
    def mpo_bpf_unpin(self, bpf: BpfPointer, /) -> int: ...
    def mpo_bpf_slots(self, bpf: BpfPointer, /) -> int: ...
    def mpo_bpf_stats_fd(self, bpf: BpfPointer, /) -> int: ...
    def mpo_bpf_tap_fd(self, bpf: BpfPointer, /) -> int: ...
    def mpo_bpf_apply(self, bpf: BpfPointer, changes: Pointer, count: int, /) -> int: ...
    def mpo_bpf_dump(self, bpf: BpfPointer, changes: Pointer, capacity: int, /) -> int: ...
    def mpo_bpf_attach(self, bpf: BpfPointer, ifindex: int, hook: int, ethernet: int, /) -> int: ...
    def mpo_bpf_detach(self, bpf: BpfPointer, ifindex: int, hook: int, /) -> int: ...
    def mpo_bpf_attached(self, bpf: BpfPointer, ifindex: int, hook: int, /) -> int: ...
    def mpo_bpf_remove_qdisc(self, ifindex: int, /) -> int: ...
    def mpo_bpf_test_run(
        self,
        bpf: BpfPointer,
        program: int,
        frame: bytes,
        length: int,
        ifindex: int,
        repeat: int,
        output: Pointer,
        output_length: int,
        verdict: Pointer,
        duration_ns: Pointer,
        /,
    ) -> int: ...
    def mpo_tap_open(self, fd: int, out: Pointer, /) -> int: ...
    def mpo_tap_close(self, tap: TapPointer, /) -> None: ...
    def mpo_tap_take(self, tap: TapPointer, buffer: Pointer, length: int, /) -> int: ...


functions: Final = cast(BpfFunctions, _mediaproxy_offload.lib)
_NULL: Final = cast(object, _mediaproxy_offload.ffi.NULL)


def open_bpf(
    pin_folder: Path | None, slots: int, tap_bytes: int, xdp: bool, identity: int
) -> tuple[int, BpfPointer, str]:
    """Call ``mpo_bpf_open``; the pointer means something only when the first value is 0.

    The text is what the verifier said, where it said something.
    """
    out = memory.new("struct mpo_bpf **")
    log = bytearray(_LOG_LENGTH)
    result = functions.mpo_bpf_open(
        bytes(pin_folder) if pin_folder is not None else _NULL,
        slots,
        tap_bytes,
        xdp,
        identity,
        memory.from_buffer("char[]", log),
        len(log),
        out,
    )
    text = bytes(log.partition(b"\0")[0]).decode("utf-8", "replace")
    return result, cast("list[BpfPointer]", out)[0], text


def apply_changes(bpf: BpfPointer, changes: bytearray, count: int) -> int:
    """Call ``mpo_bpf_apply`` on an array of ``struct mpo_flow_change``."""
    return functions.mpo_bpf_apply(bpf, memory.from_buffer("struct mpo_flow_change[]", changes), count)


def dump_changes(bpf: BpfPointer, changes: bytearray, capacity: int) -> int:
    """Call ``mpo_bpf_dump``."""
    return functions.mpo_bpf_dump(bpf, memory.from_buffer("struct mpo_flow_change[]", changes), capacity)


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a program made of a frame: its verdict (TC_ACT_*, XDP_*), the frame, and the mean time of a run."""

    verdict: int
    frame: bytes
    nanoseconds: int


def run_program(bpf: BpfPointer, program: Program, frame: bytes, ifindex: int = 0, repeat: int = 1) -> ProgramRun:
    """Call ``mpo_bpf_test_run``.

    Raises:
        OSError: the kernel refuses, for one because the frame is shorter than an Ethernet header.
    """
    output = bytearray(len(frame) + 256)
    numbers = [memory.new("__u32 *"), memory.new("__u32 *")]
    result = functions.mpo_bpf_test_run(
        bpf,
        program,
        frame,
        len(frame),
        ifindex,
        repeat,
        memory.from_buffer("__u8[]", output),
        len(output),
        *numbers,
    )
    if result < 0:
        raise OSError(-result, "BPF_PROG_TEST_RUN")
    verdict, nanoseconds = (cast("list[int]", number)[0] for number in numbers)
    return ProgramRun(verdict, bytes(output[:result]), nanoseconds)


def open_tap(fd: int) -> TapPointer:
    """Call ``mpo_tap_open``.

    Raises:
        OSError: it is no ring buffer, or there is no memory.
    """
    out = memory.new("struct mpo_tap **")
    result = functions.mpo_tap_open(fd, out)
    if result < 0:
        raise OSError(-result, "ring buffer of copied packets")
    return cast("list[TapPointer]", out)[0]


def take_tap(tap: TapPointer, buffer: bytearray) -> int:
    """Call ``mpo_tap_take``: how many bytes of records were written to ``buffer``."""
    return functions.mpo_tap_take(tap, memory.from_buffer("__u8[]", buffer), len(buffer))
