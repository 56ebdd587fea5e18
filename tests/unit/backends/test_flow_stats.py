"""The statistics of flows in a memfd: what one side writes the other reads."""

from __future__ import annotations

import errno
import mmap
import os
from array import array
from collections.abc import Iterator

import pytest

from mediaproxy.backends.flow_stats import FlowStatsMemory, FlowStatsWriter
from mediaproxy.backends.helper import flow_stats as helper
from mediaproxy.backends.rtp_states import NO_RTP, merge_states, state_counters
from mediaproxy.datapath.flow import Slot
from mediaproxy.datapath.kernel import FlowCounters, FlowTotals
from mediaproxy.errors import OffloadError
from tests.support.rtp_paths import Path

SLOTS = 1000
START = 10**9
NOTHING = FlowCounters(0, 0, None, (0,) * 4, (0,) * 8, NO_RTP)


@pytest.fixture
def writer() -> Iterator[FlowStatsWriter]:
    with FlowStatsWriter(SLOTS) as writer:
        yield writer


@pytest.fixture
def memory(writer: FlowStatsWriter) -> Iterator[FlowStatsMemory]:
    with FlowStatsMemory(writer.fd, SLOTS) as memory:
        yield memory


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def test_a_slot_says_what_was_put_there(memory: FlowStatsMemory, writer: FlowStatsWriter) -> None:
    slot = Slot(7, 3)
    memory.seed(slot, None)
    assert memory.read(slot) == NOTHING
    assert memory.last_seen(slot) is None
    assert writer.set(7, 3, packets=10, octets=1720, last_seen_ns=2_500_000_000)
    assert memory.read(slot) == FlowCounters(10, 1720, 2.5, (0,) * 4, (0,) * 8, NO_RTP)
    assert memory.last_seen(slot) == 2.5


def test_drops_and_ups_have_their_places(memory: FlowStatsMemory, writer: FlowStatsWriter) -> None:
    slot = Slot(1, 3)
    memory.seed(slot, None)
    with mmap.mmap(writer.fd, 2 * helper.STATS_SIZE) as raw:
        helper.HEAD.pack_into(raw, helper.STATS_SIZE, 3, 1, 2, 0, 0, *range(10, 14), *range(20, 28))
    counters = memory.read(slot)
    assert (counters.drops, counters.ups) == (tuple(range(10, 14)), tuple(range(20, 28)))


def test_a_slot_of_another_generation_is_neither_read_nor_written(
    memory: FlowStatsMemory, writer: FlowStatsWriter
) -> None:
    memory.seed(Slot(7, 3), None)
    writer.set(7, 3, 10, 1720, 1)
    memory.seed(Slot(7, 4), None)
    assert not writer.set(7, 3, 11, 1892, 2)
    assert memory.read(Slot(7, 3)) == memory.read(Slot(7, 4)) == NOTHING
    assert memory.last_seen(Slot(7, 3)) is None


@pytest.mark.parametrize("index", [-1, SLOTS, 1 << 31])
def test_a_slot_that_is_none_is_refused(memory: FlowStatsMemory, writer: FlowStatsWriter, index: int) -> None:
    with pytest.raises(OffloadError, match=str(index)):
        memory.seed(Slot(index, 1), None)
    assert memory.read(Slot(index, 1)) == NOTHING
    assert memory.last_seen(Slot(index, 1)) is None
    assert not writer.set(index, 1, 1, 1, 1)


def test_seeding_goes_on_where_another_path_has_come_to(memory: FlowStatsMemory) -> None:
    sockets = Path()
    sockets.count_all([100, 101, 105], START)
    slot = Slot(2, 1)
    memory.seed(slot, sockets.state)
    counters = memory.read(slot)
    assert (counters.packets, counters.last_seen) == (0, None)
    (one,) = state_counters(counters.rtp)
    assert (one.ssrc, one.packets, one.extended_sequence, one.lost) == (0xCAFE, 0, 105, 3)


def test_what_a_backend_without_rtp_statistics_forwards_is_not_lost(
    memory: FlowStatsMemory, writer: FlowStatsWriter
) -> None:
    sockets = Path()
    now = sockets.count_all([100, 101, 103], START)
    slot = Slot(2, 1)
    memory.seed(slot, sockets.state)
    writer.set(2, 1, packets=500, octets=500 * 172, last_seen_ns=now)
    sockets.resume(memory.read(slot).rtp)
    sockets.count_all([604, 605, 607], now)
    (one,) = state_counters(merge_states([sockets.state, memory.read(slot).rtp]))
    assert (one.packets, one.lost, one.extended_sequence) == (6, 2, 607)


