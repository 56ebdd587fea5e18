"""Set-up rate: offer + answer + delete cycles a second with the whole daemon on one core, no media."""

from __future__ import annotations

from dataclasses import asdict

from mediaproxy.bench.accounting import core_times
from mediaproxy.bench.daemons import DaemonUnderTest
from mediaproxy.bench.load import SATURATED
from tests.perf.generators import ng_load
from tests.perf.samples import Sample
from tests.perf.scale import Scale


def measure_setup(daemon: DaemonUnderTest, scale: Scale) -> Sample:
    """One repetition: flat out with a window of calls under way, then one call at a time for the bare latencies.

    Raises:
        BenchError: the daemon or the generator did not work.
    """
    lab = daemon.lab
    with daemon.running() as running:
        ng_load(lab, window=scale.setup_window, rate=0, seconds=scale.setup_seconds / 4, prefix="warm")
        descriptors_before = running.settled_memory().descriptors
        cpu_before, core_before = running.cpu_ns(), core_times(lab.relay_cpu)
        flat_out = ng_load(lab, window=scale.setup_window, rate=0, seconds=scale.setup_seconds, prefix="flat")
        cpu_ns = running.cpu_ns() - cpu_before
        core = core_times(lab.relay_cpu) - core_before
        single = ng_load(lab, window=1, rate=0, seconds=scale.setup_seconds / 2, prefix="single")
        descriptors_after = running.settled_memory().descriptors
    share = cpu_ns / 1e9 / flat_out.seconds
    sample = Sample(
        figures={
            "cycles_per_s": flat_out.rate,
            "cpu_us_per_cycle": cpu_ns / 1e3 / flat_out.cycles,
            "daemon_core_share": share,
            "core_busy": core.busy_part,
            "flat_offer_p50_ms": flat_out.offer_ms["p50"],
            "flat_offer_p99_ms": flat_out.offer_ms["p99"],
            "single_offer_p50_ms": single.offer_ms["p50"],
            "single_offer_p99_ms": single.offer_ms["p99"],
            "single_answer_p50_ms": single.answer_ms["p50"],
            "single_answer_p99_ms": single.answer_ms["p99"],
            "single_delete_p50_ms": single.delete_ms["p50"],
            "single_delete_p99_ms": single.delete_ms["p99"],
            "descriptors_left": descriptors_after - descriptors_before,
        },
        detail={"flat_out": asdict(flat_out), "single": asdict(single)},
    )
    if flat_out.generator_cpu > SATURATED:
        sample.notes.append(f"the generator was saturated ({flat_out.generator_cpu:.0%} of its core): a lower bound")
    elif share < SATURATED:
        sample.notes.append(f"the daemon had {share:.0%} of its core: other work or waiting limits, a lower bound")
    for result in (flat_out, single):
        if result.failed or result.resent:
            sample.notes.append(f"{result.failed} failed, {result.resent} resent: {result.first_failure or 'no reply'}")
    return sample
