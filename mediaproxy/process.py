"""What a Unix daemon does about its process: going to the background, pidfile, limits, telling the service manager."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
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
        self._pipe = write_end
        try:
            os.setsid()
            # A second time, so that we are no session leader and can't get a controlling terminal.
            if os.fork():
                os._exit(0)
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1) if keep_stderr else (0, 1, 2):
                os.dup2(null, fd)
            os.close(null)
        except OSError as error:
            self.failed(f"cannot go to the background: {error.strerror}")
            os._exit(1)

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
    """A file with our process id, locked for as long as we run: two instances can't have the same one.

    Raises:
        StartError: from the constructor: it cannot be written, or belongs to another instance that runs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = self._open()
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise StartError(f"pidfile {path} cannot be written: {reason}") from error

    def _open(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise StartError(
                    f"pidfile {self._path} belongs to running process {owner}; give each instance its own"
                ) from error
            if self._is_at_path(fd):
                return fd
            os.close(fd)  # whoever had it removed it before we had the lock

    def _is_at_path(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file, unless it is another one by now or another process has written its own id there."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError, ValueError):
            if self._is_at_path(self._fd) and int(os.pread(self._fd, 20, 0)) == os.getpid():
                self._path.unlink()
        os.close(self._fd)
        self._fd = -1


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
            socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as notify_socket,
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


def fill_standard_descriptors() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that we were started without.

    Else the first files and sockets that we open would take their numbers, and log lines would go there.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    # Python gives up on a stream whose descriptor is missing.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def ignore_hangup() -> None:
    """Survive SIGHUP and the log level signals already before the event loop handles them."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def endings_held() -> Iterator[None]:
    """SIGTERM and SIGINT wait until ``pass_endings``, or until this is left.

    To end in between would leave in the kernel what is being put there. Threads and programs that are started meanwhile
    never see them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        yield
    finally:
        pass_endings()


def pass_endings() -> None:
    """Have what ``endings_held`` held back arrive; at once, if it came meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
