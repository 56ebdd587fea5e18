"""The results as a table for people and as JSON for the next comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediaproxy.bench.results import Result, Results

METHOD: Final = (
    "generator - relay - sink in three network namespaces; 172-byte RTP both ways, all calls in turn, bursts of 16",
    "relay and its receive path alone on one core, generator and sink on another; candidates in turns, medians",
    "CPU: exact (schedstat) of the threads that receive and relay / packets that came out; at the highest loss-free"
    " rate, kernel paths also flat out: the better counts",
    "max pps: less than 0.1 % lost and 99 % out within 50 ms, both directions together",
    "latency: from sending to the sink, packets sent one by one, each waking the sink; beyond null: added",
)


def _number(value: float | None, form: str = "{:,.0f}") -> str:
    return "-" if value is None else form.format(value)


def _percentiles(values: Mapping[str, float | None]) -> str:
    return " / ".join(_number(value) for value in values.values())


def _row(results: Results, result: Result) -> list[str]:
    if result.error:
        return [result.backend, result.error]
    limited = " *" if result.generator_limited and result.max_pps is not None else ""
    return [
        result.backend,
        _number(result.ns_per_packet),
        _number(results.extra_ns(result)),
        _number(1e9 / result.ns_per_packet if result.ns_per_packet else None),
        _number(result.max_pps) + limited,
        _number(result.ns_per_packet_fixed),
        _percentiles(result.latency_us),
        _percentiles(results.added_latency_us(result)),
        _number(result.setup_per_s),
    ]


def print_results(console: Console, results: Results) -> None:
    """One table for each number of calls, and the method."""
    for calls in dict.fromkeys(result.calls for result in results.all):
        mine = [result for result in results.all if result.calls == calls]
        table = Table(title=f"{calls:,} calls", title_justify="left")
        table.add_column("backend")
        for column in (
            "CPU ns/packet",
            "beyond null",
            "packets/s per core",
            "max packets/s",
            "ns/packet at the fixed rate",
            "latency p50/p99/p99.9 us",
            "added us",
            "flows set/s",
        ):
            table.add_column(column, justify="right")
        for result in mine:
            if not result.error:
                table.add_row(*(Text(cell) for cell in _row(results, result)))
        console.print(table)
        for result in mine:
            for note in [*result.notes, *([result.error] if result.error else [])]:
                console.print(Text(f"  {result.backend}: {note}"), soft_wrap=True)
    if results.program_ns is not None:
        console.print(f"the tc program by itself: {results.program_ns:,.0f} ns a packet (BPF_PROG_TEST_RUN)")
    if any(result.generator_limited for result in results.all):
        console.print("* the generator was the limit, not the relay: a lower bound")
    for line in METHOD:
        console.print(Text(line), soft_wrap=True)


def save_json(path: Path, results: Results, machine: Mapping[str, object]) -> None:
    """Write ``results`` (one object per measurement), the machine and the method.

    Raises:
        OSError: it can't be written.
    """
    document: dict[str, object] = {"schema": 1, "machine": machine, "method": METHOD, "program_ns": results.program_ns}
    document["results"] = results.as_json()
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")
