"""``mediaproxy bench --quick``: every backend has a row, and what a row counts came through. No speed is judged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mediaproxy.bench import BACKENDS
from tests.perf.build import ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not {0, 1} <= os.sched_getaffinity(0), reason="makes namespaces: needs root, and two cores"
)

LIMIT_SECONDS = 120
"""It takes some seconds on an idle machine; this only ends one that hangs."""


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mediaproxy", "bench", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Path]:
    """What the quick run printed and saved."""
    folder = tmp_path_factory.mktemp("bench")
    done = _bench("--quick", "--calls", "10", "--json", str(folder / "x.json"), "--plot", str(folder / "x.svg"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads((folder / "x.json").read_text()), folder / "x.svg"


def test_product_bench_quick_run_has_a_result_for_each_backend(quick_run: tuple[str, dict[str, Any], Path]) -> None:
    _, saved, _ = quick_run
    assert [result["backend"] for result in saved["results"]] == list(BACKENDS)
    for result in saved["results"]:
        assert {"calls", "ns_per_packet", "max_pps", "latency_us", "setup_per_s"} <= result.keys()
        assert bool(result["error"]) == (result["packets"] == 0)


@pytest.mark.parametrize("name", list(BACKENDS))
def test_product_bench_quick_run_packets_came_through(name: str, quick_run: tuple[str, dict[str, Any], Path]) -> None:
    _, saved, _ = quick_run
    result = next(result for result in saved["results"] if result["backend"] == name)
    if name == "rtpengine" and shutil.which("rtpengine") is None:
        assert "rtpengine" in result["error"]
        return
    if result["error"].startswith("not possible here"):
        pytest.skip(f"{name}: {result['error']}")
    assert result["error"] == ""
    assert result["packets"] > 100
    assert result["latency_us"]["p50"] > 0
    # The kernel's own counters agree; that a busy machine lost some is no matter here.
    assert not [note for note in result["notes"] if "by its own counters" in note]


def test_product_bench_quick_run_prints_a_table_and_draws_a_plot(quick_run: tuple[str, dict[str, Any], Path]) -> None:
    printed, _, plot = quick_run
    assert "10 calls" in printed
    assert "userspace" in printed
    ElementTree.fromstring(plot.read_text())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--backends", "nosuch"), "unknown backend: nosuch"),
        (("--calls", "many"), "expected numbers"),
        (("--plot", "x.png"), "plots are SVG, name it x.svg"),
    ],
)
def test_product_bench_bad_option_is_refused_by_name(arguments: tuple[str, ...], word: str) -> None:
    done = _bench("--quick", *arguments)
    assert done.returncode == 1
    assert word in done.stderr
