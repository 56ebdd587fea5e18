"""``make bench``: set-up rate, latency beside media, relay throughput and memory, ours and Debian's rtpengine in turn.

Needs root (namespaces) and two cores. Everything happens in two namespaces that are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from mediaproxy.bench.daemons import DaemonUnderTest
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.machine import describe_machine
from mediaproxy.bench.report import METHOD as KERNEL_METHOD
from mediaproxy.bench.report import print_results
from tests.perf.build import CACHE, build_generator
from tests.perf.daemons import DAEMONS
from tests.perf.kernel_rows import judge_kernel_paths, measure_kernel_paths
from tests.perf.measure_latency import measure_latency
from tests.perf.measure_memory import measure_capacity, measure_memory
from tests.perf.measure_relay import measure_relay
from tests.perf.measure_setup import measure_setup
from tests.perf.report import METHOD, judge, print_report, save_report
from tests.perf.samples import Row, Sample
from tests.perf.scale import FULL, QUICK, Scale

Measure = Callable[[DaemonUnderTest, Scale], Sample]


def _relay_with(calls: int) -> Measure:
    return lambda daemon, scale: measure_relay(daemon, scale, calls)


def _plan(scale: Scale, only: Sequence[str]) -> list[tuple[str, Measure, int]]:
    """The measurements in order: name, how, repetitions."""
    plan: list[tuple[str, Measure, int]] = [
        ("setup", measure_setup, scale.repetitions),
        ("latency", measure_latency, scale.repetitions),
        *((f"relay-{calls}", _relay_with(calls), scale.repetitions) for calls in scale.relay_calls),
        ("memory", measure_memory, 1),
    ]
    if scale.capacity:
        plan.append(("capacity", measure_capacity, 1))
    return [entry for entry in plan if not only or entry[0].partition("-")[0] in only]


def _measure_all(
    daemons: Sequence[DaemonUnderTest], scale: Scale, only: Sequence[str], say: Callable[[str], None]
) -> list[Row]:
    rows: list[Row] = []
    for name, measure, repetitions in _plan(scale, only):
        pending = [Row(name, daemon.name) for daemon in daemons]
        rows += pending
        for repetition in range(repetitions):
            pairs = list(zip(daemons, pending, strict=True))
            # Who comes first changes, so that a slow drift of the machine favours nobody.
            for daemon, row in pairs if repetition % 2 == 0 else reversed(pairs):
                if row.error:
                    continue
                say(f"{name}: {daemon.name}, {repetition + 1} of {repetitions}")
                try:
                    row.samples.append(measure(daemon, scale))
                except BenchError as error:
                    row.error = str(error)
                    say(f"{name}: {daemon.name}: {error}")
    return rows


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every row briefly, without judging (below 60 s)")
    parser.add_argument("--out", type=Path, help="where the JSON goes (default: a new file under .cache/bench/)")
    parser.add_argument("--daemons", default=",".join(DAEMONS), help="which to measure, comma-separated")
    parser.add_argument("--only", default="", help="setup, latency, relay, memory, capacity, kernel; comma-separated")
    parser.add_argument("--calls", default="", help="numbers of calls for the relay rows, comma-separated")
    parser.add_argument("--repetitions", type=int, help="of each measurement but memory")
    parser.add_argument("--threads", type=int, default=1, help="--num-threads of both daemons (default: 1)")
    parser.add_argument("--relay-cpu", type=int, default=1, help="the core of the daemon")
    parser.add_argument("--load-cpu", type=int, default=0, help="the core of generators and sink")
    return parser.parse_args(argv)


def _scale_of(arguments: argparse.Namespace) -> Scale:
    scale = QUICK if arguments.quick else FULL
    if arguments.calls:
        scale = replace(scale, relay_calls=tuple(int(word) for word in arguments.calls.split(",")))
    if arguments.repetitions:
        scale = replace(scale, repetitions=arguments.repetitions)
    return scale


def _refusal(arguments: argparse.Namespace) -> str:
    """Why the benchmark can't run here; empty where it can."""
    if os.geteuid() != 0:
        return "make bench needs root: it makes network namespaces and pins threads"
    missing = {arguments.relay_cpu, arguments.load_cpu} - os.sched_getaffinity(0)
    if missing:
        return f"make bench needs two cores: there is no CPU {', '.join(map(str, sorted(missing)))}"
    if arguments.relay_cpu == arguments.load_cpu:
        return "the daemon and the generators need a core each"
    unknown = set(arguments.daemons.split(",")) - set(DAEMONS)
    return f"unknown daemon: {', '.join(sorted(unknown))}" if unknown else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 when every row has figures, 1 when one failed, 2 when it can't run here."""
    arguments = _arguments(argv)
    refusal = _refusal(arguments)
    if refusal:
        print(refusal, file=sys.stderr)
        return 2
    scale = _scale_of(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that daemons and namespaces go as after Ctrl-C
    console = Console(width=max(110, Console().width))
    progress = Console(stderr=True)
    only = [word for word in arguments.only.split(",") if word]

    def say(text: str) -> None:
        progress.print(text, highlight=False, markup=False)

    machine = describe_machine()
    try:
        build_generator("ng_load")
        with Lab(arguments.relay_cpu, arguments.load_cpu) as lab:
            daemons = [DAEMONS[name](lab, arguments.threads) for name in arguments.daemons.split(",")]
            commands = {f"{daemon.name} command": daemon.printed_command_line() for daemon in daemons}
            versions = {f"{daemon.name} version": daemon.version() for daemon in daemons}
            rows = _measure_all(daemons, scale, only, say)
        kernel = None
        if not only or "kernel" in only:
            kernel = measure_kernel_paths(
                quick=arguments.quick,
                repetitions=scale.repetitions,
                relay_cpu=arguments.relay_cpu,
                load_cpu=arguments.load_cpu,
                say=say,
            )
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    for daemon in daemons:
        if (now := daemon.version()) != versions[f"{daemon.name} version"]:
            versions[f"{daemon.name} version at the end"] = f"{now}: it changed during the run, the figures are mixed"
    machine["load_average_after"] = [round(value, 2) for value in os.getloadavg()]
    head: dict[str, object] = {
        "machine": machine,
        "versions": versions,
        "command_lines": commands,
        "method": METHOD,
        "threads": arguments.threads,
        "quick": arguments.quick,
        "scale": asdict(scale),
    }
    aims = judge(rows, judged=not arguments.quick)
    if kernel is not None:
        aims += judge_kernel_paths(kernel, judged=not arguments.quick)
        head["kernel_method"] = KERNEL_METHOD
    out: Path = arguments.out or CACHE / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    save_report(out, head | ({"kernel": kernel.as_json()} if kernel else {}), rows, aims)
    if kernel is not None:
        print_results(console, kernel)
    print_report(console, {key: head[key] for key in ("machine", "versions", "command_lines", "method")}, rows, aims)
    console.print(f"saved: {out}", soft_wrap=True)
    return 1 if any(row.error for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
