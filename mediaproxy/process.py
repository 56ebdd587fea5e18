"""What a Unix daemon does about its process: going to the background, pidfile, limits, telling the service manager."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from mediaproxy.errors import MediaProxyError

_READY: Final = b"ready"
_MAX_REASON: Final = 4096


class StartError(MediaProxyError):
    """The daemon cannot start; the text is one line for the operator."""


class Launcher:
    """Whoever waits for us to be ready: nobody, or the process that we detached from.

    Raises:
        StartError: from the constructor with ``detach``: the process cannot be forked.
    """

    def __init__(self, *, detach: bool, keep_stderr: bool) -> None:
        """Args:
        detach: go to the background. Only before any thread or event loop exists. Returns in the new process; the
            calling one stays until ``ready`` or ``failed`` and then exits with 0 or 1.
        keep_stderr: leave stderr open.
        """
        self._pipe: int | None = None
        if detach:
            self._detach(keep_stderr=keep_stderr)

    def _detach(self, *, keep_stderr: bool) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()  # else both processes would write what is buffered
        try:
            read_end, write_end = os.pipe()
            child = os.fork()
        except OSError as error:
            raise StartError(f"cannot go to the background: {error.strerror}") from error
        if child:
            os.close(write_end)
            _wait_for_child(read_end)
        os.close(read_end)
        os.setsid()
        # A second time, so that we are no session leader and can't get a controlling terminal.
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if keep_stderr else (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        self._pipe = write_end

    def ready(self) -> None:
        """We serve: the process that started us may exit with success."""
        self._tell(_READY)

    def failed(self, reason: str) -> None:
        """We do not start: print the reason on the stderr of whoever started us."""
        if self._pipe is None:
            print(f"mediaproxy: {reason}", file=sys.stderr)
        else:
            self._tell(reason.encode("utf-8", "backslashreplace")[:_MAX_REASON])

    def _tell(self, message: bytes) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, message)
            os.close(self._pipe)
            self._pipe = None


def _wait_for_child(read_end: int) -> NoReturn:
    message = b""
    while part := os.read(read_end, _MAX_REASON):
        message += part
    if message == _READY:
        os._exit(0)
    reason = message.decode("utf-8", "replace") or "ended while starting; its log may say why"
    os.write(2, f"mediaproxy: {reason}\n".encode())
    os._exit(1)


class Pidfile:
    """A file with our process id.

    Raises:
        StartError: from the constructor: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise StartError(f"pidfile {path} cannot be written: {error.strerror}") from error

    def remove(self) -> None:
        """Remove the file, unless another process has written its own id there."""
        with contextlib.suppress(OSError, ValueError):
            if int(self._path.read_text()) == os.getpid():
                self._path.unlink()


class ServiceManager:
    """systemd's readiness protocol (sd_notify(3)): datagrams to the socket in ``NOTIFY_SOCKET``, if there is one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")

    @property
    def waits(self) -> bool:
        """Whether a service manager waits for us, and so wants us in the foreground."""
        return bool(self._address)

    def notify(self, state: str) -> None:
        """Tell a state such as ``READY=1``; a service manager that is not there is no error."""
        if not self._address:
            return
        # "@" stands for the zero byte of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify_socket,
        ):
            notify_socket.connect(address)
            notify_socket.sendall(state.encode())


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one: a call needs four to eight.

    Returns:
        The limit now in force.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # "unlimited" can't always be set
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def ignore_hangup() -> None:
    """Survive SIGHUP and the log level signals already before the event loop handles them."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
