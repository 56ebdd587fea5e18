"""The folder of one instance under the run directory: its lock, its bpffs, and which backend it uses."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final

from mediaproxy.errors import OffloadError
from mediaproxy.privileged.rights import mount_bpf, unmount

SYSTEM_BPF: Final = Path("/sys/fs/bpf/mediaproxy")
"""Where an operator may prepare a folder of each instance's name, for hosts on which we may not mount."""

_LOCK: Final = "lock"
_BPF: Final = "bpf"
_BACKEND: Final = "backend"
_LOCK_WAIT: Final = 1.5
"""Seconds in which the privileged process of a daemon that was killed sees that, and ends."""
_LOCK_POLL: Final = 0.05
_MOUNTS: Final = Path("/proc/self/mountinfo")


class RunFolder:
    """``RUNDIR/INSTANCE``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make it, with what is above it.

        Raises:
            OffloadError: it cannot be made, or is not ours alone.
        """
        try:
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            status = self.path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                raise OffloadError(f"{self.path} is not a folder of our own")
            self.path.chmod(0o700)
        except OSError as error:
            raise OffloadError(f"run-dir: {self.path} cannot be made: {error.strerror}") from error

    def lock(self) -> int:
        """Lock the instance; the descriptor holds the lock, also in processes that inherit it.

        Raises:
            OffloadError: another daemon has it, or it cannot be had.
        """
        deadline = time.monotonic() + _LOCK_WAIT
        while True:
            try:
                fd = self._try_lock()
            except OSError as error:
                raise OffloadError(f"{self.path / _LOCK} cannot be locked: {error.strerror}") from error
            if fd is not None:
                return fd
            if time.monotonic() > deadline:
                raise OffloadError(
                    f"another daemon runs as instance {self.path.name} (it holds {self.path / _LOCK}): give each its "
                    "own --instance"
                )
            time.sleep(_LOCK_POLL)

    def _try_lock(self) -> int | None:
        path = self.path / _LOCK
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass  # somebody has it, or had it and has just removed it
        except OSError:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def mount(self) -> tuple[Path | None, str]:
        """A folder of a bpffs that is this instance's own.

        Returns:
            The folder, or ``None`` with the reason.
        """
        own = self.path / _BPF
        if is_bpf_mount(own):
            return own, ""
        try:
            with contextlib.suppress(FileExistsError):
                own.mkdir(mode=0o700)
            mount_bpf(own)
            if not os.access(own, os.W_OK | os.X_OK):
                unmount(own)  # before Linux 6.9 it belongs to root, who we are not
                raise PermissionError(errno.EACCES, "it would belong to root")
        except OSError as error:
            prepared = SYSTEM_BPF / self.path.name
            if prepared.is_dir() and os.access(prepared, os.W_OK):
                return prepared, ""
            return None, (
                f"no bpffs can be mounted at {own} ({error.strerror}), and there is no folder {prepared}: "
                "forwarding in the kernel will end with this daemon"
            )
        return own, ""

    def remember_backend(self, name: str) -> None:
        """Note which backend has put something into the kernel, for whoever comes after us."""
        with contextlib.suppress(OSError):
            (self.path / _BACKEND).write_text(f"{name}\n", encoding="ascii")

    def remembered_backend(self) -> str:
        """What was noted last; empty if nothing was."""
        try:
            return (self.path / _BACKEND).read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            return ""

    def mark(self, name: str) -> None:
        """Note something for whoever comes after us."""
        with contextlib.suppress(OSError):
            (self.path / name).touch()

    def has_mark(self, name: str) -> bool:
        """Whether it was noted."""
        return (self.path / name).exists()

    def unmark(self, name: str) -> None:
        """Take a note back."""
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    @property
    def has_leftovers(self) -> bool:
        """Whether a daemon that died has left something in the kernel, as far as was noted."""
        try:
            return any(path.name != _LOCK for path in self.path.iterdir())
        except OSError:
            return False

    def remove(self) -> None:
        """Take the mount and the folder away, and the run directory if nobody else uses it."""
        own = self.path / _BPF
        if is_bpf_mount(own):
            with contextlib.suppress(OSError):
                unmount(own)
        for name in (_BACKEND, _LOCK):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()
        for folder in (own, self.path, self.path.parent):
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
                    return


def is_bpf_mount(path: Path, mounts: Path = _MOUNTS) -> bool:
    """Whether a bpffs is mounted just there."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    wanted = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in str(path))
    found = False
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) > 4 and fields[4] == wanted:
            found = tail.split(" ")[0] == "bpf"  # the last one mounted is on top
    return found
