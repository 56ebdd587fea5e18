"""The kernel paths beside rtpengine, by the modules of ``mediaproxy bench``, and what the project wants of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mediaproxy.bench import BenchOptions, run_bench
from mediaproxy.bench.results import Results
from tests.perf.report import Aim

CALLS: Final = 1000
FEW_CALLS: Final = 10
MANY_CALLS: Final = 10_000
COMPARED: Final = ("null", "tc", "nft-readable", "nft-fast", "userspace", "rtpengine")
SCALED: Final = ("null", "tc")


def measure_kernel_paths(
    *, quick: bool, repetitions: int, relay_cpu: int, load_cpu: int, say: Callable[[str], None]
) -> Results:
    """All paths with 1000 calls in turns, and tc with few and many; with ``quick`` all once with few.

    Raises:
        BenchError: nothing can be measured here.
    """

    def run(backends: tuple[str, ...], calls: tuple[int, ...]) -> Results:
        options = BenchOptions(
            backends, calls, repetitions=repetitions, quick=quick, relay_cpu=relay_cpu, load_cpu=load_cpu
        )
        return run_bench(options, say)

    if quick:
        return run(COMPARED, (FEW_CALLS,))
    compared, scaled = run(COMPARED, (CALLS,)), run(SCALED, (FEW_CALLS, MANY_CALLS))
    return Results([*compared.all, *scaled.all], compared.program_ns)


def _ns(results: Results, backend: str, calls: int) -> float | None:
    result = results.find(backend, calls)
    return None if result is None else result.ns_per_packet


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def judge_kernel_paths(results: Results, judged: bool) -> list[Aim]:
    """Compare with the aims; ``judged`` is false for the quick run, whose figures mean nothing."""
    theirs = _ns(results, "rtpengine", CALLS)
    times = {name: _ratio(theirs, _ns(results, name, CALLS)) for name in COMPARED}
    growth = _ratio(_ns(results, "tc", MANY_CALLS), _ns(results, "tc", FEW_CALLS))
    many, tc = results.find("tc", MANY_CALLS), results.find("tc", CALLS)
    seconds = _ratio(2 * MANY_CALLS, many.setup_per_s if many else None)
    added = results.added_latency_us(tc)["p50"] if tc else None
    rows: list[tuple[str, str, float | None, Callable[[float], bool]]] = [
        ("packets per core, tc / rtpengine's", ">= 6", times["tc"], lambda figure: figure >= 6),
        ("packets per core, nft readable / rtpengine's", ">= 2.5", times["nft-readable"], lambda figure: figure >= 2.5),
        ("packets per core, nft fast / rtpengine's", ">= 5", times["nft-fast"], lambda figure: figure >= 5),
        ("the tc program by itself, ns", "<= 350", results.program_ns, lambda figure: figure <= 350),
        ("tc, CPU per packet, 10 000 calls / 10", "<= 1.25", growth, lambda figure: figure <= 1.25),
        ("tc, batch of 20 000 flows, s", "< 0.2", seconds, lambda figure: figure < 0.2),
        ("tc, p50 beyond a plain redirect's at 50 000 packets/s, us", "<= 5", added, lambda figure: figure <= 5),
    ]
    return [
        Aim(name, wanted, figure, met(figure) if judged and figure is not None else None)
        for name, wanted, figure, met in rows
    ]
