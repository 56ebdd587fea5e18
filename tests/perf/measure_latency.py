"""How long a request takes while calls carry media on the same core."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from mediaproxy.bench.daemons import DaemonUnderTest
from mediaproxy.bench.load import media_load
from tests.perf.generators import ng_load
from tests.perf.samples import Sample
from tests.perf.scale import Scale

PACKETS_A_CALL: Final = 100
"""A second, both ways: 20 ms packets."""


def measure_latency(daemon: DaemonUnderTest, scale: Scale) -> Sample:
    """One repetition: the calls carry media throughout, meanwhile further calls come at a fixed rate.

    Raises:
        BenchError: the daemon or a generator did not work.
    """
    lab = daemon.lab
    pps = scale.latency_calls * PACKETS_A_CALL
    with daemon.running() as running:
        calls, _ = running.set_up_calls(scale.latency_calls)
        with media_load(lab, [flow for call in calls for flow in call.flows]) as media:
            media.run(pps, scale.relay_warm_up)
            media.start(pps, scale.latency_seconds + 0.2)
            ng = ng_load(
                lab, window=256, rate=scale.latency_offers, seconds=scale.latency_seconds, prefix="beside-media"
            )
            carried = media.finish()
    sample = Sample(
        figures={
            "offer_p50_ms": ng.offer_ms["p50"],
            "offer_p99_ms": ng.offer_ms["p99"],
            "offer_max_ms": ng.offer_ms["max"],
            "answer_p50_ms": ng.answer_ms["p50"],
            "answer_p99_ms": ng.answer_ms["p99"],
            "delete_p50_ms": ng.delete_ms["p50"],
            "delete_p99_ms": ng.delete_ms["p99"],
            "offers": ng.offer_ms["count"],
            "media_pps": carried.received_pps,
            "media_loss_percent": carried.loss * 100,
            "media_p99_us": carried.latency_us["p99"],
        },
        detail={"ng": asdict(ng), "media": asdict(carried)},
    )
    if ng.failed or ng.resent:
        sample.notes.append(f"{ng.failed} failed, {ng.resent} resent: {ng.first_failure or 'no reply'}")
    if carried.generator_limited:
        sample.notes.append("the media generator could not keep its rate")
    return sample
