"""Puts a request together from what the user typed; every key and flag of ng can be expressed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mediaproxy.cli.ng_client import NgValue
from mediaproxy.errors import MediaProxyError


class UsageError(MediaProxyError):
    """What the user typed makes no request."""


@dataclass(frozen=True, slots=True)
class AnyKeys:
    """The options that take any ng key, as typed: ``NAME=VALUE`` each."""

    texts: Sequence[str] = ()
    numbers: Sequence[str] = ()
    lists: Sequence[str] = ()
    dictionaries: Sequence[str] = ()
    flags: Sequence[str] = ()
    documents: Sequence[str] = ()


@dataclass(slots=True)
class RequestBuilder:
    """Collects keys in order; ``build`` puts ``command`` in front."""

    command: str
    keys: dict[str, NgValue] = field(default_factory=dict)

    def put(self, name: str, value: NgValue | None) -> None:
        """Set a key; ``None`` and an empty list leave it out."""
        if value is not None and value != []:
            self.keys[name] = value

    def extend(self, name: str, words: Iterable[str]) -> None:
        """Add to a list, which is made if it isn't there."""
        present = self.keys.get(name)
        known: list[NgValue] = present if isinstance(present, list) else []
        self.put(name, [*known, *words])

    def put_any(self, options: AnyKeys) -> None:
        """Add what the options for any key say; they override the ones by name, lists add up.

        Raises:
            UsageError: one has not the form NAME=VALUE, or not the right kind of value.
        """
        for text in options.texts:
            self.put(*_split("--key", text))
        for text in options.numbers:
            name, value = _split("--int", text)
            try:
                self.put(name, int(value))
            except ValueError:
                raise UsageError(f"--int {text}: {value!r} is no integer") from None
        for text in options.lists:
            name, value = _split("--list", text)
            self.extend(name, split_words([value]))
        for text in options.dictionaries:
            name, value = _split("--dict", text)
            self.put(name, _read_dictionary(text, value))
        for text in options.documents:
            name, value = _split("--json-key", text)
            self.keys[name] = _read_json("--json-key", text, value)
        self.extend("flags", options.flags)

    def build(self) -> dict[str, NgValue]:
        """The request."""
        return {"command": self.command} | self.keys


def split_words(texts: Iterable[str]) -> list[str]:
    """The words of options that may be repeated or hold several with commas."""
    return [word for text in texts for word in text.split(",") if word]


def read_sdp(source: str) -> bytes:
    """Read a body, unchanged.

    Args:
        source: file name, or ``-`` for standard input.
    Raises:
        UsageError: it can't be read.
    """
    if source == "-" and sys.stdin is None:
        raise UsageError("--sdp -: there is no standard input")
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UsageError(f"--sdp {source}: {error.strerror}") from error


def _split(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{option} {text}: expected NAME=VALUE")
    return name, value


def _read_dictionary(text: str, value: str) -> NgValue:
    parsed = _read_json("--dict", text, value)
    if not isinstance(parsed, dict):
        raise UsageError(f"--dict {text}: expected a JSON object")
    return parsed


def _read_json(option: str, text: str, value: str) -> NgValue:
    try:
        parsed = json.loads(value, parse_float=str)
        return _without_foreign_types(f"{option} {text}", parsed)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} {text}: no JSON: {error}") from error


def _without_foreign_types(text: str, value: object) -> NgValue:
    """Bencode has neither truth values nor nothing: the former are 1 and 0."""
    if isinstance(value, dict):
        return {str(key): _without_foreign_types(text, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_foreign_types(text, item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return value
    raise UsageError(f"{text}: null can't be sent")
