"""The run: every backend with every number of calls, in turns, in a lab that is made and removed here."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.bench.calls import CALLS_MAX
from mediaproxy.bench.candidates import Candidate
from mediaproxy.bench.daemon_candidate import RtpengineCandidate
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.kernel_candidate import KernelCandidate
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.measure import DAEMON_WARM_UP, FULL, QUICK, Scale, measure
from mediaproxy.bench.null_candidate import NULL, NullCandidate
from mediaproxy.bench.program_cost import program_ns
from mediaproxy.bench.results import Result, Results
from mediaproxy.bench.userspace_candidate import UserspaceCandidate
from mediaproxy.privileged.openers import OPENERS

BACKENDS: Final[Mapping[str, Callable[[Lab], Candidate]]] = {
    NULL: NullCandidate,
    "tc": lambda lab: KernelCandidate("tc", lab, OPENERS["tc"]),
    "xdp": lambda lab: KernelCandidate("xdp", lab, OPENERS["xdp"], forwarding=True),
    "nft-readable": lambda lab: KernelCandidate("nft-readable", lab, OPENERS["nft"]),
    "nft-fast": lambda lab: KernelCandidate("nft-fast", lab, OPENERS["nft"], NftForm.FAST),
    "iptables": lambda lab: KernelCandidate("iptables", lab, OPENERS["iptables"], forwarding=True),
    "userspace": UserspaceCandidate,
    "rtpengine": RtpengineCandidate,
}
"""All that can be measured, by name."""

CALLS: Final = (10, 1000, 10_000)
REPETITIONS: Final = 3


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What is measured and where.

    Attributes:
        seconds: of one step; ``None`` for the usual.
        quick: everything once and briefly: shows that it works, not how fast it is.
        relay_cpu, load_cpu: the cores; ``None`` for the last and the first of those that we may use.
    """

    backends: Sequence[str] = tuple(BACKENDS)
    calls: Sequence[int] = CALLS
    repetitions: int = REPETITIONS
    seconds: float | None = None
    quick: bool = False
    relay_cpu: int | None = None
    load_cpu: int | None = None

    @property
    def scale(self) -> Scale:
        scale = QUICK if self.quick else FULL
        return replace(scale, seconds=self.seconds) if self.seconds is not None else scale


def choose_cores(options: BenchOptions) -> tuple[int, int]:
    """The relay's and the generator's core.

    Raises:
        BenchError: the measurement can't be taken here.
    """
    if os.geteuid() != 0:
        raise BenchError("this needs root: it makes network namespaces and gives threads cores of their own")
    usable = sorted(os.sched_getaffinity(0))
    relay = usable[-1] if options.relay_cpu is None else options.relay_cpu
    load = usable[0] if options.load_cpu is None else options.load_cpu
    missing = {relay, load} - set(usable)
    if missing:
        raise BenchError(f"there is no CPU {', '.join(map(str, sorted(missing)))} for us")
    if relay == load:
        raise BenchError("this needs two cores, one for the relay and one for the generator")
    return relay, load


def check_options(options: BenchOptions) -> None:
    """Raises:
    BenchError: a name or number can't be used.
    """
    unknown = [name for name in options.backends if name not in BACKENDS]
    if unknown:
        raise BenchError(f"unknown backend: {', '.join(unknown)}; there are {', '.join(BACKENDS)}")
    if not all(0 < calls <= CALLS_MAX for calls in options.calls):
        raise BenchError(f"numbers of calls are 1 to {CALLS_MAX}")
    if options.repetitions < 1 or not 0.05 <= options.scale.seconds <= 60:
        raise BenchError("at least one repetition, and steps of 0.05 to 60 seconds")


def run_bench(
    options: BenchOptions, say: Callable[[str], None], backends: Mapping[str, Callable[[Lab], Candidate]] = BACKENDS
) -> Results:
    """Measure everything; what can't be had here is a result with an error.

    Args:
        say: is told what is done next.
        backends: how each is made.
    Raises:
        BenchError: nothing at all can be measured here.
    """
    check_options(options)
    relay_cpu, load_cpu = choose_cores(options)
    repetitions = 1 if options.quick else options.repetitions
    results = Results([Result(name, calls) for calls in options.calls for name in options.backends])
    with Lab(relay_cpu, load_cpu) as lab:
        candidates = {name: backends[name](lab) for name in options.backends}
        for repetition in range(repetitions):
            # Who comes first changes, so that a slow drift of the machine favours nobody.
            names = options.backends if repetition % 2 == 0 else tuple(reversed(options.backends))
            for calls, name in itertools.product(options.calls, names):
                result = results.find(name, calls)
                assert result is not None
                _repeat(candidates[name], result, options.scale, say)
    if any(result.samples for result in results.all if result.backend == "tc"):
        results.program_ns = _program_ns(say)
    return results


def _program_ns(say: Callable[[str], None]) -> float | None:
    try:
        return program_ns()
    except BenchError as error:
        say(str(error))
        return None


def _repeat(candidate: Candidate, result: Result, scale: Scale, say: Callable[[str], None]) -> None:
    """Take one more repetition, unless an earlier one failed."""
    if result.error:
        return
    say(f"{result.backend}, {result.calls} calls: repetition {len(result.samples) + 1}")
    if isinstance(candidate, RtpengineCandidate):
        scale = replace(scale, warm_up=max(scale.warm_up, DAEMON_WARM_UP) if scale.refinements else scale.warm_up)
    try:
        result.samples.append(measure(candidate, result.calls, scale))
    except BenchError as error:
        result.error = str(error)
        say(f"{result.backend}, {result.calls} calls: {error}")
