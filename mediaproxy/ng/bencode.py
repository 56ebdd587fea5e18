"""Bencode as ng peers write it: a tolerant decoder, and an encoder that keeps the order of its input.

Why this is not the bencode.py library, which ``ng-control`` uses and which the property tests compare with: it sorts
the keys that it writes, merges keys that occur twice (ng has rules for them: the first ``command`` counts, the last of
any other key), and refuses what ng servers have always accepted (reference A.4): bytes after the dictionary, the final
``e`` missing, leading zeros in integers. For every canonical value both agree.
"""

from __future__ import annotations

from typing import Final, cast

from mediaproxy.errors import PayloadError
from mediaproxy.ng.message import Dictionary, NgReplyValue, NgValue

MAX_DEPTH: Final = 32
"""Containers within containers; the deepest request that means something has four (``sdp-attr``)."""

MAX_ELEMENTS: Final = 16_384
"""Strings (keys included), integers and containers in one message: bounds what 64 KiB of ``0:`` can ask for."""

_MAX_INTEGER_TEXT: Final = 64
_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**63 - 1
_MAX_LENGTH_DIGITS: Final = 9
_LENGTHS: Final = {str(length).encode(): length for length in range(2048)}
"""The usual string prefixes: one look-up instead of a check for digits, one for leading zeros and a conversion."""

_ZERO: Final = ord("0")
_NINE: Final = ord("9")
_INTEGER: Final = ord("i")
_LIST: Final = ord("l")
_DICTIONARY: Final = ord("d")
_END: Final = ord("e")


def decode(data: bytes) -> Dictionary:  # noqa: PLR0915  # a call per element would cost as much as the element
    """Decode the dictionary at the beginning of ``data``; what follows it is ignored.

    Args:
        data: begins with ``d``; the ``e`` that ends this outermost dictionary may be missing at the end of the data.
    Raises:
        PayloadError: anything else, or more than ``MAX_DEPTH`` levels or ``MAX_ELEMENTS`` elements.
    """
    if data[:1] != b"d":
        raise _refusal("not a dictionary")
    # One loop with a stack of its own: no call per element, and depth costs no recursion. A dictionary is collected
    # as key, value, key, value, ... and paired when it ends.
    items: list[NgValue] = []
    is_dictionary = True
    stack: list[tuple[list[NgValue], bool]] = []
    append = items.append
    find = data.find
    lengths = _LENGTHS
    size = len(data)
    position = 1
    elements = 0
    while position < size:
        byte = data[position]
        if _ZERO <= byte <= _NINE:
            colon = find(b":", position, position + _MAX_LENGTH_DIGITS + 1)
            digits = data[position:colon]
            length = lengths.get(digits, -1)
            if length < 0:
                length = _long_length(digits)
            begin = colon + 1
            position = begin + length
            if colon < 0 or position > size:
                raise _refusal("a string that ends nowhere")
            append(data[begin:position])
        elif byte == _END:
            value: NgValue = _pair_up(items) if is_dictionary else items
            if not stack:
                return cast(Dictionary, value)
            items, is_dictionary = stack.pop()
            append = items.append
            append(value)
            position += 1
            continue  # it was counted when it began
        elif byte == _INTEGER:
            end = find(b"e", position + 1, position + _MAX_INTEGER_TEXT)
            if end < 0:
                raise _refusal("an integer that ends nowhere")
            append(_integer(data[position + 1 : end]))
            position = end + 1
        elif byte in {_LIST, _DICTIONARY}:
            stack.append((items, is_dictionary))
            if len(stack) >= MAX_DEPTH:
                raise _refusal("nested too deeply")
            items = []
            is_dictionary = byte == _DICTIONARY
            append = items.append
            position += 1
        else:
            raise _refusal("an unknown type")
        elements += 1
        if elements > MAX_ELEMENTS:
            raise _refusal("too many elements")
    if stack:
        raise _refusal("ends in the middle")
    return _pair_up(items)


def encode(value: NgReplyValue) -> bytes:
    """Encode, dictionaries in insertion order.

    Args:
        value: strings are written as UTF-8, what ``surrogateescape`` has kept of other bytes as those bytes.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: NgReplyValue, parts: list[bytes]) -> None:
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        parts.append(b"%d:%b" % (len(raw), raw))
    elif isinstance(value, int):
        parts.append(b"i%de" % value)
    elif isinstance(value, dict):
        parts.append(b"d")
        for key, item in value.items():
            raw = key.encode("utf-8", "surrogateescape")
            parts.append(b"%d:%b" % (len(raw), raw))
            _write(item, parts)
        parts.append(b"e")
    elif isinstance(value, bytes):
        parts.append(b"%d:%b" % (len(value), value))
    else:
        parts.append(b"l")
        for item in value:
            _write(item, parts)
        parts.append(b"e")


def _pair_up(items: list[NgValue]) -> Dictionary:
    keys = items[::2]
    if len(items) % 2:
        raise _refusal("a key without a value")
    for key in keys:
        if type(key) is not bytes:
            raise _refusal("a key that is no string")
    return Dictionary(zip(cast("list[bytes]", keys), items[1::2], strict=True))


def _long_length(digits: bytes) -> int:
    """The length before a colon where the table has none: a long string, or a mistake."""
    if not digits.isdigit() or digits[0] == _ZERO:
        raise _refusal("a string with a bad length")
    return int(digits)


def _integer(text: bytes) -> int:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        raise _refusal("a bad integer")
    value = int(text)
    if not _INTEGER_MIN <= value <= _INTEGER_MAX:
        raise _refusal("an integer of more than 64 bits")
    return value


def _refusal(detail: str) -> PayloadError:
    return PayloadError("Could not decode bencode dictionary", detail)
