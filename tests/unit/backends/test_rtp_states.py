"""States of RTP as values: what they say, and sums over paths."""

from __future__ import annotations

import pytest

from mediaproxy.backends.rtp_states import NO_RTP, merge_states, state_counters
from mediaproxy.datapath import SsrcCounters
from mediaproxy.datapath.kernel import RtpState
from tests.support.rtp_paths import INTERVAL_NS, SAMPLES, Path

START = 10**9


def test_counters_of_nothing_are_empty() -> None:
    assert state_counters(NO_RTP) == ()
    assert merge_states([]) == NO_RTP
    assert merge_states([NO_RTP, NO_RTP]) == NO_RTP


def test_counters_come_most_recently_heard_first() -> None:
    path = Path()
    path.count(10, START, ssrc=1)
    path.count(20, START + 1, ssrc=2)
    path.count(12, START + 2, ssrc=1)
    assert state_counters(path.state) == (
        SsrcCounters(1, 2, 344, 12 * SAMPLES, 12, 1, 0, 0, 320.0 / 16, 0),
        SsrcCounters(2, 1, 172, 20 * SAMPLES, 20, 0, 0, 0, 0.0, 0),
    )


def test_merge_of_one_path_changes_nothing() -> None:
    path = Path()
    path.count_all([1, 2, 5, 4, 4], START)
    assert merge_states([path.state]) == path.state


def test_merge_adds_up_packets_and_knows_what_neither_received() -> None:
    sockets = Path()
    now = sockets.count_all([100, 101, 103], START)
    kernel = Path(sockets.state)
    now = kernel.count_all([104, 102, 104, 107], now)
    sockets.resume(kernel.state)
    sockets.count_all([108, 106], now)
    (merged,) = state_counters(merge_states([sockets.state, kernel.state]))
    assert (merged.packets, merged.bytes, merged.lost, merged.duplicates) == (9, 9 * 172, 1, 1)
    assert (merged.reordered, merged.extended_sequence, merged.last_timestamp) == (2, 108, 108 * SAMPLES)


def test_merge_in_another_order_says_the_same() -> None:
    sockets = Path()
    now = sockets.count_all(range(65500, 65530), START)
    kernel = Path(sockets.state)
    kernel.count_all(range(65531, 65600), now)
    one, other = (merge_states(order) for order in ([sockets.state, kernel.state], [kernel.state, sockets.state]))
    assert state_counters(one) == state_counters(other)


def test_merge_keeps_the_four_ssrcs_heard_last() -> None:
    paths = [Path() for _ in range(3)]
    for ssrc in range(1, 7):
        paths[ssrc % 3].count(1, START + ssrc * INTERVAL_NS, ssrc=ssrc)
    assert [one.ssrc for one in state_counters(merge_states(path.state for path in paths))] == [6, 5, 4, 3]


def test_merge_refuses_what_is_too_short() -> None:
    with pytest.raises(ValueError, match="too small"):
        merge_states([RtpState(NO_RTP[:-1])])
