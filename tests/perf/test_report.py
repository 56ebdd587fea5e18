"""Medians and the comparison with the aims."""

from __future__ import annotations

import pytest

from tests.perf.report import OURS, THEIRS, judge
from tests.perf.samples import Row, Sample


def _row(measurement: str, daemon: str, *figures: dict[str, float]) -> Row:
    return Row(measurement, daemon, [Sample(dict(each)) for each in figures])


def _rows(cycles: float, offer: float, memory: float, ours: float, theirs: float) -> list[Row]:
    return [
        _row("setup", OURS, {"cycles_per_s": cycles}),
        _row("latency", OURS, {"offer_p99_ms": offer}),
        _row("relay-1000", OURS, {"packets_per_core": ours}),
        _row("relay-1000", THEIRS, {"packets_per_core": theirs}),
        _row("memory", OURS, {"kib_per_call": memory}),
    ]


def test_medians_figure_missing_in_one_repetition_uses_the_others() -> None:
    row = _row("setup", OURS, {"a": 1, "b": 5}, {"a": 9}, {"a": 2, "b": 7})
    assert row.medians == {"a": 2, "b": 6}


def test_judge_figures_at_the_bounds_are_met() -> None:
    aims = judge(_rows(1000, 9.99, 40, 1300, 1000), judged=True)
    assert [aim.met for aim in aims] == [True] * 4


@pytest.mark.parametrize(
    ("rows", "failing"),
    [
        (_rows(999.9, 1, 1, 2, 1), 0),
        (_rows(1000, 10, 1, 2, 1), 1),
        (_rows(1000, 1, 40.1, 2, 1), 2),
        (_rows(1000, 1, 1, 1.29, 1), 3),
    ],
)
def test_judge_one_figure_beyond_its_bound_is_not_met(rows: list[Row], failing: int) -> None:
    assert [aim.met for aim in judge(rows, judged=True)] == [index != failing for index in range(4)]


def test_judge_without_the_other_daemon_leaves_the_ratio_open() -> None:
    rows = [row for row in _rows(1000, 1, 1, 2, 1) if row.daemon == OURS]
    assert judge(rows, judged=True)[3].met is None


def test_judge_quick_run_judges_nothing() -> None:
    assert {aim.met for aim in judge(_rows(1, 99, 99, 1, 1), judged=False)} == {None}