def test_many_flows_are_put_at_once(memory: FlowStatsMemory, writer: FlowStatsWriter) -> None:
    for index in range(5):
        memory.seed(Slot(index, 10 + index), None)
    indices, generations = array("I", [4, 0, 2, SLOTS]), array("I", [14, 10, 99, 1])
    packets, octets = array("Q", [40, 1, 20, 1]), array("Q", [4000, 100, 2000, 1])
    assert writer.set_many(indices, generations, packets, octets, now_ns=3 * 10**9) == 2
    packets[0] += 1
    assert writer.set_many(indices, generations, packets, octets, now_ns=4 * 10**9) == 2
    assert memory.read(Slot(4, 14)).packets == 41
    assert memory.last_seen(Slot(4, 14)) == 4.0
    assert memory.last_seen(Slot(0, 10)) == 3.0  # it has not moved since
    assert memory.last_seen(Slot(2, 12)) is None
    assert memory.totals() == FlowTotals(42, 4100, 0)
    assert writer.set_many(array("I"), array("I"), array("Q"), array("Q"), 1) == 0


@pytest.mark.parametrize(
    ("indices", "packets"), [(array("I", [1, 2]), array("Q", [1])), (array("H", [1]), array("Q", [1]))]
)
def test_arrays_of_another_length_or_type_are_refused(
    writer: FlowStatsWriter, indices: array[int], packets: array[int]
) -> None:
    with pytest.raises(ValueError, match="of one length"):
        writer.set_many(indices, array("I", [1]), packets, packets, 1)


def test_totals_are_of_all_slots_that_were_ever_used(memory: FlowStatsMemory, writer: FlowStatsWriter) -> None:
    assert memory.totals() == FlowTotals()
    for index in (0, SLOTS - 1):
        memory.seed(Slot(index, 1), None)
        writer.set(index, 1, 10, 1000, 1)
    assert memory.totals() == FlowTotals(20, 2000, 0)
    with FlowStatsMemory(writer.fd, SLOTS) as again:  # a daemon that starts anew
        assert again.totals() == FlowTotals(20, 2000, 0)


def test_looking_takes_no_memory_for_slots_that_nobody_uses(memory: FlowStatsMemory, writer: FlowStatsWriter) -> None:
    memory.seed(Slot(0, 1), None)
    before = resident_bytes(writer.fd)
    memory.totals()
    with FlowStatsMemory(writer.fd, SLOTS) as again:
        again.totals()
    assert resident_bytes(writer.fd) == before


def test_closing_leaves_no_descriptor() -> None:
    before = open_descriptors()
    with FlowStatsWriter(SLOTS) as writer, FlowStatsMemory(writer.fd, SLOTS) as memory:
        memory.seed(Slot(0, 1), None)
        memory.close()
    writer.close()
    assert open_descriptors() == before


def test_what_cannot_be_mapped_is_refused_and_leaves_no_descriptor(writer: FlowStatsWriter) -> None:
    before = open_descriptors()
    with pytest.raises(OffloadError, match="can't be mapped"):
        FlowStatsMemory(writer.fd, SLOTS + 10)
    with pytest.raises(OffloadError, match="0 slots"):
        FlowStatsWriter(0)
    assert open_descriptors() == before


def test_nobody_who_has_the_memory_can_take_it_from_the_others(writer: FlowStatsWriter) -> None:
    with pytest.raises(PermissionError) as refused:
        os.ftruncate(writer.fd, 0)
    assert refused.value.errno == errno.EPERM


def test_what_a_dead_daemon_has_left_is_cleared_but_for_flows_that_go_on(writer: FlowStatsWriter) -> None:
    with FlowStatsMemory(writer.fd, SLOTS) as dead:
        for index in (1, 2, 3):
            dead.seed(Slot(index, 9), None)
            writer.set(index, 9, packets=10, octets=1720, last_seen_ns=START)
    with FlowStatsMemory(writer.fd, SLOTS) as memory:
        memory.clear({2})
        assert memory.totals() == FlowTotals(10, 1720, 0)
        assert memory.read(Slot(2, 9)).packets == 10
        assert memory.read(Slot(1, 9)) == NOTHING
        assert not writer.set(1, 9, packets=11, octets=1, last_seen_ns=START)
