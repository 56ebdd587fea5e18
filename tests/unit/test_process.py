"""Pidfile, service manager and limits; going to the background is tested with the whole daemon (test_daemon.py)."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
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


def test_pidfile_of_a_running_instance_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    first = Pidfile(path)
    expected = rf"pidfile .*/x\.pid belongs to running process {os.getpid()}; give each instance its own"
    with pytest.raises(StartError, match=expected):
        Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    first.remove()
    assert not path.exists()


def test_pidfile_left_by_a_process_that_ended_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    path.write_text("1234567890\n")
    pidfile = Pidfile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()


def test_pidfile_put_in_place_of_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    pidfile = Pidfile(path)
    path.unlink()
    path.write_text(f"{os.getpid()}\n")
    pidfile.remove()
    assert path.exists()


def test_pidfile_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pid").symlink_to(tmp_path / "other")
    with pytest.raises(StartError, match="cannot be written: it is a symbolic link"):
        Pidfile(tmp_path / "x.pid")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)])
def test_missing_standard_descriptors_are_opened(tmp_path: Path, closed: tuple[int, ...]) -> None:
    result = tmp_path / "result"
    program = (
        "import os, sys; from mediaproxy.process import fill_standard_descriptors as fill; fill();"
        "print('x', file=sys.stderr, flush=True);"
        f"open({str(result)!r}, 'w').write(' '.join(os.readlink(f'/proc/self/fd/{{n}}') for n in {closed}))"
    )
    shell = " ".join(f"{fd}>&-" for fd in closed)
    subprocess.run(["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", program], check=True, timeout=30)
    assert result.read_text().split() == ["/dev/null"] * len(closed)


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


def test_service_manager_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager_socket:
        manager_socket.bind(str(tmp_path / "notify"))
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(5000):  # far more than its queue holds: waiting would hang here
            manager.notify("STATUS=x")
        assert manager_socket.recv(100) == b"STATUS=x"


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
