"""A daemon as a candidate: its calls are set up through ng, its CPU time is that of its processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mediaproxy.bench.daemons import DaemonUnderTest, RtpengineUnderTest, RunningDaemon
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow
from mediaproxy.bench.userspace_candidate import refuse_without_descriptors

_DESCRIPTORS_A_CALL: Final = 4


class OpenDaemon:
    """A running daemon with its calls; see ``OpenCandidate``."""

    def __init__(self, running: RunningDaemon, calls: int) -> None:
        self._running = running
        empty = running.memory()
        began = time.monotonic()
        found, limit = running.set_up_calls(calls)
        self.setup_per_s: float | None = 2 * len(found) / (time.monotonic() - began)
        self.calls = len(found)
        self.notes: Sequence[str] = [limit] if limit else []
        self.flows: Sequence[MediaFlow] = [flow for call in found for flow in call.flows]
        self._empty = empty

    def cpu_ns(self) -> int:
        """All its threads, and the kernel threads that receive for it."""
        return self._running.cpu_with_receive_ns()

    def own_cpu_ns(self) -> int:
        """All its threads."""
        return self._running.cpu_ns()

    def growth_per_call(self) -> tuple[float, float]:
        """KiB of resident memory and descriptors of the daemon that came with each call and its media."""
        now = self._running.memory()
        return (
            (now.rss_kib - self._empty.rss_kib) / self.calls,
            (now.descriptors - self._empty.descriptors) / self.calls,
        )


class DaemonCandidate:
    """See ``Candidate``."""

    bears_overload = False

    def __init__(self, daemon: DaemonUnderTest) -> None:
        self.daemon = daemon
        self.name = daemon.name
        self.lab: Lab = daemon.lab

    @contextmanager
    def open(self, calls: int) -> Iterator[OpenDaemon]:
        """Start the daemon and set up its calls.

        Raises:
            BenchError: it is not installed or does not work.
        """
        with self.daemon.running() as running:
            yield OpenDaemon(running, calls)


class RtpengineCandidate(DaemonCandidate):
    """rtpengine in userspace mode, see ``Candidate``."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(RtpengineUnderTest(lab, threads=1))

    @contextmanager
    def open(self, calls: int) -> Iterator[OpenDaemon]:
        """Start it and set up its calls.

        Raises:
            BenchError: it is not installed, or cannot hold so many calls.
        """
        refuse_without_descriptors(calls, _DESCRIPTORS_A_CALL)
        with super().open(calls) as opened:
            if opened.calls < calls:
                raise BenchError(f"not possible: {opened.notes[0]}")
            yield opened
