"""The picture is well-formed XML with a bar for each figure."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from mediaproxy.bench.plot import _nice_step, draw_svg, save_plot
from mediaproxy.bench.results import Result, Results
from tests.unit.bench.fakes import sample, some_results

SVG = "{http://www.w3.org/2000/svg}"


def test_plot_has_a_bar_for_each_figure_with_its_value() -> None:
    root = ElementTree.fromstring(draw_svg(some_results()))
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles.count("tc, 10 calls: 1,500") == 1
    assert titles.count("null, 10 calls: 1,000") == 1
    assert titles.count("tc, 10 calls: 500,000") == 1
    assert not [title for title in titles if title and title.startswith("tc, 1000")]


def test_plot_bars_stay_inside_the_picture() -> None:
    root = ElementTree.fromstring(draw_svg(some_results()))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for bar in root.iter(f"{SVG}rect"):
        x, y = float(bar.get("x", 0)), float(bar.get("y", 0))
        assert 0 <= x <= x + float(bar.attrib["width"]) <= width
        assert 0 <= y <= y + float(bar.attrib["height"]) <= height


@pytest.mark.parametrize("results", [Results([]), Results([Result("<x>", 10, [], "no")])])
def test_plot_without_figures_is_still_a_picture(results: Results, tmp_path: Path) -> None:
    save_plot(tmp_path / "x.svg", results)
    ElementTree.fromstring((tmp_path / "x.svg").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("highest", "step"), [(0, 1), (5, 1), (6, 2), (11, 5), (1500, 500), (2600, 1000)])
def test_nice_step_covers_the_axis_with_five(highest: float, step: float) -> None:
    assert _nice_step(highest) == step


def test_plot_one_sample_alone_fills_its_axis() -> None:
    root = ElementTree.fromstring(draw_svg(Results([Result("tc", 10, [sample(2500.0)])])))
    tallest = max(float(bar.attrib["height"]) for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None)
    assert tallest == 210.0
