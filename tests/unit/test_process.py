"""Pidfile, service manager and limits; going to the background is tested with the whole daemon (test_daemon.py)."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediaproxy.process import (
    Launcher,
    Pidfile,
    ServiceManager,
    StartError,
    ignore_hangup,
    raise_descriptor_limit,
)


def test_pidfile_has_our_id_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    pidfile = Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()
    assert not path.exists()
    pidfile.remove()  # a second time is no error


@pytest.mark.parametrize("text", ["1\n", "not a number"])
def test_pidfile_of_somebody_else_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.pid"
    pidfile = Pidfile(path)
    path.write_text(text)
    pidfile.remove()
    assert path.read_text() == text


def test_pidfile_that_cannot_be_written_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"pidfile .*/no/x\.pid cannot be written: No such file or directory"):
        Pidfile(tmp_path / "no" / "x.pid")


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_gets_the_state(tmp_path: Path, abstract: bool) -> None:
    address = f"@mediaproxy-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager_socket:
        manager_socket.bind("\0" + address[1:] if abstract else address)
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        assert manager.waits
        manager.notify("READY=1")
        assert manager_socket.recv(100) == b"READY=1"


def test_service_manager_that_is_absent_or_gone_is_no_error(tmp_path: Path) -> None:
    nobody = ServiceManager({})
    assert not nobody.waits
    nobody.notify("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify("READY=1")


@pytest.fixture
def _descriptor_limit() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("_descriptor_limit")
def test_descriptor_limit_is_raised_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 256), hard))
    assert raise_descriptor_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_hangup_is_survived_before_the_loop_runs() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)}
    try:
        ignore_hangup()
        for number in before:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_launcher_in_the_foreground_prints_the_failure(capsys: pytest.CaptureFixture[str]) -> None:
    launcher = Launcher(detach=False, keep_stderr=True)
    launcher.failed("it is so")
    launcher.ready()
    assert capsys.readouterr().err == "mediaproxy: it is so\n"
