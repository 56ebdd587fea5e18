"""Tables and files."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from mediaproxy.bench.report import print_results, save_json
from tests.unit.bench.fakes import some_results


def test_table_says_figures_reasons_and_limits() -> None:
    out = io.StringIO()
    print_results(Console(file=out, width=200), some_results())
    text = out.getvalue()
    assert "1,500" in text
    assert "666,667" in text  # packets a second of one core
    assert "500,000 *" in text
    assert "the generator was the limit" in text
    assert "tc: not possible here: <no> BPF" in text


def test_json_file_has_results_and_machine(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    save_json(path, some_results(), {"cpu": "x"})
    document = json.loads(path.read_text())
    assert document["machine"] == {"cpu": "x"}
    assert len(document["results"]) == 4
    assert document["method"]
