"""A daemon with its calls up and its media generator, kept usable over steps of rising rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

from tests.perf.accounting import CoreTimes, Memory, core_times
from tests.perf.daemons import DaemonUnderTest, RunningDaemon
from tests.perf.errors import BenchError
from tests.perf.generators import MediaLoad, MediaRun, media_load
from tests.perf.scale import Scale

LOSS_FREE: Final = 0.001
"""A rate counts as loss-free below this: the rings of a veth hold 256 packets, so one hiccup of a shared host shows."""
SUSTAINED_P99_US: Final = 50_000
"""A rate counts as sustained when 99 % came out sooner: the buffers of 2000 sockets hide an overload of a whole second
from the count of losses, a listener would not forgive it."""
TRIES: Final = 2
"""A rate has failed when it failed this often."""
RECOVERY_SECONDS: Final = 0.4
RECOVERY_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One run at one rate, with what it cost."""

    run: MediaRun
    cpu_ns: int
    daemon_cpu_ns: int
    socket_overflows: int
    core: CoreTimes

    @property
    def loss_free(self) -> bool:
        """Nothing (to ``LOSS_FREE``) was lost and the generator kept its rate."""
        return self.run.loss < LOSS_FREE and not self.run.generator_limited

    @property
    def sustained(self) -> bool:
        """Loss-free, and no queue grew."""
        return self.loss_free and self.run.latency_us["p99"] < SUSTAINED_P99_US

    @property
    def ns_per_packet(self) -> float:
        """CPU time of the daemon and of the kernel threads that receive for it, per packet that came out."""
        return self.cpu_ns / self.run.received if self.run.received else 0.0

    def as_json(self) -> dict[str, object]:
        """The step as it is saved."""
        return {
            **asdict(self.run),
            "loss_percent": self.run.loss * 100,
            "ns_per_packet": self.ns_per_packet,
            "daemon_ns_per_packet": self.daemon_cpu_ns / self.run.received if self.run.received else 0.0,
            "socket_overflows": self.socket_overflows,
            "core_busy": self.core.busy_part,
            "core_stolen": self.core.stolen_part,
        }


class RelayBed:
    """``with RelayBed(...) as bed``: makes steps and remembers them.

    A daemon that an overload has broken for good (rtpengine 10.5 stops reading the sockets whose queues overflowed and
    goes on losing most packets at any rate) is started anew with new calls, so that one step never spoils the next.

    Attributes:
        steps: all tries so far.
        restarts: how often the daemon had to be started anew.
        notes: what happened on the way, once each.
    """

    def __init__(self, daemon: DaemonUnderTest, scale: Scale, call_count: int) -> None:
        self._daemon = daemon
        self._scale = scale
        self._call_count = call_count
        self._easy_pps = min(scale.relay_first_pps, scale.relay_fixed_pps) // 2
        self._stack = ExitStack()
        self._running: RunningDaemon
        self._media: MediaLoad
        self._empty: Memory
        self.calls = 0
        self.steps: list[Step] = []
        self.restarts = 0
        self.notes: list[str] = []

    def __enter__(self) -> RelayBed:
        self._start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def step(self, pps: int, good: Callable[[Step], bool]) -> Step:
        """The first of ``TRIES`` runs at this rate that is good, else the last; one the generator spoilt is redone.

        Raises:
            BenchError: a generator or the daemon ended.
        """
        tries = 0
        for _ in range(2 * TRIES):
            step = self._try(pps)
            if good(step):
                break
            if not step.loss_free:
                self._recover(step)
            tries += not step.run.generator_limited
            if tries == TRIES:
                break
        return step

    def growth_per_call(self) -> tuple[float, float]:
        """KiB of resident memory and descriptors of the daemon that came with each call and its media."""
        now, calls = self._running.memory(), self.calls
        return (now.rss_kib - self._empty.rss_kib) / calls, (now.descriptors - self._empty.descriptors) / calls

    def _start(self) -> None:
        try:
            self._running = self._stack.enter_context(self._daemon.running())
            self._empty = self._running.memory()
            calls, limit = self._running.set_up_calls(self._call_count)
            self.calls = len(calls)
            if limit and limit not in self.notes:
                self.notes.append(limit)
            self._media = self._stack.enter_context(media_load(self._daemon.lab, calls))
            self._media.run(self._easy_pps, self._scale.relay_warm_up)
        except BaseException:
            self._stack.close()
            raise

    def _recover(self, failed: Step) -> None:
        for _ in range(RECOVERY_TRIES):
            time.sleep(0.2)  # queues run empty
            easy = self._media.run(self._easy_pps, RECOVERY_SECONDS)
            if easy.loss < LOSS_FREE:
                return
        self.restarts += 1
        self.notes.append(
            f"after {failed.run.loss:.0%} loss at {failed.run.offered_pps:,.0f} packets/s it kept losing"
            f" {easy.loss:.0%} at {self._easy_pps:,} and had to be started anew"
        )
        self._stack.close()
        self._start()

    def _try(self, pps: int) -> Step:
        lab = self._daemon.lab
        overflows, core = lab.udp_overflows(), core_times(lab.relay_cpu)
        cpu, daemon_cpu = self._running.cpu_with_receive_ns(), self._running.cpu_ns()
        run = self._media.run(pps, self._scale.relay_step)
        step = Step(
            run,
            self._running.cpu_with_receive_ns() - cpu,
            self._running.cpu_ns() - daemon_cpu,
            lab.udp_overflows() - overflows,
            core_times(lab.relay_cpu) - core,
        )
        self.steps.append(step)
        if run.misdelivered:
            raise BenchError(f"{run.misdelivered} packets came out at another agent than the one they were for")
        return step
