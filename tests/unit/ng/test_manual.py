from __future__ import annotations

from pathlib import Path

from mediaproxy.ng.manual import options_markdown
from mediaproxy.ng.options import FLAG_WORDS, KEYS, REPLACE_WORDS


def test_manual_names_every_key_and_word() -> None:
    page = options_markdown()
    for name in (*(key.name for key in KEYS), *(word.name for word in (*FLAG_WORDS, *REPLACE_WORDS))):
        assert f"| `{name}` |" in page


def test_manual_has_even_tables() -> None:
    width = None
    for line in options_markdown().splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = line.replace("\\|", "").count("|")
        assert width in {None, cells}
        width = cells


def test_page_in_docs_is_the_printed_one() -> None:
    page = Path(__file__).parents[3] / "docs" / "ng-options.md"
    assert page.read_text(encoding="utf-8") == options_markdown(), (
        "run: .venv/bin/python -m mediaproxy.ng.manual > docs/ng-options.md"
    )
