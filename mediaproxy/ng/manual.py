"""Prints the tables of ``mediaproxy.ng.options`` for people: ``python -m mediaproxy.ng.manual``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mediaproxy.ng.options import (
    DTLS_WORDS,
    ENDPOINT_LEARNING_WORDS,
    FLAG_WORDS,
    ICE_WORDS,
    KEYS,
    REPLACE_WORDS,
    RTCP_MUX_WORDS,
    SDES_WORDS,
    Key,
    Word,
)

_INTRODUCTION: Final = """\
# Keys and words of the ng protocol

Printed by `python -m mediaproxy.ng.manual` from the tables that requests are read with.

Capital and small letters, hyphens, spaces and underscores are alike in keys and words: `call-id`, `call-ID` and
`call_id` are one key. An integer may be sent as a decimal string, a list as one string with commas. Whatever is not
listed here is ignored, and logged once.
"""

_WORD_LISTS: Final[Sequence[tuple[str, Sequence[Word]]]] = (
    ("replace", REPLACE_WORDS),
    ("rtcp-mux", RTCP_MUX_WORDS),
    ("endpoint-learning", ENDPOINT_LEARNING_WORDS),
    ("ice", ICE_WORDS),
    ("dtls", DTLS_WORDS),
    ("sdes", SDES_WORDS),
)


def options_markdown() -> str:
    """All keys, flags and words that requests may have, as one Markdown page."""
    lines = [_INTRODUCTION, "## Keys", ""]
    lines += _table(
        ("key", "also", "value", "effect"),
        ((_code(key.name), _codes(key.spellings), _form(key), key.doc) for key in KEYS),
    )
    lines += ["", "## Words of `flags`", ""]
    lines += _table(("word", "effect"), ((_code(word.name), _effect(word)) for word in FLAG_WORDS))
    lines += ["", "A word of `flags` may also carry a word of another list:", ""]
    lines += [f"* `{key.name}-WORD`: as WORD in `{key.name}`" for key in KEYS if key.prefix]
    for name, words in _WORD_LISTS:
        lines += ["", f"## Words of `{name}`", ""]
        rows = ((_code(word.name), _codes(word.spellings), _effect(word)) for word in words)
        lines += _table(("word", "also", "effect"), rows)
        if name == "sdes":
            lines += ["", "Further `no-SUITE`, `only-SUITE`, `order:SUITE;SUITE;` and `offerer_pref:SUITE;SUITE;`."]
    return "\n".join(lines) + "\n"


def _effect(word: Word) -> str:
    return word.doc if word.meaning is not None else f"no effect: {word.doc}"


def _form(key: Key) -> str:
    return key.form if key.max_bytes is None else f"{key.form}, at most {key.max_bytes} bytes"


def _code(text: str) -> str:
    return f"`{text}`"


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(_code(text) for text in texts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


if __name__ == "__main__":
    print(options_markdown(), end="")
