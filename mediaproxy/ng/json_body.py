"""JSON as the other encoding of the same dictionaries: text and ``true`` become the byte strings and 1 of bencode."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mediaproxy.errors import PayloadError
from mediaproxy.ng.bencode import MAX_DEPTH, MAX_ELEMENTS
from mediaproxy.ng.message import Dictionary, NgReplyValue, NgValue

_Json: TypeAlias = "str | int | float | list[_Json] | dict[str, _Json] | None"

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def decode(data: bytes) -> Dictionary:
    """Decode one JSON object; of a key that occurs twice the last value counts.

    Numbers that are no integers become their text, as in bencode, which has no others (reference A.4).

    Raises:
        PayloadError: not JSON, not an object, or too deep or too large (the limits of ``mediaproxy.ng.bencode``).
    """
    try:
        document: _Json = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("Failed to parse JSON document", str(error)) from error
    if not isinstance(document, dict):
        raise PayloadError("Could not decode JSON dictionary")
    return _Reader().dictionary(document, 1)


class _Reader:
    """Turns one document into bencode's types, and counts what it is made of."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_ELEMENTS

    def dictionary(self, value: dict[str, _Json], depth: int) -> Dictionary:
        self._take(2 * len(value), depth)
        return Dictionary((key.encode(), self._value(item, depth)) for key, item in value.items())

    def _value(self, value: _Json, depth: int) -> NgValue:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            return self.dictionary(value, depth + 1)
        if isinstance(value, list):
            self._take(len(value), depth + 1)
            return [self._value(item, depth + 1) for item in value]
        if isinstance(value, float):
            return repr(value).encode()
        return None if value is None else int(value)

    def _take(self, elements: int, depth: int) -> None:
        self._left -= elements
        if self._left < 0 or depth > MAX_DEPTH:
            raise PayloadError("Could not decode JSON dictionary", "nested too deeply, or too many elements")


def encode(value: NgReplyValue) -> bytes:
    """Encode compactly, in insertion order; bytes that are no UTF-8 become U+FFFD, as JSON can't carry them."""
    return _encoder.encode(_printable(value))


def _printable(value: NgReplyValue) -> _Json:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_text(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def _text(value: str) -> str:
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
