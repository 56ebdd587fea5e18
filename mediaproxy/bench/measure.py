"""One repetition with one candidate: what a packet costs, the highest rate, the latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mediaproxy.backends.helper.load import BURST_MAX
from mediaproxy.bench.bed import Bed, Step, is_loss_free, is_sustained
from mediaproxy.bench.candidates import Candidate
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.kernel_candidate import OpenKernel
from mediaproxy.bench.results import Sample

_FLAT_OUT_PPS: Final = 2_000_000
_FLAT_OUT_TRIES: Final = 3
_LATENCY_TRIES: Final = 2
_MOST_MOVED: Final = 0.9
"""A kernel backend that moved less than this of what came out did not do the work that it is measured for."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured; rates in packets a second.

    Attributes:
        seconds: of one step.
        warm_up: seconds; rtpengine looks for the endpoint during 3 s.
        fixed_pps: where latency and the cost of waking up are taken.
        refinements: how often the search for the highest rate halves its distance; 0: it does not search.
    """

    seconds: float
    warm_up: float
    fixed_pps: int
    first_pps: int
    refinements: int


FULL: Final = Scale(seconds=1.0, warm_up=0.5, fixed_pps=50_000, first_pps=80_000, refinements=3)
QUICK: Final = Scale(seconds=0.25, warm_up=0.1, fixed_pps=2_000, first_pps=4_000, refinements=0)
DAEMON_WARM_UP: Final = 4.0


def measure(candidate: Candidate, calls: int, scale: Scale) -> Sample:
    """Take all figures once.

    Raises:
        BenchError: the candidate can't be had with so many calls, lost packets at any rate, or delivered them wrong.
    """
    easy = min(scale.fixed_pps, scale.first_pps) // 2
    with Bed(candidate, calls, easy_pps=easy, warm_up=scale.warm_up, step_seconds=scale.seconds) as bed:
        fixed = bed.step(scale.fixed_pps)
        steps_before = len(bed.steps)
        with candidate.lab.prompt_sink():
            tries = [bed.step(scale.fixed_pps, burst=1) for _ in range(_LATENCY_TRIES)]
        # Of two tries the better counts, as everywhere here: what else runs on the machine only ever adds.
        singly = min(tries, key=lambda step: (not step.loss_free, step.run.latency_us["p50"]))
        del bed.steps[steps_before:]  # dearer than need be, so nothing to compare with others
        best, failed = bed.highest(is_sustained, first_pps=scale.first_pps, refinements=scale.refinements)
        busiest = _cheapest(bed, best, candidate.bears_overload and scale.refinements > 0)
        packets = sum(step.run.received for step in bed.steps)
        if packets == 0:
            raise BenchError("no packet came out")
        notes = [*bed.notes, *_moved_note(bed, packets)]
        return Sample(
            ns_per_packet=busiest.ns_per_packet if busiest else None,
            own_ns_per_packet=busiest.own_cpu_ns / busiest.run.received if busiest else None,
            ns_per_packet_fixed=fixed.ns_per_packet if is_loss_free(fixed) else None,
            max_pps=best.run.received_pps if best else None,
            latency_us=singly.run.latency_us if singly.run.received else None,
            setup_per_s=bed.opened.setup_per_s,
            generator_limited=failed is not None and failed.run.generator_limited,
            packets=packets,
            notes=notes,
        )


def _cheapest(bed: Bed, best: Step | None, flat_out: bool) -> Step | None:
    """The step at which a packet cost least: at the highest loss-free rate, or flat out where that can be borne.

    At lower rates the price of waking up a thread for few packets is in the figure.
    """
    steps = [best] if best else []
    if flat_out:
        steps += [bed.flat_out(_FLAT_OUT_PPS, BURST_MAX) for _ in range(_FLAT_OUT_TRIES)]
    return min((step for step in steps if step.run.received), key=lambda step: step.ns_per_packet, default=None)


def _moved_note(bed: Bed, packets: int) -> list[str]:
    if not isinstance(bed.opened, OpenKernel):
        return []
    moved = bed.opened.moved()
    if moved < _MOST_MOVED * packets:
        return [f"by its own counters it forwarded only {moved} of the {packets} packets that came out"]
    return []
