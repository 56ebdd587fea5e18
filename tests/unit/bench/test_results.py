"""Medians, what is beyond a plain redirect, and the JSON."""

from __future__ import annotations

from mediaproxy.bench.results import Result, Results
from tests.unit.bench.fakes import sample, some_results


def test_figures_are_medians_of_the_repetitions_that_have_them() -> None:
    result = Result("tc", 10, [sample(1000.0), sample(None), sample(3000.0)])
    assert result.ns_per_packet == 2000.0
    assert result.latency_us == {"p50": 60.0, "p99": 120.0, "p999": 180.0}
    assert Result("tc", 10).ns_per_packet is None
    assert Result("tc", 10).latency_us == {"p50": None, "p99": None, "p999": None}


def test_generator_limited_is_what_most_repetitions_were() -> None:
    assert Result("tc", 10, [sample(limited=True), sample(limited=True), sample()]).generator_limited
    assert not Result("tc", 10, [sample(limited=True), sample()]).generator_limited
    assert not Result("tc", 10).generator_limited


def test_beyond_the_plain_redirect_with_the_same_number_of_calls() -> None:
    results = some_results()
    tc = results.find("tc", 10)
    assert tc is not None
    assert results.extra_ns(tc) == 500.0
    assert results.added_latency_us(tc) == {"p50": 4.0, "p99": 8.0, "p999": 12.0}


def test_beyond_the_plain_redirect_is_unknown_without_one() -> None:
    results = Results([Result("tc", 10, [sample()])])
    assert results.extra_ns(results.all[0]) is None
    assert set(results.added_latency_us(results.all[0]).values()) == {None}


def test_json_is_one_object_per_measurement() -> None:
    objects = some_results().as_json()
    assert [(one["backend"], one["calls"]) for one in objects] == [
        ("null", 10),
        ("tc", 10),
        ("null", 1000),
        ("tc", 1000),
    ]
    for one in objects:
        assert {"backend", "calls", "ns_per_packet", "max_pps", "latency_us", "setup_per_s"} <= one.keys()
        assert set(one["latency_us"]) == {"p50", "p99", "p999"}  # type: ignore[call-overload]  # JSON is untyped
    assert objects[1]["generator_limited"] is True
    assert objects[3]["error"] == "not possible here: <no> BPF"
    assert objects[3]["ns_per_packet"] is None
