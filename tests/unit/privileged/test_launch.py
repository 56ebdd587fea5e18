"""Start and stop in the daemon, as far as it goes without rights; the rest is in tests/kernel/test_privileges.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mediaproxy.errors import OffloadError
from mediaproxy.logs import LogSink, make_logger
from mediaproxy.privileged import launch
from mediaproxy.privileged.launch import KernelPathRun, NoKernelPathError, open_flow_stats
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.settings import FirewallMode, KernelPath, PrivilegedSettings
from tests.support.log_lines import Lines


class Bed:
    def __init__(self, folder: Path) -> None:
        self.lines = Lines()
        self.given_up: list[object] = []
        self.capabilities: frozenset[int] = frozenset()
        self.settings = PrivilegedSettings("edge", KernelPath.AUTO, str(folder / "run" / "edge"), (), 8)

    def run(self, **more: Any) -> KernelPathRun:
        return KernelPathRun(self.settings, make_logger(LogSink(self.lines, timestamps=False)), open_flow_stats, **more)


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    bed = Bed(tmp_path)
    monkeypatch.setattr(launch, "give_up_rights", bed.given_up.append)
    monkeypatch.setattr(launch, "effective_capabilities", lambda: bed.capabilities)

    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    return bed


def test_without_rights_one_line_says_so(bed: Bed) -> None:
    with bed.run() as kernel:
        assert kernel.datapath is None
        assert kernel.candidates == ()
        assert kernel.reason.startswith("needs CAP_NET_ADMIN")
    (line,) = bed.lines.lines
    assert line.startswith("[-] warning no kernel path: media is relayed in user space reason=")
    assert bed.given_up == [None]


def test_rights_are_given_up_also_where_no_kernel_path_is_wanted(bed: Bed) -> None:
    bed.settings = replace(bed.settings, path=KernelPath.USERSPACE)
    with bed.run(no_fallback=True) as kernel:
        assert kernel.reason == "not wanted"
    assert bed.lines.lines == ["[-] notice no kernel path is wanted: media is relayed in user space"]
    assert bed.given_up == [None]
    assert not Path(bed.settings.run_folder).exists()


def test_no_fallback_refuses_to_go_on(bed: Bed) -> None:
    run = bed.run(no_fallback=True)
    with pytest.raises(NoKernelPathError, match="there is no kernel path: needs CAP_NET_ADMIN"):
        run.__enter__()
    assert bed.given_up == []


def test_process_that_cannot_be_started_leaves_no_folder(bed: Bed) -> None:
    bed.capabilities = frozenset({Capability.NET_ADMIN})
    with bed.run() as kernel:
        assert kernel.reason == "the privileged process cannot be started: Cannot allocate memory"
        assert Path(bed.settings.run_folder).exists()
    assert not Path(bed.settings.run_folder).parent.exists()


def test_firewall_needs_the_process_also_without_a_kernel_path(bed: Bed) -> None:
    bed.settings = replace(bed.settings, path=KernelPath.USERSPACE, firewall=FirewallMode.MANAGE)
    with bed.run() as kernel:
        assert kernel.reason.startswith("needs CAP_NET_ADMIN")
    assert bed.lines.lines[0].startswith("[-] warning firewall: the media ports were not opened reason=")


def test_statistics_that_cannot_be_mapped_are_no_kernel_path(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb") as file:
        fd = os.dup(file.fileno())
    with pytest.raises(OffloadError):
        open_flow_stats(fd, 8)
