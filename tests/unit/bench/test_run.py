"""Options, and what of them is refused."""

from __future__ import annotations

import os

import pytest

from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.run import BACKENDS, BenchOptions, check_options, choose_cores


def test_options_by_default_are_all_backends_and_the_issues_numbers_of_calls() -> None:
    options = BenchOptions()
    check_options(options)
    assert tuple(options.backends) == tuple(BACKENDS)
    assert tuple(options.calls) == (10, 1000, 10_000)


@pytest.mark.parametrize(
    "options",
    [
        BenchOptions(backends=("tc", "nosuch")),
        BenchOptions(calls=(0,)),
        BenchOptions(calls=(10**6,)),
        BenchOptions(repetitions=0),
        BenchOptions(seconds=0.0),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: BenchOptions) -> None:
    with pytest.raises(BenchError):
        check_options(options)


def test_cores_one_for_both_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    with pytest.raises(BenchError, match="two cores"):
        choose_cores(BenchOptions())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 3, 5})
    assert choose_cores(BenchOptions()) == (5, 1)
    with pytest.raises(BenchError, match="no CPU 9"):
        choose_cores(BenchOptions(load_cpu=9))


def test_cores_without_root_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BenchError, match="root"):
        choose_cores(BenchOptions())
