"""The results as one picture: CPU per packet and highest rate, a group of bars for each backend (SVG 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from mediaproxy.bench.results import Result, Results

_COLOURS: Final = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")
_WIDTH: Final = 960
_PANEL: Final = 300
_LEFT: Final = 90
_TOP: Final = 50
_BOTTOM: Final = 40
_MARGIN: Final = 20
_TICKS: Final = 5


def _nice_step(highest: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most ``_TICKS`` + 1 of it cover the axis."""
    step = 1.0
    while True:
        for factor in (1, 2, 5):
            if step * factor * _TICKS >= highest:
                return step * factor
        step *= 10


def _text(x: float, y: float, text: str, *, anchor: str = "middle", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'


def _panel(top: float, title: str, results: Results, figure: Callable[[Result], float | None]) -> list[str]:
    backends = list(dict.fromkeys(result.backend for result in results.all))
    calls = list(dict.fromkeys(result.calls for result in results.all))
    highest = max((figure(result) or 0 for result in results.all), default=0)
    step = _nice_step(highest)
    height = _PANEL - _TOP - _BOTTOM
    floor = top + _TOP + height
    scale = height / (step * _TICKS)
    lines = [_text(_LEFT, top + _TOP - 20, title, anchor="start", size=15)]
    for tick in range(_TICKS + 1):
        y = floor - tick * step * scale
        lines.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _MARGIN}" y2="{y:.1f}" stroke="#ddd"/>')
        lines.append(_text(_LEFT - 8, y + 4, f"{tick * step:,.0f}", anchor="end"))
    group = (_WIDTH - _LEFT - _MARGIN) / max(len(backends), 1)
    bar = 0.8 * group / max(len(calls), 1)
    for place, backend in enumerate(backends):
        left = _LEFT + place * group + 0.1 * group
        lines.append(_text(_LEFT + (place + 0.5) * group, floor + 18, backend))
        for number, count in enumerate(calls):
            result = results.find(backend, count)
            value = figure(result) if result else None
            if value is None:
                lines.append(_text(left + (number + 0.5) * bar, floor - 4, "-"))
                continue
            tall = value * scale
            lines.append(
                f'<rect x="{left + number * bar:.1f}" y="{floor - tall:.1f}" width="{bar * 0.92:.1f}" '
                f'height="{tall:.1f}" fill="{_COLOURS[number % len(_COLOURS)]}"><title>'
                f"{escape(backend)}, {count} calls: {value:,.0f}</title></rect>"
            )
    return lines


def _legend(calls: Sequence[int]) -> list[str]:
    lines = []
    for number, count in enumerate(calls):
        x = _LEFT + 130 * number
        lines.append(f'<rect x="{x}" y="12" width="14" height="14" fill="{_COLOURS[number % len(_COLOURS)]}"/>')
        lines.append(_text(x + 20, 24, f"{count:,} calls", anchor="start"))
    return lines


def draw_svg(results: Results) -> str:
    """The picture as an SVG document."""
    calls = list(dict.fromkeys(result.calls for result in results.all))
    body = [
        *_legend(calls),
        *_panel(20, "CPU per packet, ns (less is better)", results, lambda result: result.ns_per_packet),
        *_panel(20 + _PANEL, "highest loss-free rate, packets/s", results, lambda result: result.max_pps),
    ]
    height = 20 + 2 * _PANEL
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            *body,
            "</svg>\n",
        ]
    )


def save_plot(path: Path, results: Results) -> None:
    """Write the picture.

    Raises:
        OSError: it can't be written.
    """
    path.write_text(draw_svg(results), encoding="utf-8")
