"""The C relay as a candidate: one worker thread on the relay's core, in this process."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mediaproxy.backends.userspace import UserspaceRelay
from mediaproxy.bench.accounting import thread_cpu_ns
from mediaproxy.bench.calls import PlannedCall, plan_calls
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow
from mediaproxy.datapath.relay import SourcePolicy, TransportConfig
from mediaproxy.errors import RelayError

DESCRIPTORS_A_CALL: Final = 6
"""Two port pairs, and a second socket for each learnt RTP stream."""
DESCRIPTORS_SPARE: Final = 200
FIFO_PRIORITY: Final = 1
"""Below that of the kernel threads which receive for it, as rtpengine's threads here."""


def refuse_without_descriptors(calls: int, per_call: int) -> None:
    """Raises:
    BenchError: so many calls need more descriptors than a process may have here.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = calls * per_call + DESCRIPTORS_SPARE
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise BenchError(f"not possible: descriptors: {calls} calls need {needed}, the limit is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class OpenUserspace:
    """See ``OpenCandidate``."""

    def __init__(self, lab: Lab, relay: UserspaceRelay, planned: Sequence[PlannedCall]) -> None:
        self._lab = lab
        self._relay = relay
        self.calls = len(planned)
        self.flows: Sequence[MediaFlow] = [flow for call in planned for flow in call.media]
        self.notes: Sequence[str] = ()
        began = time.monotonic()
        for call in planned:
            self._set_up(call)
        self.setup_per_s: float | None = len(self.flows) / (time.monotonic() - began)

    def _set_up(self, call: PlannedCall) -> None:
        pairs = [self._relay.open_pair(local.address, local.port, call.number) for local in call.relays]
        self._relay.configure(
            [
                TransportConfig(
                    handle=pairs[side][0],
                    policy=SourcePolicy.LOCKED,
                    remote=call.agents[side],
                    expected=call.agents[side],
                    rtp_sinks=(pairs[1 - side][0],),
                    clock_rates=((8, 8000),),
                )
                for side in (0, 1)
            ]
        )

    def cpu_ns(self) -> int:
        """Its thread, and the kernel threads that receive for it."""
        return self.own_cpu_ns() + self._lab.relay_napi_ns()

    def own_cpu_ns(self) -> int:
        """Its thread."""
        return sum(thread_cpu_ns(thread) for thread in self._relay.worker_thread_ids())


class UserspaceCandidate:
    """See ``Candidate``."""

    name = "userspace"
    bears_overload = False

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @contextmanager
    def open(self, calls: int) -> Iterator[OpenUserspace]:
        """Open and configure all sockets.

        Raises:
            BenchError: there are not enough descriptors, or the relay refuses.
        """
        refuse_without_descriptors(calls, DESCRIPTORS_A_CALL)
        lab = self.lab
        try:
            with lab.relay.inside():  # its thread makes sockets too, and is born where this one stands
                relay = UserspaceRelay(1, 4 * calls + 16)
            with relay:
                for thread in relay.worker_thread_ids():
                    os.sched_setaffinity(thread, {lab.relay_cpu})
                    os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
                with lab.relay.inside():
                    opened = OpenUserspace(lab, relay, plan_calls(lab, calls))
                yield opened
        except RelayError as error:
            raise BenchError(f"not possible: {error}") from error
