"""Relay throughput: CPU per packet and the highest loss-free rate, every call carrying media both ways.

Three operating points: a fixed rate; the highest sustained rate (loss-free, and 99 % of the packets within 50 ms); the
highest loss-free rate of a short run, which socket buffers stretch beyond what is sustained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.perf.daemons import DaemonUnderTest
from tests.perf.errors import BenchError
from tests.perf.relay_bed import RelayBed, Step
from tests.perf.samples import Sample
from tests.perf.scale import Scale

GROWTH: Final = 1.2
LOWEST_PPS: Final = 1_000


def _is_loss_free(step: Step) -> bool:
    return step.loss_free


def _is_sustained(step: Step) -> bool:
    return step.sustained


def _highest(bed: RelayBed, scale: Scale, good: Callable[[Step], bool]) -> tuple[Step | None, Step | None]:
    """The best good step and the lowest one that was not, growing and then halving the distance; either may be missing.

    Steps that were made for another criterion count too.
    """
    best = max((step for step in bed.steps if good(step)), key=lambda step: step.run.offered_pps, default=None)
    failed: Step | None = None
    pps = int(best.run.offered_pps * GROWTH) if best else scale.relay_first_pps
    while best is None and pps >= LOWEST_PPS:
        step = bed.step(pps, good)
        if good(step):
            best = step
        else:
            failed, pps = step, int(pps / 1.5)
    tried = sorted((step for step in bed.steps if not good(step)), key=lambda step: step.run.offered_pps)
    if best is not None and failed is None:
        failed = next((step for step in tried if step.run.offered_pps > best.run.offered_pps), None)
    while best is not None and failed is None and scale.relay_search_steps:
        step = bed.step(int(best.run.offered_pps * GROWTH), good)
        if good(step):
            best = step
        else:
            failed = step
    for _ in range(scale.relay_search_steps):
        if best is None or failed is None:
            break
        step = bed.step(int((best.run.offered_pps + failed.run.offered_pps) / 2), good)
        if good(step):
            best = step
        else:
            failed = step
    return best, failed


def measure_relay(daemon: DaemonUnderTest, scale: Scale, call_count: int) -> Sample:
    """One repetition with ``call_count`` calls up, all of them carrying media.

    Raises:
        BenchError: the calls could not be set up, media came out wrong, or no rate was loss-free.
    """
    with RelayBed(daemon, scale, call_count) as bed:
        fixed = bed.step(scale.relay_fixed_pps, _is_sustained)
        sustained, _ = _highest(bed, scale, _is_sustained)
        best, failed = _highest(bed, scale, _is_loss_free)
        kib_per_call, descriptors_per_call = bed.growth_per_call()
    if best is None:
        last = bed.steps[-1]
        raise BenchError(f"no rate was loss-free: at {last.run.offered_pps:.0f} pps {last.run.loss:.1%} was lost")
    sample = Sample(
        figures={
            "loss_free_pps": best.run.sent_pps,
            "loss_free_p99_us": best.run.latency_us["p99"],
            "ns_per_packet": best.ns_per_packet,
            "daemon_ns_per_packet": best.daemon_cpu_ns / best.run.received,
            "packets_per_core": 1e9 / best.ns_per_packet,
            "fixed_ns_per_packet": fixed.ns_per_packet,
            "fixed_loss_percent": fixed.run.loss * 100,
            "loss_percent": best.run.loss * 100,
            "core_share": best.cpu_ns / 1e9 / best.run.seconds,
            "media_p50_us": fixed.run.latency_us["p50"],
            "media_p99_us": fixed.run.latency_us["p99"],
            "calls": bed.calls,
            "kib_per_call": kib_per_call,
            "descriptors_per_call": descriptors_per_call,
            "restarts": bed.restarts,
            "reordered": sum(step.run.reordered for step in bed.steps),
        },
        notes=bed.notes,
        detail={"steps": [step.as_json() for step in bed.steps]},
    )
    if sustained is not None:
        sample.figures |= {
            "sustained_pps": sustained.run.sent_pps,
            "sustained_ns_per_packet": sustained.ns_per_packet,
            "sustained_packets_per_core": 1e9 / sustained.ns_per_packet,
        }
    if failed is None and scale.relay_search_steps:
        sample.notes.append("no rate failed")
    if failed is not None and failed.run.generator_limited:
        sample.notes.append("the generator was the limit, not the relay: the loss-free rate is a lower bound")
    return sample
