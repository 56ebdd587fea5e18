"""A candidate with its calls up and the media generator, kept usable over steps of rising rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

from mediaproxy.bench.accounting import CoreTimes, core_times
from mediaproxy.bench.candidates import Candidate, OpenCandidate
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.load import BURST, MediaLoad, MediaRun, media_load

LOSS_FREE: Final = 0.001
"""A rate counts as loss-free below this: the rings of a veth hold 256 packets, so one hiccup of a shared host shows."""
SUSTAINED_P99_US: Final = 50_000
"""A rate counts as sustained when 99 % came out sooner: the buffers of 2000 sockets hide an overload of a whole second
from the count of losses, a listener would not forgive it."""
TRIES: Final = 2
"""A rate has failed when it failed this often."""
RECOVERY_SECONDS: Final = 0.4
RECOVERY_TRIES: Final = 3
RESTARTS_MAX: Final = 5
GROWTH: Final = 1.2
LOWEST_PPS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Step:
    """One run at one rate, with what it cost."""

    run: MediaRun
    cpu_ns: int
    own_cpu_ns: int
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
        """CPU time of the relay and of the kernel threads that receive for it, per packet that came out."""
        return self.cpu_ns / self.run.received if self.run.received else 0.0

    def as_json(self) -> dict[str, object]:
        """The step as it is saved."""
        return {
            **asdict(self.run),
            "loss_percent": self.run.loss * 100,
            "ns_per_packet": self.ns_per_packet,
            "own_ns_per_packet": self.own_cpu_ns / self.run.received if self.run.received else 0.0,
            "socket_overflows": self.socket_overflows,
            "core_busy": self.core.busy_part,
            "core_stolen": self.core.stolen_part,
        }


def is_loss_free(step: Step) -> bool:
    """As ``Step.loss_free``."""
    return step.loss_free


def is_sustained(step: Step) -> bool:
    """As ``Step.sustained``."""
    return step.sustained


class Bed:
    """``with Bed(...) as bed``: makes steps and remembers them.

    A daemon that an overload has broken for good (rtpengine 10.5 stops reading the sockets whose queues overflowed and
    goes on losing most packets at any rate) is opened anew with new calls, so that one step never spoils the next.

    Args:
        easy_pps: a rate that everything bears, for the warm-up and to see whether it recovered.
        warm_up, step_seconds: how long each takes.
    Attributes:
        steps: all tries so far.
        restarts: how often the candidate had to be opened anew.
        notes: what happened on the way, once each.
    """

    def __init__(self, candidate: Candidate, calls: int, *, easy_pps: int, warm_up: float, step_seconds: float) -> None:
        self._candidate = candidate
        self._call_count = calls
        self._easy_pps = easy_pps
        self._warm_up = warm_up
        self._step_seconds = step_seconds
        self._stack = ExitStack()
        self._media: MediaLoad
        self.opened: OpenCandidate
        self.steps: list[Step] = []
        self.restarts = 0
        self.notes: list[str] = []

    def __enter__(self) -> Bed:
        self._start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()

    def step(self, pps: int, good: Callable[[Step], bool] = is_sustained, burst: int = BURST) -> Step:
        """The first of ``TRIES`` runs at this rate that is good, else the last; one the generator spoilt is redone.

        Raises:
            BenchError: the generator or the candidate failed.
        """
        tries = 0
        for _ in range(2 * TRIES):
            step = self._try(pps, burst)
            if good(step):
                break
            if not step.loss_free:
                self._recover(step)
            tries += not step.run.generator_limited
            if tries == TRIES:
                break
        return step

    def flat_out(self, pps: int, burst: int) -> Step:
        """One run at more than anybody can take: what is lost does not matter, what came out is what was worked for.

        Raises:
            BenchError: the generator or the candidate failed.
        """
        return self._try(pps, burst)

    def highest(
        self, good: Callable[[Step], bool], *, first_pps: int, refinements: int
    ) -> tuple[Step | None, Step | None]:
        """The best good step and the lowest one that was not; either may be missing.

        The rate grows, then the distance is halved. Steps that were made for another criterion count too.

        Args:
            refinements: how often the distance is halved; with 0 the rate does not grow either.
        Raises:
            BenchError: see ``step``.
        """
        best = max((step for step in self.steps if good(step)), key=lambda step: step.run.offered_pps, default=None)
        failed: Step | None = None
        pps = first_pps
        while best is None and pps >= LOWEST_PPS:
            step = self.step(pps, good)
            if good(step):
                best = step
            else:
                failed, pps = step, int(pps / 1.5)
        tried = sorted((step for step in self.steps if not good(step)), key=lambda step: step.run.offered_pps)
        if best is not None and failed is None:
            failed = next((step for step in tried if step.run.offered_pps > best.run.offered_pps), None)
        while best is not None and failed is None and refinements:
            step = self.step(max(int(best.run.offered_pps * GROWTH), first_pps), good)
            if good(step):
                best = step
            else:
                failed = step
        for _ in range(refinements):
            if best is None or failed is None:
                break
            step = self.step(int((best.run.offered_pps + failed.run.offered_pps) / 2), good)
            if good(step):
                best = step
            else:
                failed = step
        return best, failed

    def _start(self) -> None:
        try:
            self.opened = self._stack.enter_context(self._candidate.open(self._call_count))
            self.notes += [note for note in self.opened.notes if note not in self.notes]
            self._media = self._stack.enter_context(media_load(self._candidate.lab, self.opened.flows))
            self._media.run(self._easy_pps, self._warm_up)
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
        if self.restarts > RESTARTS_MAX:
            raise BenchError(f"it loses {easy.loss:.0%} of {self._easy_pps:,} packets/s, also when started anew")
        self.notes.append(
            f"after {failed.run.loss:.0%} loss at {failed.run.offered_pps:,.0f} packets/s it kept losing"
            f" {easy.loss:.0%} at {self._easy_pps:,} and had to be started anew"
        )
        self._stack.close()
        self._start()

    def _try(self, pps: int, burst: int) -> Step:
        lab = self._candidate.lab
        overflows, core = lab.udp_overflows(), core_times(lab.relay_cpu)
        cpu, own_cpu = self.opened.cpu_ns(), self.opened.own_cpu_ns()
        run = self._media.run(pps, self._step_seconds, burst)
        step = Step(
            run,
            self.opened.cpu_ns() - cpu,
            self.opened.own_cpu_ns() - own_cpu,
            lab.udp_overflows() - overflows,
            core_times(lab.relay_cpu) - core,
        )
        self.steps.append(step)
        if run.misdelivered:
            raise BenchError(f"{run.misdelivered} packets came out at another agent than the one they were for")
        return step
