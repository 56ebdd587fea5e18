"""The statistics of flows in memory that several processes share: one slot per flow, ``struct mpo_flow_stats``.

The daemon seeds slots and reads them (``FlowStatsMemory``). The kernel writes them by itself, or, where it only has
counters of its own, the privileged process does after asking for those (``FlowStatsWriter``).
"""

from __future__ import annotations

import fcntl
import mmap
import os
from array import array
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

from mediaproxy.backends.helper import flow_stats as helper
from mediaproxy.backends.helper import rtp
from mediaproxy.backends.helper.flow_stats import functions, memory
from mediaproxy.backends.rtp_states import NO_RTP
from mediaproxy.datapath.flow import Slot
from mediaproxy.datapath.kernel import FlowCounters, FlowTotals, RtpState
from mediaproxy.errors import OffloadError

_WORDS: Final = helper.STATS_SIZE // 8
_LAST_SEEN: Final = helper.LAST_SEEN_OFFSET // 8
_GENERATION: Final = 0xFFFFFFFF
_NOTHING: Final = FlowCounters(0, 0, None, (0,) * helper.DROPS, (0,) * helper.UPS, NO_RTP)
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class _Mapping:
    """``slots`` times ``struct mpo_flow_stats``, mapped shared."""

    def __init__(self, fd: int, slots: int) -> None:
        if slots < 1:
            raise OffloadError(f"{slots} slots for the statistics of flows")
        try:
            self._mapped = mmap.mmap(fd, slots * helper.STATS_SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError) as error:
            raise OffloadError(f"the statistics of {slots} flows can't be mapped: {error}") from error
        self._pointer = helper.slots_pointer(self._mapped)
        self._slots = slots
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap. Nothing else may be called afterwards; a second call does nothing."""
        if self._open:
            self._open = False
            self._end()

    def _end(self) -> None:
        memory.release(self._pointer)
        self._mapped.close()


class FlowStatsMemory(_Mapping):
    """``seed``, ``read``, ``last_seen`` and ``totals`` of ``datapath.kernel.Datapath``, without a system call.

    Args:
        fd: a mmapable BPF array or a memfd; not kept, the caller closes it.
        slots: how many slots it has.
    Raises:
        OffloadError: it can't be mapped.
    """

    def __init__(self, fd: int, slots: int) -> None:
        super().__init__(fd, slots)
        self._words = memoryview(self._mapped).cast("Q")
        # Sums stop behind the last slot that was ever used: to read a page of a memfd is to allocate it.
        self._used = functions.mpo_flow_stats_used(self._pointer, min(slots, _slots_with_data(fd, slots)))
        self._slot = bytearray(helper.STATS_SIZE)
        self._slot_pointer = memory.from_buffer("struct mpo_flow_stats[]", self._slot)
        self._rtp = bytearray(rtp.STATE_SIZE)
        self._rtp_pointer = rtp.state_pointer(self._rtp)
        self._totals = bytearray(helper.TOTALS.size)
        self._totals_pointer = memory.from_buffer("struct mpo_flow_totals[]", self._totals)

    def _end(self) -> None:
        self._words.release()
        super()._end()

    def clear(self, kept: Collection[int]) -> None:
        """Forget what all slots but these have counted; they are then of no generation."""
        nothing = rtp.state_pointer(NO_RTP)
        for index in range(self._used):
            if index not in kept and self._words[index * _WORDS] & _GENERATION:
                functions.mpo_flow_stats_seed(self._pointer, index, 0, nothing)

    def seed(self, slot: Slot, state: RtpState | None) -> None:
        """Clear a slot for a new flow, which goes on counting where ``state`` has come to.

        No flow may be counting there any more.

        Raises:
            OffloadError: there is no such slot.
            ValueError: ``state`` is too short to be one.
        """
        if not 0 <= slot.index < self._slots:
            raise OffloadError(f"slot {slot.index} of the {self._slots} for the statistics of flows")
        pointer = rtp.state_pointer(NO_RTP if state is None else state)
        functions.mpo_flow_stats_seed(self._pointer, slot.index, slot.generation, pointer)
        self._used = max(self._used, slot.index + 1)

    def read(self, slot: Slot) -> FlowCounters:
        """What the flow of a slot has counted; all zero when the slot is of another generation, or is none."""
        if not 0 <= slot.index < self._slots:
            return _NOTHING
        result = functions.mpo_flow_stats_read(
            self._pointer, slot.index, slot.generation, self._slot_pointer, self._rtp_pointer
        )
        if result < 0:
            return _NOTHING
        _, packets, octets, last_seen_ns, _, *counts = helper.HEAD.unpack_from(self._slot)
        return FlowCounters(
            packets=packets,
            bytes=octets,
            last_seen=last_seen_ns * 1e-9 if last_seen_ns else None,
            drops=tuple(counts[: helper.DROPS]),
            ups=tuple(counts[helper.DROPS :]),
            rtp=RtpState(bytes(self._rtp)),
        )

    def last_seen(self, slot: Slot) -> float | None:
        """When the last packet from the accepted source came, monotonic seconds; ``None`` as ``read`` is all zero."""
        if not 0 <= slot.index < self._slots:
            return None
        word = slot.index * _WORDS
        if self._words[word] & _GENERATION != slot.generation:
            return None
        nanoseconds = self._words[word + _LAST_SEEN]
        return nanoseconds * 1e-9 if nanoseconds else None

    def totals(self) -> FlowTotals:
        """Sums over all slots as they stand."""
        functions.mpo_flow_stats_sum(self._pointer, self._used, self._totals_pointer)
        return FlowTotals(*helper.TOTALS.unpack(self._totals))


class FlowStatsWriter(_Mapping):
    """The statistics of a backend whose counters the kernel keeps elsewhere: a memfd, filled by whoever asks for them.

    The memory can't be made smaller, so that a process that has it can't harm another that has it.

    Args:
        slots: how many.
    Raises:
        OffloadError: there is no memory or descriptor for it.
    """

    def __init__(self, slots: int) -> None:
        try:
            self._fd = os.memfd_create("mediaproxy-flow-stats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise OffloadError(f"no memory for the statistics of flows: {error.strerror}") from error
        try:
            os.ftruncate(self._fd, max(slots, 0) * helper.STATS_SIZE)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            super().__init__(self._fd, slots)
        except OSError as error:
            os.close(self._fd)
            raise OffloadError(f"no memory for the statistics of {slots} flows: {error.strerror}") from error
        except OffloadError:
            os.close(self._fd)
            raise

    def _end(self) -> None:
        super()._end()
        os.close(self._fd)

    @property
    def fd(self) -> int:
        """To be mapped by others; this object's, until ``close``."""
        return self._fd

    def set(self, index: int, generation: int, packets: int, octets: int, last_seen_ns: int) -> bool:
        """Put the counters of one flow.

        Args:
            packets: since the slot was seeded.
            octets: of those, UDP payload.
            last_seen_ns: CLOCK_MONOTONIC.
        Returns:
            whether the slot is (still) of this generation; nothing was written if not.
        """
        if not 0 <= index < self._slots:
            return False
        at = index * helper.STATS_SIZE
        if helper.GENERATION.unpack_from(self._mapped, at) != (generation,):
            return False
        helper.COUNTERS_AND_SEEN.pack_into(self._mapped, at + helper.COUNTERS_OFFSET, packets, octets, last_seen_ns)
        return True

    def set_many(
        self, indices: array[int], generations: array[int], packets: array[int], octets: array[int], now_ns: int
    ) -> int:
        """Put the counters of many flows, as ``set`` does; those with more packets than before were last seen now.

        Args:
            indices: ``array("I")``, as ``generations``; ``packets`` and ``octets`` are ``array("Q")`` as long.
        Returns:
            how many slots were of the generation given.
        Raises:
            ValueError: the arrays are not of one length, or not of these types.
        """
        count = len(indices)
        arrays = (indices, generations, packets, octets)
        if [one.typecode for one in arrays] != ["I", "I", "Q", "Q"] or any(len(one) != count for one in arrays):
            raise ValueError("two arrays of 32 bits and two of 64, of one length")
        if count == 0:
            return 0
        return functions.mpo_flow_stats_set(
            self._pointer,
            self._slots,
            count,
            memory.from_buffer("__u32[]", indices),
            memory.from_buffer("__u32[]", generations),
            memory.from_buffer("__u64[]", packets),
            memory.from_buffer("__u64[]", octets),
            now_ns,
        )


def _slots_with_data(fd: int, slots: int) -> int:
    """How many slots lie before the end of what was ever written to a memfd; all of a BPF array, which has no holes."""
    end = 0
    try:
        size = os.fstat(fd).st_size
        while end < size:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    except OSError:
        pass  # ENXIO: no data behind here
    return -(-end // helper.STATS_SIZE) if size else slots
