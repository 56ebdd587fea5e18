"""Our codec against the strict one of bencode.py, and against arbitrary bytes."""

from __future__ import annotations

from typing import TypeAlias

import bencodepy
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.errors import PayloadError
from mediaproxy.ng import bencode
from mediaproxy.ng.message import Dictionary, NgValue

Plain: TypeAlias = "bytes | int | list[Plain] | dict[bytes, Plain]"

_leaves = st.binary(max_size=40) | st.integers(-(2**63), 2**63 - 1)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.binary(max_size=12), inner, max_size=6),
    max_leaves=30,
)
_dictionaries = st.dictionaries(st.binary(max_size=12), _values, max_size=8)
_scraps = st.lists(
    st.sampled_from([b"d", b"l", b"e", b"i", b":", b"0", b"1", b"3", b"-", b"a", b"1:a", b"i1e", b"4:ping", b"\xff"]),
    max_size=40,
).map(b"".join)


def plain(value: NgValue) -> Plain:
    """What the library would have made of it."""
    if isinstance(value, Dictionary):
        return {key: plain(item) for key, item in value}
    if isinstance(value, list):
        return [plain(item) for item in value]  # type: ignore[arg-type]  # a list that is no Dictionary
    assert isinstance(value, bytes | int)
    return value


def ordered(value: Plain) -> object:
    """A reply value with its keys in the order that bencode asks for."""
    if isinstance(value, dict):
        return {key.decode("utf-8", "surrogateescape"): ordered(item) for key, item in sorted(value.items())}
    return [ordered(item) for item in value] if isinstance(value, list) else value


@given(_dictionaries)
def test_canonical_dictionaries_are_decoded_as_the_library_does(value: dict[bytes, Plain]) -> None:
    data = bencodepy.encode(value)
    assert plain(bencode.decode(data)) == bencodepy.decode(data) == value


@given(_dictionaries)
def test_sorted_dictionaries_are_encoded_as_the_library_does(value: dict[bytes, Plain]) -> None:
    assert bencode.encode(ordered(value)) == bencodepy.encode(value)  # type: ignore[arg-type]  # built recursively


@given(st.binary(max_size=200).map(lambda data: b"d" + data) | _scraps.map(lambda data: b"d" + data) | st.binary())
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except PayloadError:
        return
    assert type(value) is Dictionary


@given(_scraps.map(lambda data: b"d" + data))
def test_what_the_library_accepts_we_decode_alike(data: bytes) -> None:
    try:
        value = bencodepy.decode(data)
    except bencodepy.BencodeDecodeError:
        return
    assert plain(bencode.decode(data)) == value


@given(_dictionaries, st.integers(0, 400))
def test_a_cut_off_dictionary_is_refused_or_loses_whole_pairs(value: dict[bytes, Plain], cut: int) -> None:
    data = bencodepy.encode(value)
    short = data[: max(1, len(data) - 1 - cut)]
    try:
        decoded = bencode.decode(short)
    except PayloadError:
        return
    # What is left ends between two pairs of the outermost dictionary.
    kept = plain(decoded)
    assert isinstance(kept, dict)
    assert all(value[key] == item for key, item in kept.items())
