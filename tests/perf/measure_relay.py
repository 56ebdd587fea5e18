"""Relay throughput: CPU per packet and the highest loss-free rate, every call carrying media both ways.

Three operating points: a fixed rate; the highest sustained rate (loss-free, and 99 % of the packets within 50 ms); the
highest loss-free rate of a short run, which socket buffers stretch beyond what is sustained.
"""

from __future__ import annotations

from mediaproxy.bench.bed import Bed, is_loss_free, is_sustained
from mediaproxy.bench.daemon_candidate import DaemonCandidate, OpenDaemon
from mediaproxy.bench.daemons import DaemonUnderTest
from mediaproxy.bench.errors import BenchError
from tests.perf.samples import Sample
from tests.perf.scale import Scale


def measure_relay(daemon: DaemonUnderTest, scale: Scale, call_count: int) -> Sample:
    """One repetition with ``call_count`` calls up, all of them carrying media.

    Raises:
        BenchError: the calls could not be set up, media came out wrong, or no rate was loss-free.
    """
    search = {"first_pps": scale.relay_first_pps, "refinements": scale.relay_search_steps}
    with Bed(
        DaemonCandidate(daemon),
        call_count,
        easy_pps=min(scale.relay_first_pps, scale.relay_fixed_pps) // 2,
        warm_up=scale.relay_warm_up,
        step_seconds=scale.relay_step,
    ) as bed:
        fixed = bed.step(scale.relay_fixed_pps, is_sustained)
        sustained, _ = bed.highest(is_sustained, **search)
        best, failed = bed.highest(is_loss_free, **search)
        assert isinstance(bed.opened, OpenDaemon)
        kib_per_call, descriptors_per_call = bed.opened.growth_per_call()
    if best is None:
        last = bed.steps[-1]
        raise BenchError(f"no rate was loss-free: at {last.run.offered_pps:.0f} pps {last.run.loss:.1%} was lost")
    sample = Sample(
        figures={
            "loss_free_pps": best.run.sent_pps,
            "loss_free_p99_us": best.run.latency_us["p99"],
            "ns_per_packet": best.ns_per_packet,
            "daemon_ns_per_packet": best.own_cpu_ns / best.run.received,
            "packets_per_core": 1e9 / best.ns_per_packet,
            "fixed_ns_per_packet": fixed.ns_per_packet,
            "fixed_loss_percent": fixed.run.loss * 100,
            "loss_percent": best.run.loss * 100,
            "core_share": best.cpu_ns / 1e9 / best.run.seconds,
            "media_p50_us": fixed.run.latency_us["p50"],
            "media_p99_us": fixed.run.latency_us["p99"],
            "calls": bed.opened.calls,
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
