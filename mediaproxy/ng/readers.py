"""How one option's value is read from the wire (reference A.4), and how spellings are made alike.

A reader takes a decoded value and returns what the request's field shall hold. It never fails: ``None`` means that
nothing usable was given, and single words that it does not know are added to ``rejected``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias, TypeVar

from mediaproxy.net import AddressFamily, parse_address
from mediaproxy.ng.message import NgValue

Reader: TypeAlias = Callable[[NgValue, list[bytes]], object]

_T = TypeVar("_T")

_INTEGER_MIN: Final = -(2**63)
_INTEGER_MAX: Final = 2**63 - 1
_MAX_INTEGER_TEXT: Final = 32
_MAX_ADDRESS_TEXT: Final = 64
_SUITE_PREFIXES: Final = (b"no-", b"only-", b"order:", b"offerer-pref:")
_SEPARATORS: Final = bytes.maketrans(b" _", b"--")


class Direction(NamedTuple):
    """The list ``direction``: facing the sender of this SDP, and facing its receiver."""

    from_interface: str
    to_interface: str | None


def normalise(spelling: bytes) -> bytes:
    """Make the spellings of a key or word alike: lower case, hyphens for spaces and underscores; same length."""
    return spelling.lower().translate(_SEPARATORS)


def words_of(value: NgValue) -> list[bytes] | None:
    """A list's strings, or the parts of one string between its commas; ``None`` if it is neither."""
    if type(value) is list:
        return [word for word in value if type(word) is bytes]
    if type(value) is bytes:
        return [word for part in value.split(b",") if (word := part.strip())]
    return None


def to_text(value: bytes) -> str:
    """Bytes as text from which the same bytes can be had back."""
    return value.decode("utf-8", "surrogateescape")


def read_text(value: NgValue, _rejected: list[bytes]) -> str | None:
    """A string; an empty one counts as absent."""
    return value.decode("utf-8", "surrogateescape") if type(value) is bytes and value else None


def read_body(value: NgValue, _rejected: list[bytes]) -> bytes | None:
    """A string as it came, even if empty."""
    return value if type(value) is bytes else None


def read_integer(value: NgValue, _rejected: list[bytes]) -> int | None:
    """An integer, or a string that is one from end to end: decimal, or hexadecimal after ``0x``."""
    if type(value) is int:
        return value if _INTEGER_MIN <= value <= _INTEGER_MAX else None
    if type(value) is not bytes or len(value) > _MAX_INTEGER_TEXT:
        return None
    digits = value[1:] if value[:1] == b"-" else value
    # isalnum: int() would also take "1_0" and surrounding blanks.
    if not digits.isalnum():
        return None
    try:
        number = int(value, 16 if digits[:2].lower() == b"0x" else 10)
    except ValueError:
        return None
    return number if _INTEGER_MIN <= number <= _INTEGER_MAX else None


def read_natural(value: NgValue, rejected: list[bytes]) -> int | None:
    """An integer that is not negative."""
    number = read_integer(value, rejected)
    return number if number is not None and number >= 0 else None


def read_tos(value: NgValue, rejected: list[bytes]) -> int | None:
    """A TOS byte: 0..255, -1 for any negative number, ``None`` beyond."""
    number = read_integer(value, rejected)
    return None if number is None or number > 255 else max(number, -1)


def read_address(value: NgValue, _rejected: list[bytes]) -> str | None:
    """An IP address in canonical form."""
    if type(value) is not bytes or len(value) > _MAX_ADDRESS_TEXT:
        return None
    try:
        return parse_address(value.decode("ascii"))[0]
    except ValueError:
        return None


def read_family(value: NgValue, _rejected: list[bytes]) -> AddressFamily | None:
    """``IP4`` or ``IP6`` in any case."""
    if type(value) is bytes:
        word = value.upper()
        for family in AddressFamily:
            if family.value.encode() == word:
                return family
    return None


def read_received_from(value: NgValue, rejected: list[bytes]) -> str | None:
    """``[IP4|IP6, ADDRESS]`` or just the address; an empty list counts as absent (OpenSIPS sends it)."""
    words = words_of(value)
    # What follows a family is the address; the family itself is plain from the address.
    return read_address(words[-1], rejected) if words and len(words) <= 2 else None


def read_direction(value: NgValue, _rejected: list[bytes]) -> Direction | None:
    """A list of one or two interface names; no string will do, since names may contain anything."""
    words = words_of(value) if type(value) is list else None
    if not words:
        return None
    return Direction(to_text(words[0]), to_text(words[1]) if len(words) > 1 else None)


def read_sdes(value: NgValue, rejected: list[bytes], plain: Mapping[bytes, str]) -> tuple[str, ...]:
    """The ``SDES`` list in canonical form: words in lower case, cipher suites as in RFC 4568."""
    found = []
    for word in words_of(value) or ():
        canonical = normalise(word)
        known = plain.get(canonical)
        if known is not None:
            found.append(known)
            continue
        for prefix in _SUITE_PREFIXES:
            if canonical.startswith(prefix) and len(canonical) > len(prefix):
                suites = word[len(prefix) :].upper().replace(b"-", b"_")
                found.append(to_text(prefix + suites))
                break
        else:
            rejected.append(word)
    return tuple(found)


def words_reader(table: Mapping[bytes, _T | None]) -> Callable[[NgValue, list[bytes]], frozenset[_T] | None]:
    """A reader for lists of words out of a closed set, whose order means nothing; ``None`` in it is without effect."""

    def read(value: NgValue, rejected: list[bytes]) -> frozenset[_T] | None:
        words = words_of(value)
        if words is None:
            return None
        found = []
        for word in words:
            canonical = normalise(word)
            meaning = table.get(canonical)
            if meaning is not None:
                found.append(meaning)
            elif canonical not in table:
                rejected.append(word)
        return frozenset(found)

    return read


def word_reader(table: Mapping[bytes, _T]) -> Callable[[NgValue, list[bytes]], _T | None]:
    """A reader for one word out of a closed set; of a list the last known word counts."""

    def read(value: NgValue, rejected: list[bytes]) -> _T | None:
        found = None
        for word in words_of(value) or ():
            meaning = table.get(normalise(word))
            if meaning is None:
                rejected.append(word)
            else:
                found = meaning
        return found

    return read
