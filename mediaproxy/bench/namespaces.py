"""Network namespaces without names: each lives as long as its descriptor, so a killed run leaves none behind."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from mediaproxy.bench.errors import BenchError

T = TypeVar("T")

_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_CLONE_NEWNET: Final = 0x40000000
_MS_REC: Final = 0x4000  # linux/mount.h
_MS_PRIVATE: Final = 0x40000
_OWN: Final = "/proc/thread-self/ns/net"

_libc: Final = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own, whose namespaces nobody else shares once it changes them.

    Raises:
        Whatever ``function`` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001  # carried over to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Namespace:
    """One network namespace, with nothing in it but a loopback device that is down.

    Raises:
        BenchError: from the constructor: the kernel or missing rights don't allow it.
    """

    def __init__(self) -> None:
        def make() -> int:
            _check(_libc.unshare(_CLONE_NEWNET), "unshare(CLONE_NEWNET)")
            return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)

        try:
            self.fd = in_thread(make)
        except OSError as error:
            raise BenchError(f"no network namespace can be made here: {error.strerror}") from error

    def close(self) -> None:
        """Let go of it: it ends with the last thread and socket in it. A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread is in the namespace meanwhile; sockets made here stay there, threads started here too."""
        outside = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
            try:
                yield
            finally:
                _check(_libc.setns(outside, _CLONE_NEWNET), "setns")
        finally:
            os.close(outside)

    def command(self, *command: str) -> list[str]:
        """The command line that runs a program inside, as long as this process lives."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.fd}", "--", *command]

    def read(self, path: str) -> str:
        """A file below /proc, as it is seen inside."""
        with self.inside():
            return Path(path).read_text()

    def set_sysctls(self, values: Mapping[str, object]) -> None:
        """Write below /proc/sys/net (``ipv4/ip_forward``)."""
        with self.inside():
            for name, value in values.items():
                Path("/proc/sys/net", name).write_text(f"{value}\n")

    def set_device_files(self, values: Mapping[str, object]) -> None:
        """Write below /sys/class/net (``eth0/threaded``), where a mount of sysfs belongs to one namespace for good.

        Raises:
            OSError: the kernel has no such file, or refuses the value.
        """

        def write() -> None:
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
            _check(_libc.unshare(_CLONE_NEWNS), "unshare(CLONE_NEWNS)")
            _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount /")
            _check(_libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None), "mount /sys")
            for name, value in values.items():
                Path("/sys/class/net", name).write_text(f"{value}\n")

        in_thread(write)
