"""Sums over ended calls, and rates from samples."""

from __future__ import annotations

from functools import partial

import pytest

from mediaproxy.datapath import RelayTotals
from mediaproxy.stats.totals import CallTotals, EndReason, RateMeter, Rates


def relayed(packets: int) -> RelayTotals:
    return RelayTotals(packets, packets * 100, packets // 10)


def test_durations_have_mean_and_population_deviation() -> None:
    totals = CallTotals()
    for seconds in (2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0):
        totals.add_ended(EndReason.DELETED, seconds)
    assert totals.managed == totals.ended[EndReason.DELETED] == 8
    assert totals.mean_duration == 5.0
    assert totals.duration_deviation == pytest.approx(2.0)


def test_nothing_ended_is_no_division_by_zero() -> None:
    totals = CallTotals()
    assert (totals.managed, totals.mean_duration, totals.duration_deviation) == (0, 0.0, 0.0)


def test_rounding_does_not_make_the_deviation_imaginary() -> None:
    totals = CallTotals()
    for _ in range(3):
        totals.add_ended(EndReason.TIMEOUT, 0.1)
    assert totals.duration_deviation == pytest.approx(0.0, abs=1e-6)


def test_rates_before_the_second_sample_are_zero() -> None:
    meter = RateMeter()
    assert meter.rates(relayed(10), 1.0) == Rates()
    meter.maybe_sample(partial(relayed, 10), 1.0)
    assert meter.rates(relayed(10), 1.0) == Rates()


def test_rates_are_per_second_over_the_last_seconds() -> None:
    meter = RateMeter()
    for second in range(20):
        # The first ten seconds carry 50 packets each, the others 200.
        meter.maybe_sample(partial(relayed, 50 * min(second, 10) + 200 * max(0, second - 10)), 100.0 + second)
    assert meter.rates(relayed(500 + 200 * 9), 119.0) == Rates(200, 20000, 20)
    assert meter.rates(relayed(500 + 200 * 9 + 300), 120.0) == Rates(217, 21667, 22)


def test_samples_are_taken_once_a_second_at_most_and_do_not_pile_up() -> None:
    meter = RateMeter()
    for tenth in range(1000):
        meter.maybe_sample(partial(relayed, tenth), tenth / 10)
    assert len(meter._samples) <= 6
    assert meter.rates(relayed(1000), 100.0).packets == 10
