"""Start and stop of the kernel path in the daemon, and the moment when the daemon gives up its rights."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.errors import MediaProxyError, OffloadError
from mediaproxy.logs import Logger
from mediaproxy.privileged.client import Channel, FlowStats, RemoteDatapath, start
from mediaproxy.privileged.rights import Capability, Identity, effective_capabilities, give_up_rights
from mediaproxy.privileged.run_folder import RunFolder
from mediaproxy.privileged.settings import Candidate, FirewallMode, KernelPath, PrivilegedSettings
from mediaproxy.privileged.wire import Kind

_END_TIMEOUT: Final = 5.0

OpenStats = Callable[[int, int], FlowStats]
"""Maps the statistics: takes the descriptor (its to close) and the number of slots."""


def open_flow_stats(fd: int, slots: int) -> FlowStats:
    """An ``OpenStats``.

    Raises:
        OffloadError: it cannot be mapped.
    """
    try:
        return FlowStatsMemory(fd, slots)
    finally:
        os.close(fd)


class NoKernelPathError(MediaProxyError):
    """The operator does not want to start without a kernel path, and there is none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What came of the start.

    Attributes:
        datapath: ``None`` if media is relayed by sockets alone; ``reason`` then says why.
        candidates: what became of each backend that was tried.
        notes: worth a warning each.
        channel: to the privileged process, if that stays.
        firewall: what was opened there.
        wanted: somebody asked for a kernel path, be it by default.
    """

    datapath: RemoteDatapath | None = None
    process: subprocess.Popen[bytes] | None = None
    channel: Channel | None = None
    candidates: tuple[Candidate, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    wanted: bool = True
    firewall: tuple[str, ...] = ()


class KernelPathRun:
    """The kernel path from start to stop, as a context manager around the whole run of the daemon.

    Entering it starts the privileged process and then gives up all rights of this one, so it must be done before there
    is a second thread or an event loop. Leaving it in order (or by an error that says who must act) takes everything
    out of the kernel; leaving it by a bug leaves everything in the kernel, for the next start.

    Args:
        settings: ``run_folder`` is that of the instance.
        identity: whom to become.
        no_fallback: refuse to start without a kernel path.
    """

    def __init__(
        self,
        settings: PrivilegedSettings,
        logger: Logger,
        open_stats: OpenStats,
        identity: Identity | None = None,
        *,
        no_fallback: bool = False,
    ) -> None:
        self._settings = settings
        self._logger = logger
        self._open_stats = open_stats
        self._identity = identity
        self._no_fallback = no_fallback
        self._lock = -1
        self._life = -1
        self._launch = Launch()

    @property
    def datapath(self) -> RemoteDatapath | None:
        """The kernel path, if there is one."""
        return self._launch.datapath

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What became of each backend that was tried, in their order."""
        return self._launch.candidates

    @property
    def reason(self) -> str:
        """Why there is no kernel path; empty if there is one."""
        return self._launch.reason

    def __enter__(self) -> Self:
        """Raises:
        NoKernelPathError: there is none, and ``no_fallback`` forbids to go on.
        RightsError: the rights cannot be given up.
        """
        try:
            self._launch = self._start()
            self._log()
            if self._no_fallback and self._launch.wanted and self._launch.datapath is None:
                raise NoKernelPathError(f"no-fallback: there is no kernel path: {self._launch.reason}")
            give_up_rights(self._identity)
        except BaseException:
            self._end(remove=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(remove=error is None or isinstance(error, MediaProxyError | KeyboardInterrupt | SystemExit))

    def _start(self) -> Launch:
        wanted = self._settings.path is not KernelPath.USERSPACE
        folder = RunFolder(Path(self._settings.run_folder))
        if not wanted and self._settings.firewall is FirewallMode.OFF and not folder.has_leftovers:
            return Launch(reason="not wanted", wanted=False)
        if Capability.NET_ADMIN not in effective_capabilities():
            return Launch(reason="needs CAP_NET_ADMIN, and for tc CAP_BPF and CAP_PERFMON", wanted=wanted)
        try:
            folder.prepare()
            self._lock = folder.lock()
            return replace(self._spawn(), wanted=wanted)
        except OffloadError as error:
            return Launch(reason=str(error), wanted=wanted)

    def _spawn(self) -> Launch:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = Channel(ours, lambda text: self._logger.error("internal error", where="privileged", traceback=text))
        their_life, self._life = os.pipe()
        with theirs:
            try:
                process = subprocess.Popen(
                    # -I: neither the environment nor the current folder decides what is run with these rights.
                    [sys.executable, "-I", "-m", "mediaproxy.privileged", str(theirs.fileno()), str(their_life)],
                    pass_fds=(theirs.fileno(), their_life, self._lock),
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
                    stdin=subprocess.DEVNULL,
                    cwd="/",
                )
            except OSError as error:
                channel.close()
                raise OffloadError(f"the privileged process cannot be started: {error.strerror}") from error
            finally:
                os.close(their_life)
        try:
            started, fds = start(channel, self._settings)
        except OffloadError:
            channel.close()
            self._end_life()
            _reap(process)
            raise
        if not started.backend:
            reasons = "; ".join(f"{one.backend}: {one.reason}" for one in started.candidates) or "not wanted"
            launch = Launch(candidates=started.candidates, notes=started.notes, reason=reasons)
            if started.stays:
                return replace(launch, process=process, channel=channel, firewall=started.firewall)
            channel.close()
            self._end_life()
            _reap(process)
            return launch
        try:
            stats = self._open_stats(fds[0], started.slots)
        except OffloadError:
            channel.close()
            self._end_life()
            _reap(process)
            raise
        datapath = RemoteDatapath(channel, started, stats, fds[1] if started.has_tap else -1)
        return Launch(datapath, process, channel, started.candidates, started.notes, firewall=started.firewall)

    def _log(self) -> None:
        launch = self._launch
        for note in launch.notes:
            self._logger.warning(note)
        for line in launch.firewall:
            self._logger.notice("firewall", text=line)
        told = launch.firewall or any(note.startswith("firewall: ") for note in launch.notes)
        if self._settings.firewall is FirewallMode.MANAGE and not told:
            self._logger.warning("firewall: the media ports were not opened", reason=launch.reason)
        if launch.datapath is not None:
            rejected = {f"not_{one.backend}": one.reason for one in launch.candidates if not one.works}
            self._logger.notice("kernel path", backend=launch.datapath.name, **rejected)
        elif launch.wanted:
            self._logger.warning("no kernel path: media is relayed in user space", reason=launch.reason)
        else:
            self._logger.notice("no kernel path is wanted: media is relayed in user space")

    def _end(self, *, remove: bool) -> None:
        datapath, process, channel = self._launch.datapath, self._launch.process, self._launch.channel
        if channel is not None and remove and not channel.failure:
            try:
                channel.ask(Kind.REMOVE_ALL, deadline=_END_TIMEOUT)
            except OffloadError as error:
                self._logger.warning("what is in the kernel could not be removed", reason=str(error))
        if datapath is not None:
            datapath.close()
        elif channel is not None:
            channel.close()
        self._end_life()
        if process is not None:
            _reap(process)
        elif self._lock >= 0 and remove:
            RunFolder(Path(self._settings.run_folder)).remove()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        self._launch = Launch(reason="stopped")

    def _end_life(self) -> None:
        """Let the privileged process know that we serve no more."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for its end; its channel is closed."""
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(PermissionError):  # it is more than we are by now
            process.kill()
            process.wait(_END_TIMEOUT)
