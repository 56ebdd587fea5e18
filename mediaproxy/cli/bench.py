"""``mediaproxy bench``: its options, and what it prints and saves."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mediaproxy.errors import MediaProxyError

_WIDTH = 150
"""Narrower tables would break their figures over lines."""


def bench(
    backends: Annotated[str, typer.Option(help="Which to measure, comma-separated; default: all.")] = "",
    calls: Annotated[str, typer.Option(help="Numbers of calls, comma-separated.")] = "10,1000,10000",
    seconds: Annotated[float | None, typer.Option(help="Length of each step.")] = None,
    repetitions: Annotated[int, typer.Option(help="Of each measurement; figures are medians.")] = 3,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them into this file (.svg).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once and briefly: does it work?")] = False,
    relay_cpu: Annotated[int | None, typer.Option(help="Core of the relay; default: the last.")] = None,
    load_cpu: Annotated[int | None, typer.Option(help="Core of generator and sink; default: the first.")] = None,
) -> None:
    """Measure every way of relaying on this host: CPU per packet, highest rate, latency, set-up rate.

    Needs root and two cores. It works in three network namespaces of its own, which end with it.
    """
    from mediaproxy.bench import BACKENDS, BenchError, BenchOptions, run_bench  # noqa: PLC0415  # nobody else pays
    from mediaproxy.bench.machine import describe_machine  # noqa: PLC0415
    from mediaproxy.bench.plot import save_plot  # noqa: PLC0415
    from mediaproxy.bench.report import print_results, save_json  # noqa: PLC0415

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a daemon under test ends as after Ctrl-C
    progress = Console(stderr=True)
    try:
        if plot is not None and plot.suffix != ".svg":
            raise BenchError(f"--plot {plot}: plots are SVG, name it {plot.with_suffix('.svg')}")
        for option, path in (("--json", json), ("--plot", plot)):
            if path is not None and (path.is_dir() or not path.parent.is_dir()):  # not after 20 minutes
                raise BenchError(f"{option} {path}: no file can be written there")
        try:
            numbers = tuple(int(word) for word in calls.split(","))
        except ValueError:
            raise BenchError(f"--calls {calls}: expected numbers, such as 10,1000") from None
        options = BenchOptions(
            backends=tuple(name.strip() for name in backends.split(",")) if backends else tuple(BACKENDS),
            calls=numbers,
            repetitions=repetitions,
            seconds=seconds,
            quick=quick,
            relay_cpu=relay_cpu,
            load_cpu=load_cpu,
        )
        machine = describe_machine()
        results = run_bench(options, lambda text: progress.print(text, highlight=False, markup=False, soft_wrap=True))
        console = Console()
        print_results(console if console.width >= _WIDTH else Console(width=_WIDTH), results)
        if quick:
            console.print("--quick shows that everything works here; its figures, at a low rate, say little")
        if json is not None:
            save_json(json, results, machine)
        if plot is not None:
            save_plot(plot, results)
    except (MediaProxyError, OSError) as error:
        typer.echo(f"mediaproxy: {error}", err=True)
        raise typer.Exit(1) from error
