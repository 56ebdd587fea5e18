"""The eBPF programs on a bench: flows are installed, frames are run through (BPF_PROG_TEST_RUN), nothing is sent."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from _mediaproxy_offload import ffi

from mediaproxy.backends import flow_records
from mediaproxy.backends.flow_records import FlowRecord
from mediaproxy.backends.helper import bpf as helper
from mediaproxy.backends.helper.bpf import Program, ProgramRun, functions
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import FlowDrop, FlowUp

SLOTS: Final = 64
GENERATION: Final = 7
TAP_BYTES: Final = 64 * 1024


def why_not() -> str | None:
    """Why eBPF cannot be had here, in one sentence; ``None`` if it can."""
    if os.geteuid() != 0:
        return "needs root, because it loads eBPF programs"
    result, bpf, _ = helper.open_bpf(None, 1, mmap.PAGESIZE, False, 0)
    if result < 0:
        return f"this machine allows no eBPF: {os.strerror(-result)}"
    functions.mpo_bpf_close(bpf)
    return None


class StatsView:
    """``struct mpo_flow_stats[]`` behind a descriptor, mapped for reading and (as the daemon does to seed) writing."""

    def __init__(self, fd: int, slots: int) -> None:
        self._memory = mmap.mmap(fd, ffi.sizeof("struct mpo_flow_stats") * slots)
        self._array = ffi.from_buffer("struct mpo_flow_stats[]", self._memory)

    def __getitem__(self, slot: int) -> Any:  # cffi's structures are untyped
        return self._array[slot]

    def seed(self, slot: int, generation: int = GENERATION) -> None:
        """Clear a slot and give it to a new flow."""
        stats = self._array[slot]
        size = ffi.sizeof("struct mpo_flow_stats")
        ffi.buffer(ffi.addressof(stats), size)[:] = bytes(size)
        stats.generation = generation

    def counted(self, slot: int) -> dict[str, int]:
        """All counters of a slot that are not 0: ``packets``, ``bytes``, ``drop TTL``, ``up RTCP`` ..."""
        stats = self._array[slot]
        counters = {"packets": stats.packets, "bytes": stats.bytes}
        counters |= {f"drop {drop.name}": stats.drops[drop] for drop in FlowDrop}
        counters |= {f"up {up.name}": stats.ups[up] for up in FlowUp}
        return {name: count for name, count in counters.items() if count}

    def close(self) -> None:
        """Unmap."""
        ffi.release(self._array)
        self._memory.close()


class BpfBench:
    """Loaded programs (of tc, or of XDP) with a handful of slots; nothing is pinned or attached."""

    def __init__(self, xdp: bool = False, tap_bytes: int = TAP_BYTES) -> None:
        self._xdp = xdp
        self._tap_bytes = tap_bytes
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        result, self.bpf, log = helper.open_bpf(None, SLOTS, self._tap_bytes, self._xdp, 1)
        assert result == 0, (os.strerror(-result), log)
        self._stack.callback(functions.mpo_bpf_close, self.bpf)
        self.stats = StatsView(functions.mpo_bpf_stats_fd(self.bpf), SLOTS)
        self._stack.callback(self.stats.close)
        self._next = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def tap_fd(self) -> int:
        """The ring of copies."""
        return functions.mpo_bpf_tap_fd(self.bpf)

    def apply(self, records: Sequence[FlowRecord]) -> list[int]:
        """Change what is installed; returns the results."""
        packed = bytearray().join(map(flow_records.pack_record, records))
        assert helper.apply_changes(self.bpf, packed, len(records)) == 0
        return flow_records.results(packed)

    def install(self, flow: Flow, *, ifindex: int = 1, mtu: int = 0, local_peer: bool = False) -> int:
        """Install a flow in a slot of its own, which is returned."""
        slot, self._next = self._next, self._next + 1
        self.stats.seed(slot)
        self.replace(slot, flow, ifindex=ifindex, mtu=mtu, local_peer=local_peer)
        return slot

    def replace(self, slot: int, flow: Flow, *, ifindex: int = 1, mtu: int = 0, local_peer: bool = False) -> None:
        """Install a flow in a slot that is in use."""
        installed = InstalledFlow(flow, Slot(slot, GENERATION))
        assert self.apply([FlowRecord(flow_records.SET, installed, ifindex, mtu, local_peer)]) == [0]

    def run(self, program: Program, frame: bytes, *, ifindex: int = 0, repeat: int = 1) -> ProgramRun:
        """Run a frame through."""
        return helper.run_program(self.bpf, program, frame, ifindex, repeat)
