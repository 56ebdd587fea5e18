"""The aims of the kernel paths: what meets them and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.bench.results import Result, Results
from tests.perf.kernel_rows import judge_kernel_paths
from tests.unit.bench.fakes import sample

GOOD = {
    ("null", 1000): sample(900.0, 60.0),
    ("tc", 1000): sample(1000.0, 65.0),
    ("nft-readable", 1000): sample(2400.0),
    ("nft-fast", 1000): sample(1200.0),
    ("rtpengine", 1000): sample(6000.0),
    ("tc", 10): sample(1000.0),
    ("tc", 10_000): replace(sample(1250.0), setup_per_s=100_001.0),
}


def _results(program_ns: float | None = 350.0, **changed: float) -> Results:
    return Results(
        [
            Result(name, calls, [replace(one, ns_per_packet=changed.get(f"{name}_{calls}", one.ns_per_packet))])
            for (name, calls), one in GOOD.items()
        ],
        program_ns,
    )


def test_judge_kernel_figures_at_the_bounds_are_met() -> None:
    assert [aim.met for aim in judge_kernel_paths(_results(), judged=True)] == [True] * 7


@pytest.mark.parametrize(
    ("results", "failing"),
    [
        (_results(tc_1000=1001.0), 0),
        (_results(**{"nft-readable_1000": 2401.0}), 1),
        (_results(**{"nft-fast_1000": 1201.0}), 2),
        (_results(351.0), 3),
        (_results(tc_10000=1251.0), 4),
    ],
)
def test_judge_kernel_one_figure_beyond_its_bound_is_not_met(results: Results, failing: int) -> None:
    met = [aim.met for aim in judge_kernel_paths(results, judged=True)]
    assert met == [number != failing for number in range(7)]


def test_judge_kernel_slow_batch_and_added_latency_are_not_met() -> None:
    results = _results()
    many, tc = results.find("tc", 10_000), results.find("tc", 1000)
    assert many is not None
    assert tc is not None
    many.samples[0] = replace(many.samples[0], setup_per_s=100_000.0)
    tc.samples[0] = sample(1000.0, 65.1)
    assert [aim.met for aim in judge_kernel_paths(results, judged=True)] == [True] * 5 + [False] * 2


def test_judge_kernel_what_was_not_measured_stays_open() -> None:
    assert {aim.met for aim in judge_kernel_paths(Results([]), judged=True)} == {None}
    assert {aim.met for aim in judge_kernel_paths(_results(), judged=False)} == {None}
