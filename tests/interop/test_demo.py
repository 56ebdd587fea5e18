"""The demo passes on a healthy proxy, and only then: its negative twins break one thing each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import demo
from tests.interop.demo import Sabotage
from tests.interop.needs import needs_sip_lab
from tests.support import netlab
from tests.support.processes import wait_until

_ROOT = Path(__file__).resolve().parents[2]


def _start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # A shell that runs the tests in the background has them, and all below, ignore SIGINT; a user's demo does not.
        ["env", "--default-signal=INT", sys.executable, "-u", "-m", "tests.interop.demo", *arguments],
        cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip


def _traces(pid: int) -> list[str]:
    """Namespaces and folders that carry a demo's process id."""
    folder = Path("/run/netns")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name.startswith(f"mp-{pid}-")] + [
        str(path) for path in Path("/tmp").glob(f"mp-{pid}-*")
    ]


@needs_sip_lab
@pytest.mark.parametrize(
    ("arguments", "carrier"),
    [((), "the kernel"), (("--ipv6",), "the kernel"), (("--kernel-path=userspace",), "user space")],
    ids=["IPv4", "IPv6", "userspace"],
)
def test_demo_healthy_passes_says_who_carried_the_media_and_leaves_nothing(
    arguments: tuple[str, ...], carrier: str
) -> None:
    process = _start(*arguments)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "PASSED" in output
    assert "Unknown call-id" in output
    assert f"{carrier} carried the media" in output
    assert _traces(process.pid) == []


@pytest.fixture(scope="module")
def twins() -> Iterator[dict[Sabotage, subprocess.Popen[str]]]:
    """All sabotaged demos at once: each has a lab of its own, and little to do."""
    processes: dict[Sabotage, subprocess.Popen[str]] = {
        sabotage: _start("--sabotage", sabotage.value) for sabotage in Sabotage if sabotage is not Sabotage.NONE
    }
    yield processes
    for process in processes.values():
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@needs_sip_lab
@pytest.mark.parametrize(
    ("sabotage", "says", "says_not"),
    [
        (Sabotage.NO_RELAY, ["the caller got 503"], []),
        (Sabotage.KILLED_RELAY, ["caller → callee: ", "callee → caller: ", "nothing listens there"], []),
        (Sabotage.FROZEN_RELAY, ["caller → callee: ", "callee → caller: ", "stopped answering"], []),
        (Sabotage.CALLER_TO_CALLEE, ["  caller → callee: "], ["  callee → caller: "]),
        (Sabotage.CALLEE_TO_CALLER, ["  callee → caller: "], ["  caller → callee: "]),
    ],
    ids=lambda value: value.value if isinstance(value, Sabotage) else "",
)
def test_demo_sabotaged_fails_and_names_the_direction(
    twins: dict[Sabotage, subprocess.Popen[str]], sabotage: Sabotage, says: list[str], says_not: list[str]
) -> None:
    process = twins[sabotage]
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 1, output
    verdict = output.partition("FAILED")[2]
    for text in says:
        assert text in verdict, output
    for text in says_not:
        assert text not in verdict, output
    assert _traces(process.pid) == []


@needs_sip_lab
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_leaves_nothing(number: signal.Signals) -> None:
    process = _start()
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if "the call is answered" in line:
                break
        assert _traces(process.pid) != []
        process.send_signal(number)
        output = process.stdout.read()
    assert process.wait(20) == 130, output
    assert _traces(process.pid) == []


@needs_sip_lab
def test_demo_killed_is_cleaned_up_by_the_next_run() -> None:
    process = _start()
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if "the call is answered" in line:
                break
        process.kill()
        process.stdout.read()
    process.wait(20)
    assert _traces(process.pid) != []
    removed = netlab.remove_leftovers()
    assert {name.rpartition("-")[2] for name in removed if name.startswith(f"mp-{process.pid}-")} >= {
        "caller", "callee", "proxy",
    }  # fmt: skip
    wait_until(lambda: _traces(process.pid) == [], 5.0, "everything gone")


def test_demo_without_root_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert demo.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "demo: needs root, because it makes network namespaces\n"
