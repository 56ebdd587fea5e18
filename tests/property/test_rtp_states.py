"""However often a stream changes its path: what was received and what was lost is what was sent."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaproxy.backends.rtp_states import NO_RTP, merge_states, state_counters
from tests.support.rtp_paths import INTERVAL_NS, Path

START = 10**9
KERNEL = "kernel"
SOCKETS = "sockets"


@dataclass(frozen=True)
class Stretch:
    """What is sent while a stream has one path.

    Attributes:
        lost: offsets of the packets that never arrive.
        late: offset of a packet, and by how many it comes too late.
        doubled: offset of one that comes twice.
        queued: how many of the last ones wait in a queue until the next stretch has begun.
        told_all: what the next path is told is the sum over all paths, not only what this one knows.
    """

    length: int
    lost: frozenset[int]
    late: dict[int, int]
    doubled: int | None
    queued: int
    told_all: bool


stretches = st.builds(
    Stretch,
    length=st.integers(1, 2500),
    lost=st.frozensets(st.integers(0, 2500), max_size=40),
    late=st.dictionaries(st.integers(0, 2500), st.integers(1, 60), max_size=10),
    doubled=st.none() | st.integers(0, 2500),
    queued=st.integers(0, 20),
    told_all=st.booleans(),
)


def arrivals(first: int, stretch: Stretch, keep: set[int]) -> list[int]:
    """The numbers of a stretch in the order of their arrival; ``keep`` are not lost, and on time."""
    order = []
    for offset in range(stretch.length):
        number = first + offset
        if number in keep:
            order.append((float(offset), number))
        elif offset not in stretch.lost:
            order.append((offset + stretch.late.get(offset, 0) + 0.5 * (offset in stretch.late), number))
    return [number for _, number in sorted(order)]


@settings(max_examples=150, deadline=None)
@given(first=st.integers(0, 0xFFFF), plan=st.lists(stretches, min_size=1, max_size=60))
def test_lost_and_received_are_what_was_sent(first: int, plan: list[Stretch]) -> None:
    sent = sum(stretch.length for stretch in plan)
    keep = {first, first + sent - 1}
    paths = [Path()]  # the sockets; then one slot of the kernel after the other
    now, number, doubles, path = START, first, 0, paths[0]
    waiting: list[int] = []
    waiting_on = path
    for index, stretch in enumerate(plan):
        numbers = arrivals(number, stretch, keep)
        number += stretch.length
        queued = numbers[len(numbers) - stretch.queued :] if stretch.queued and index + 1 < len(plan) else []
        at_once = numbers[: len(numbers) - len(queued)]
        now = path.count_all(at_once[:30], now)
        for late in waiting:  # the queue of the path before
            waiting_on.count(late, now)
        waiting = []
        now = path.count_all(at_once[30:], now)
        if stretch.doubled is not None and at_once and not queued:
            path.count(at_once[-1 - stretch.doubled % min(len(at_once), 30)], now)
            doubles += 1
        if index + 1 == len(plan):
            break
        told = merge_states(one.state for one in paths) if stretch.told_all else path.state
        waiting, waiting_on = queued, path
        if path is paths[0]:
            path = Path(told)
            paths.append(path)
        else:
            path = paths[0]
            path.resume(told)
    for late in waiting:
        waiting_on.count(late, now)
    (sum_of_all,) = state_counters(merge_states(one.state for one in paths))
    assert sum_of_all.lost + sum_of_all.packets - sum_of_all.duplicates == sent
    assert sum_of_all.duplicates == doubles
    # Cycles count from the first packet that was counted; what waited in a queue may be before that one's.
    assert (sum_of_all.extended_sequence - (first + sent - 1)) % 0x10000 == 0
    if not plan[0].queued:
        assert sum_of_all.extended_sequence == first + sent - 1


@settings(max_examples=100, deadline=None)
@given(
    first=st.integers(0, 0xFFFF),
    gap=st.integers(3000, 200_000).filter(lambda gap: 3000 <= gap % 0x10000 <= 0x10000 - 3000),
    before=st.integers(2, 5000),
    after=st.integers(3, 5000),
    flips=st.sets(st.integers(1, 9999), max_size=6),
)
def test_a_restart_of_the_sequence_loses_nothing_wherever_the_path_changes(
    first: int, gap: int, before: int, after: int, flips: set[int]
) -> None:
    numbers = [
        *range(first, first + before),
        *(number + gap for number in range(first + before, first + before + after)),
    ]
    paths = [Path()]
    for index, number in enumerate(numbers):
        if index in flips:
            paths.append(Path(merge_states(one.state for one in paths)))
        paths[-1].count(number, START + index * INTERVAL_NS)
    (sum_of_all,) = state_counters(merge_states(one.state for one in paths))
    assert (sum_of_all.packets, sum_of_all.lost, sum_of_all.duplicates) == (len(numbers), 0, 0)


@given(st.binary(min_size=len(NO_RTP), max_size=len(NO_RTP)), st.binary(min_size=len(NO_RTP), max_size=len(NO_RTP)))
def test_any_memory_can_be_merged(one: bytes, other: bytes) -> None:
    """The statistics of the kernel are written while they are read: whatever is there is no reason to fall over."""
    counters = state_counters(merge_states([one, other]))  # type: ignore[list-item]
    assert len(counters) <= 4
