"""Programs that a test starts: each has a log file, is waited for by condition, and is ended by its process id."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

T = TypeVar("T")

_POLL_INTERVAL: Final = 0.02
_STOP_GRACE: Final = 3.0
"""Seconds between the polite signal and SIGKILL."""


class ProcessFailedError(Exception):
    """A program ended, or did not get ready, when it should have run; the text ends with its last log lines."""


def wait_until(condition: Callable[[], T | None], timeout: float, what: str, interval: float = _POLL_INTERVAL) -> T:
    """Poll until ``condition`` returns something true, and return that.

    Args:
        condition: called every ``interval`` seconds.
        timeout: seconds.
        what: for the error text: "<what> within <timeout> s".
    Raises:
        TimeoutError: the condition never became true.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


class Process:
    """One running program with its output in a file.

    It gets SIGKILL from the kernel should the starting thread die (so start it from a thread that lives as long as
    the test): even a test run that is killed leaves no program behind.

    Args:
        name: short, for messages and for the name of the log file.
        command: program and arguments, with any namespace prefix already in front.
        log_folder: where ``NAME.log`` (standard output and error) is written.
        stop_signal: what asks it to end.
        environment: replaces the inherited environment if given.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_folder: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log_path = log_folder / f"{name}.log"
        self._stop_signal = stop_signal
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=cwd,
            )

    @property
    def pid(self) -> int:
        """The program's own process id: the prefixes (``setpriv``, ``nsenter``) replace themselves by it."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; ``None`` while it runs."""
        return self._popen.poll()

    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines that it printed, for error messages."""
        return "\n".join(f"    {line}" for line in self.log().splitlines()[-lines:])

    def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code.

        Raises:
            ProcessFailedError: it still runs after ``timeout`` seconds (and goes on running).
        """
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ProcessFailedError(f"{self.name} still runs after {timeout:g} s\n{self.tail()}") from error

    def wait_ready(self, condition: Callable[[], object], timeout: float) -> None:
        """Wait until ``condition`` is true.

        Raises:
            ProcessFailedError: the program ended first, or the time is up.
        """

        def ready() -> bool:
            if self.returncode is not None:
                raise ProcessFailedError(f"{self.name} ended with code {self.returncode}\n{self.tail()}")
            return bool(condition())

        try:
            wait_until(ready, timeout, f"{self.name} ready")
        except TimeoutError as error:
            raise ProcessFailedError(f"{error}\n{self.tail()}") from error

    def wait_log(self, pattern: str, timeout: float) -> re.Match[str]:
        """Wait for a line of output that matches a regular expression.

        Raises:
            ProcessFailedError: the program ended first, or the time is up.
        """
        found: list[re.Match[str]] = []

        def seen() -> bool:
            match = re.search(pattern, self.log(), re.MULTILINE)
            if match is not None:
                found.append(match)
            return match is not None

        self.wait_ready(seen, timeout)
        return found[0]

    def log_value(self, pattern: str) -> str:
        """The first group of a regular expression's first match in the log of an ended program, or an empty text."""
        match = re.search(pattern, self.log(), re.MULTILINE)
        return "" if match is None else match[1]

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal unless it has ended already."""
        self._popen.send_signal(number)

    def is_frozen(self) -> bool:
        """Whether it stands still after SIGSTOP."""
        if self.returncode is not None:
            return False
        status = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        return status.rpartition(")")[2].split()[0] == "T"

    def stop(self) -> int:
        """End it: the polite signal, after a grace period SIGKILL. Returns the exit code; may be called again."""
        if self._popen.poll() is None:
            self._popen.send_signal(self._stop_signal)
            self._popen.send_signal(signal.SIGCONT)  # one that a test has frozen must wake up to obey
            try:
                return self._popen.wait(_STOP_GRACE)
            except subprocess.TimeoutExpired:
                self._popen.kill()
        return self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists (a zombie does)."""
    return Path(f"/proc/{pid}").exists()


def kill_pid(pid: int) -> None:
    """SIGKILL, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def open_descriptors(pid: int) -> int:
    """How many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
