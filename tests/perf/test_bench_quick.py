"""The benchmark's quick run: every row works and says what it should. Timings are never judged here."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.perf.build import ROOT
from tests.perf.report import LABELS, OURS, THEIRS, kind_of

QUICK_LIMIT_SECONDS = 120
"""The quick run takes below 60 s on an idle machine; this only ends one that hangs."""


def _why_not_here() -> str:
    if os.geteuid() != 0:
        return "the benchmark makes namespaces: needs root"
    if not {0, 1} <= os.sched_getaffinity(0):
        return "the benchmark needs two cores"
    if shutil.which("gcc") is None:
        return "the benchmark compiles its load generators: needs gcc"
    return ""


pytestmark = pytest.mark.skipif(bool(_why_not_here()), reason=_why_not_here() or "runs here")


def _namespaces() -> set[str]:
    folder = Path("/run/netns")
    return {path.name for path in folder.glob("mpbench-*")} if folder.exists() else set()


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.perf.bench", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=QUICK_LIMIT_SECONDS,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class QuickRun:
    """One quick run: how it ended, what it saved, and which namespaces of benchmarks there were before."""

    done: subprocess.CompletedProcess[str]
    saved: dict[str, Any]
    namespaces_before: set[str]


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> QuickRun:
    """The quick run's outcome and what it saved; Debian's rtpengine takes part where it is installed."""
    before = _namespaces()
    out = tmp_path_factory.mktemp("bench") / "quick.json"
    daemons = [OURS, *([THEIRS] if shutil.which("rtpengine") else [])]
    done = _bench("--quick", "--daemons", ",".join(daemons), "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return QuickRun(done, json.loads(out.read_text()), before)


def test_quick_run_every_measurement_has_all_its_figures(
    quick_run: QuickRun,
) -> None:
    saved = quick_run.saved
    ours = {row["measurement"]: row for row in saved["rows"] if row["daemon"] == OURS}
    assert {kind_of(name) for name in ours} == {"setup", "latency", "relay", "memory"}
    for name, row in ours.items():
        assert row["error"] == ""
        missing = {figure for figure, _, _ in LABELS[kind_of(name)]} - set(row["median"])
        # A figure of the search for a rate is missing when no rate was sustained, as on a busy machine.
        assert {figure for figure in missing if not figure.startswith("sustained")} == set(), name
        assert all(math.isfinite(value) for value in row["median"].values())


def test_quick_run_counts_are_exact(quick_run: QuickRun) -> None:
    saved = quick_run.saved
    for row in (row for row in saved["rows"] if row["daemon"] == OURS):
        figures = row["median"]
        if kind_of(row["measurement"]) == "memory":
            assert figures["descriptors_per_call"] == 4
            assert figures["descriptors_left"] == 0
        if kind_of(row["measurement"]) == "setup":
            assert figures["descriptors_left"] == 0
            assert figures["cycles_per_s"] > 0
        if kind_of(row["measurement"]) == "relay":
            assert figures["reordered"] == 0
            for step in row["repetitions"][0]["detail"]["steps"]:
                assert step["misdelivered"] == 0
                assert step["received"] + step["lost"] == step["sent"]


def test_quick_run_describes_machine_and_commands_and_judges_nothing(
    quick_run: QuickRun,
) -> None:
    done, saved = quick_run.done, quick_run.saved
    assert {"cpu", "cores", "kernel", "load_average", "descriptor_limit"} <= saved["machine"].keys()
    command = saved["command_lines"][f"{OURS} command"]
    assert command in done.stdout
    assert "--num-threads=1" in command
    assert len(saved["aims"]) == 11
    assert {aim["met"] for aim in saved["aims"]} == {None}
    assert {result["backend"] for result in saved["kernel"]} >= {"tc", "nft-readable", "nft-fast", "rtpengine"}
    assert "not judged" in done.stdout


def test_quick_run_leaves_no_namespace_behind(
    quick_run: QuickRun,
) -> None:
    assert _namespaces() <= quick_run.namespaces_before


def test_bench_unknown_daemon_is_refused_by_name() -> None:
    done = _bench("--quick", "--daemons", "nosuch")
    assert done.returncode == 2
    assert done.stderr.strip() == "unknown daemon: nosuch"
