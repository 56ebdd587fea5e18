"""The figures as tables for people and as JSON for the next comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.perf.samples import Row

OURS: Final = "mediaproxy"
THEIRS: Final = "rtpengine"

METHOD: Final = (
    "daemon alone on its core at nice -19; generator and sink on the other core",
    "CPU: schedstat of all threads of the daemon plus the NAPI threads that receive for it (softirq included) / packets"
    " that came out",
    "loss-free: less than 0.1 % lost, counted at the sink packet by packet; of two tries at a rate the better counts",
    "sustained: loss-free and 99 % out within 50 ms (the buffers of many sockets hide an overload from the losses)",
    "repetitions interleaved, a fresh daemon for each; figures are medians",
)

LABELS: Final[Mapping[str, Sequence[tuple[str, str, str]]]] = {
    # measurement -> (figure, label, format)
    "setup": (
        ("cycles_per_s", "offer+answer+delete cycles/s, one core", "{:,.0f}"),
        ("cpu_us_per_cycle", "CPU per cycle, us", "{:,.0f}"),
        ("daemon_core_share", "the daemon's share of its core", "{:.0%}"),
        ("flat_offer_p50_ms", "offer p50 flat out, ms", "{:.2f}"),
        ("flat_offer_p99_ms", "offer p99 flat out, ms", "{:.2f}"),
        ("single_offer_p50_ms", "offer p50, one call at a time, ms", "{:.2f}"),
        ("single_offer_p99_ms", "offer p99", "{:.2f}"),
        ("single_answer_p50_ms", "answer p50", "{:.2f}"),
        ("single_answer_p99_ms", "answer p99", "{:.2f}"),
        ("single_delete_p50_ms", "delete p50", "{:.2f}"),
        ("single_delete_p99_ms", "delete p99", "{:.2f}"),
        ("descriptors_left", "descriptors left over", "{:.0f}"),
    ),
    "latency": (
        ("offer_p50_ms", "offer p50, ms", "{:.2f}"),
        ("offer_p99_ms", "offer p99, ms", "{:.2f}"),
        ("offer_max_ms", "offer maximum, ms", "{:.2f}"),
        ("answer_p99_ms", "answer p99, ms", "{:.2f}"),
        ("delete_p99_ms", "delete p99, ms", "{:.2f}"),
        ("offers", "offers timed (each repetition)", "{:.0f}"),
        ("media_pps", "media meanwhile, packets/s", "{:,.0f}"),
        ("media_loss_percent", "media lost meanwhile, %", "{:.3f}"),
        ("media_p99_us", "media delay p99, us", "{:,.0f}"),
    ),
    "relay": (
        ("calls", "calls, all carrying media", "{:,.0f}"),
        ("kib_per_call", "resident memory per call with media, KiB", "{:.1f}"),
        ("descriptors_per_call", "descriptors per call with media", "{:.2f}"),
        ("loss_free_pps", "highest loss-free rate, packets/s", "{:,.0f}"),
        ("loss_free_p99_us", "delay there p99, us", "{:,.0f}"),
        ("ns_per_packet", "CPU per packet there, ns", "{:,.0f}"),
        ("daemon_ns_per_packet", "  of it in the daemon's threads, ns", "{:,.0f}"),
        ("packets_per_core", "packets/s per core there (1e9 / ns)", "{:,.0f}"),
        ("sustained_pps", "highest sustained rate, packets/s", "{:,.0f}"),
        ("sustained_ns_per_packet", "CPU per packet there, ns", "{:,.0f}"),
        ("sustained_packets_per_core", "packets/s per core there", "{:,.0f}"),
        ("fixed_ns_per_packet", "CPU per packet at the fixed rate, ns", "{:,.0f}"),
        ("fixed_loss_percent", "loss at the fixed rate, %", "{:.3f}"),
        ("media_p50_us", "delay at the fixed rate p50, us", "{:,.0f}"),
        ("media_p99_us", "delay at the fixed rate p99, us", "{:,.0f}"),
        ("restarts", "times an overload broke it for good", "{:.1f}"),
        ("reordered", "packets out of order", "{:.0f}"),
    ),
    "memory": (
        ("calls", "calls up", "{:,.0f}"),
        ("kib_per_call", "resident memory per call, KiB", "{:.1f}"),
        ("descriptors_per_call", "descriptors per call", "{:.2f}"),
        ("rss_empty_mib", "resident without calls, MiB", "{:.1f}"),
        ("rss_full_mib", "resident with all calls, MiB", "{:.1f}"),
        ("rss_after_mib", "resident after all were deleted, MiB", "{:.1f}"),
        ("rss_second_round_kib", "growth per call in a second round, KiB", "{:.2f}"),
        ("descriptors_left", "descriptors left over", "{:.0f}"),
    ),
    "capacity": (
        ("calls", "calls until one is refused", "{:,.0f}"),
        ("descriptors", "descriptors open then", "{:,.0f}"),
        ("kib_per_call", "resident memory per call, KiB", "{:.1f}"),
    ),
}


@dataclass(frozen=True, slots=True)
class Aim:
    """What the project wants of a figure; ``met`` is ``None`` where it was not measured or is not judged."""

    name: str
    wanted: str
    figure: float | None
    met: bool | None


def kind_of(measurement: str) -> str:
    """``relay-1000`` -> ``relay``: the part of the name that has its labels in ``LABELS``."""
    return measurement.partition("-")[0]


def _median(rows: Sequence[Row], kind: str, daemon: str, figure: str) -> float | None:
    for row in rows:
        if kind_of(row.measurement) == kind and row.daemon == daemon and row.samples:
            return row.medians.get(figure)
    return None


def judge(rows: Sequence[Row], judged: bool) -> list[Aim]:
    """Compare with the aims; ``judged`` is false for the quick run, whose figures mean nothing."""
    cycles = _median(rows, "setup", OURS, "cycles_per_s")
    offer = _median(rows, "latency", OURS, "offer_p99_ms")
    memory = _median(rows, "memory", OURS, "kib_per_call")
    ours = _median(rows, "relay", OURS, "packets_per_core")
    theirs = _median(rows, "relay", THEIRS, "packets_per_core")
    ratio = ours / theirs if ours and theirs else None
    return [
        Aim(name, wanted, figure, None if figure is None or not judged else met)
        for name, wanted, figure, met in (
            ("cycles/s on one core", ">= 1000", cycles, cycles is not None and cycles >= 1000),
            ("p99 of offer beside 200 calls' media, ms", "< 10", offer, offer is not None and offer < 10),
            ("memory per call, KiB", "<= 40", memory, memory is not None and memory <= 40),
            ("packets per core, ours / rtpengine's", ">= 1.3", ratio, ratio is not None and ratio >= 1.3),
        )
    ]


def print_report(console: Console, head: Mapping[str, object], rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    """Print machine, method, command lines, one table per measurement, and the aims."""
    for key, value in head.items():
        if isinstance(value, Mapping):
            for name, text in value.items():
                console.print(f"[bold]{escape(str(name))}[/bold]: {escape(str(text))}", soft_wrap=True)
        elif isinstance(value, list | tuple):
            for text in value:
                console.print(f"{key}: {escape(str(text))}", soft_wrap=True)
        else:
            console.print(f"{key}: {escape(str(value))}", soft_wrap=True)
    daemons = list(dict.fromkeys(row.daemon for row in rows))
    for measurement in dict.fromkeys(row.measurement for row in rows):
        _print_measurement(console, measurement, [row for row in rows if row.measurement == measurement], daemons)
    table = Table(title="aims", title_justify="left")
    for column in ("aim", "wanted", "figure", ""):
        table.add_column(column)
    for aim in aims:
        verdict = {True: "[green]met[/green]", False: "[red]not met[/red]", None: "not judged"}[aim.met]
        table.add_row(aim.name, aim.wanted, "-" if aim.figure is None else f"{aim.figure:,.2f}", verdict)
    console.print(table)


def _print_measurement(console: Console, measurement: str, rows: Sequence[Row], daemons: Sequence[str]) -> None:
    by_daemon = {row.daemon: row for row in rows}
    both = OURS in daemons and THEIRS in daemons
    repetitions = max(len(row.samples) for row in rows)
    table = Table(title=f"{measurement} (median of {repetitions})", title_justify="left")
    table.add_column("figure")
    for name in daemons:
        table.add_column(name, justify="right")
    if both:
        table.add_column("ours / theirs", justify="right")
    for figure, label, form in LABELS[kind_of(measurement)]:
        values = {name: by_daemon[name].medians.get(figure) if name in by_daemon else None for name in daemons}
        cells = [_cell(values[name], form) for name in daemons]
        if both:
            ours, theirs = values[OURS], values[THEIRS]
            cells.append(f"{ours / theirs:.2f}" if ours is not None and theirs else "")
        table.add_row(label, *cells)
    console.print(table)
    for row in rows:
        for note in [*row.notes, *([row.error] if row.error else [])]:
            console.print(f"  {row.daemon}: {escape(note)}", soft_wrap=True)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def save_report(path: Path, head: Mapping[str, object], rows: Sequence[Row], aims: Sequence[Aim]) -> None:
    """Write everything, each repetition included, as one JSON object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": 1,
        **head,
        "rows": [row.as_json() for row in rows],
        "aims": [asdict(aim) for aim in aims],
    }
    path.write_text(json.dumps(document, indent=1, default=str) + "\n")
