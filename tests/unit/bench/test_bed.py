"""The search for the highest rate, over a candidate that is a formula."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mediaproxy.bench.accounting import CoreTimes
from mediaproxy.bench.bed import Bed, Step, is_sustained
from mediaproxy.bench.candidates import Candidate
from mediaproxy.bench.load import MediaRun


def _step(pps: int, limit: int, generator: int) -> Step:
    lost = 0 if pps <= limit else pps // 2
    run = MediaRun(
        offered_pps=pps,
        seconds=1.0,
        sent=min(pps, generator),
        received=min(pps, generator) - lost,
        lost=lost,
        worst_flow_lost=0,
        misdelivered=0,
        reordered=0,
        dropped_at_entry=0,
        sink_drops=0,
        generator_cpu=0.5,
        forgiven_ms=0.0,
        latency_us={"p50": 1.0, "p99": 1.0, "p999": 1.0},
    )
    return Step(run, 0, 0, 0, CoreTimes(0, 0, 0))


class _FormulaBed(Bed):
    """Loses half of everything above ``limit``; the generator can't do more than ``generator``."""

    def __init__(self, limit: int, generator: int = 10**9) -> None:
        super().__init__(cast(Candidate, None), 1, easy_pps=1, warm_up=0, step_seconds=0)
        self._limit = limit
        self._generator = generator

    def _try(self, pps: int, burst: int) -> Step:
        step = _step(pps, self._limit, self._generator)
        self.steps.append(step)
        return step

    def _recover(self, failed: Step) -> None:
        pass


@pytest.mark.parametrize("limit", [5_000, 80_000, 100_000, 437_000, 2_000_000])
def test_highest_comes_close_to_the_limit_from_below(limit: int) -> None:
    best, failed = _FormulaBed(limit).highest(is_sustained, first_pps=80_000, refinements=4)
    assert best is not None
    assert failed is not None
    assert best.run.offered_pps <= limit < failed.run.offered_pps
    assert best.run.offered_pps > 0.95 * limit


def test_highest_counts_steps_made_before() -> None:
    bed = _FormulaBed(100_000)
    bed.step(90_000)
    best, _ = bed.highest(is_sustained, first_pps=1_000, refinements=4)
    assert best is not None
    assert min(step.run.offered_pps for step in bed.steps) == 90_000
    assert 90_000 < best.run.offered_pps <= 100_000


def test_highest_without_refinements_does_not_grow() -> None:
    bed = _FormulaBed(10**8)
    bed.step(2_000)
    best, failed = bed.highest(is_sustained, first_pps=4_000, refinements=0)
    assert best is not None
    assert best.run.offered_pps == 2_000
    assert failed is None


def test_highest_where_everything_is_lost_is_none() -> None:
    best, failed = _FormulaBed(0).highest(is_sustained, first_pps=80_000, refinements=4)
    assert best is None
    assert failed is not None


def test_highest_generator_that_gives_up_first_is_what_failed() -> None:
    best, failed = _FormulaBed(10**8, generator=300_000).highest(is_sustained, first_pps=80_000, refinements=3)
    assert best is not None
    assert failed is not None
    assert failed.run.generator_limited
    assert best.run.offered_pps < 310_000


def test_step_a_rate_has_failed_when_it_failed_twice() -> None:
    bed = _FormulaBed(1_000)
    bed.step(2_000)
    assert len(bed.steps) == 2
    cast(Any, bed)._generator = 1_500  # what the generator spoilt is tried again
    bed.steps.clear()
    bed.step(2_000)
    assert len(bed.steps) == 4
