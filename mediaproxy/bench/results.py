"""What was measured: one result for each backend and number of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from mediaproxy.bench.null_candidate import NULL

PERCENTILES = ("p50", "p99", "p999")


@dataclass(frozen=True, slots=True)
class Sample:
    """One repetition; ``None`` where a figure could not be taken.

    Attributes:
        ns_per_packet: CPU time per packet, receive path included, where it is least: at the highest loss-free rate, or
            flat out for what bears that.
        own_ns_per_packet: the part of it in threads of the relay itself.
        ns_per_packet_fixed: the same at the fixed rate, where threads sleep and wake.
        max_pps: the highest loss-free rate, both directions together.
        latency_us: from sending to arrival, by ``PERCENTILES``.
        generator_limited: the generator was the limit: ``max_pps`` is a lower bound.
        packets: that came out, of all steps.
    """

    ns_per_packet: float | None
    own_ns_per_packet: float | None
    ns_per_packet_fixed: float | None
    max_pps: float | None
    latency_us: Mapping[str, float] | None
    setup_per_s: float | None
    generator_limited: bool
    packets: int
    notes: Sequence[str] = ()


@dataclass(slots=True)
class Result:
    """All repetitions of one backend with one number of calls, or why there are none."""

    backend: str
    calls: int
    samples: list[Sample] = field(default_factory=list)
    error: str = ""

    def _median(self, values: Sequence[float | None]) -> float | None:
        there = [value for value in values if value is not None]
        return median(there) if there else None

    @property
    def ns_per_packet(self) -> float | None:
        return self._median([sample.ns_per_packet for sample in self.samples])

    @property
    def own_ns_per_packet(self) -> float | None:
        return self._median([sample.own_ns_per_packet for sample in self.samples])

    @property
    def ns_per_packet_fixed(self) -> float | None:
        return self._median([sample.ns_per_packet_fixed for sample in self.samples])

    @property
    def max_pps(self) -> float | None:
        return self._median([sample.max_pps for sample in self.samples])

    @property
    def setup_per_s(self) -> float | None:
        return self._median([sample.setup_per_s for sample in self.samples])

    @property
    def latency_us(self) -> dict[str, float | None]:
        there = [sample.latency_us for sample in self.samples if sample.latency_us is not None]
        return {name: self._median([one[name] for one in there]) for name in PERCENTILES}

    @property
    def generator_limited(self) -> bool:
        """In most repetitions."""
        return 2 * sum(sample.generator_limited for sample in self.samples) > len(self.samples)

    @property
    def notes(self) -> list[str]:
        """Of all repetitions, each once."""
        return list(dict.fromkeys(note for sample in self.samples for note in sample.notes))


def _less(value: float | None, floor: float | None) -> float | None:
    return None if value is None or floor is None else value - floor


class Results:
    """All results of a run, in the order in which they were begun.

    Attributes:
        program_ns: what the tc program takes by itself for a packet, where it was measured.
    """

    def __init__(self, all_results: Sequence[Result], program_ns: float | None = None) -> None:
        self.all = list(all_results)
        self.program_ns = program_ns
        self._floors = {result.calls: result for result in self.all if result.backend == NULL}

    def find(self, backend: str, calls: int) -> Result | None:
        """The result of one backend with one number of calls."""
        return next((one for one in self.all if (one.backend, one.calls) == (backend, calls)), None)

    def extra_ns(self, result: Result) -> float | None:
        """CPU time per packet beyond a plain redirect's with the same number of calls."""
        floor = self._floors.get(result.calls)
        return _less(result.ns_per_packet, floor.ns_per_packet if floor else None)

    def added_latency_us(self, result: Result) -> dict[str, float | None]:
        """Latency beyond a plain redirect's with the same number of calls."""
        floor = self._floors.get(result.calls)
        none = dict.fromkeys(PERCENTILES)
        floors = floor.latency_us if floor else none
        return {name: _less(value, floors[name]) for name, value in result.latency_us.items()}

    def as_json(self) -> list[dict[str, object]]:
        """One object per measurement; times in nanoseconds and microseconds, ``null`` where there is no figure."""
        return [
            {
                "backend": result.backend,
                "calls": result.calls,
                "ns_per_packet": result.ns_per_packet,
                "max_pps": result.max_pps,
                "latency_us": result.latency_us,
                "setup_per_s": result.setup_per_s,
                "extra_ns_per_packet": self.extra_ns(result),
                "own_ns_per_packet": result.own_ns_per_packet,
                "ns_per_packet_fixed": result.ns_per_packet_fixed,
                "added_latency_us": self.added_latency_us(result),
                "generator_limited": result.generator_limited,
                "repetitions": len(result.samples),
                "packets": sum(sample.packets for sample in result.samples),
                "notes": result.notes,
                "error": result.error,
            }
            for result in self.all
        ]
