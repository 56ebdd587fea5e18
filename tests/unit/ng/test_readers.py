from __future__ import annotations

import pytest

from mediaproxy.net import AddressFamily
from mediaproxy.ng.message import Dictionary, NgValue
from mediaproxy.ng.readers import (
    Direction,
    normalise,
    read_address,
    read_body,
    read_direction,
    read_family,
    read_integer,
    read_natural,
    read_received_from,
    read_text,
    read_tos,
    word_reader,
    words_of,
    words_reader,
)


def test_spellings_become_alike_and_keep_their_length() -> None:
    for spelling in (b"call-id", b"call-ID", b"call id", b"call ID", b"call_id", b"CALL_ID"):
        assert normalise(spelling) == b"call-id"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([b"a", b"b c"], [b"a", b"b c"]),
        ([b"a", 1, [b"x"], Dictionary(), b"b"], [b"a", b"b"]),
        (b"a,b , c", [b"a", b"b", b"c"]),
        (b"", []),
        (b",", []),
        ([], []),
        (5, None),
        (None, None),
        (Dictionary([(b"a", b"b")]), None),
    ],
)
def test_words_come_from_a_list_or_a_string_with_commas(value: NgValue, words: list[bytes] | None) -> None:
    assert words_of(value) == words


@pytest.mark.parametrize(
    ("value", "text"), [(b"x", "x"), (b"", None), (b"\xff\x00", "\udcff\x00"), (5, None), ([b"x"], None), (None, None)]
)
def test_text_is_a_string_that_is_not_empty(value: NgValue, text: str | None) -> None:
    assert read_text(value, []) == text
    if text is not None:
        assert text.encode("utf-8", "surrogateescape") == value


def test_body_may_be_empty() -> None:
    assert read_body(b"", []) == b""
    assert read_body([b"v=0"], []) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (-5, -5),
        (b"5", 5),
        (b"-5", -5),
        (b"007", 7),
        (b"0x1F", 31),
        (b"-0x10", -16),
        (2**63 - 1, 2**63 - 1),
        (str(2**63 - 1).encode(), 2**63 - 1),
        (2**63, None),
        (str(-(2**63) - 1).encode(), None),
        (b"", None),
        (b"-", None),
        (b"+5", None),
        (b" 5", None),
        (b"5 ", None),
        (b"5s", None),
        (b"1_0", None),
        (b"1.5", None),
        (b"0x", None),
        (b"\xb2", None),
        (b"9" * 5000, None),
        ([5], None),
        (None, None),
        (Dictionary(), None),
    ],
)
def test_integer_is_a_number_or_the_whole_of_a_string(value: NgValue, number: int | None) -> None:
    assert read_integer(value, []) == number


def test_negative_numbers_mean_the_default_where_there_is_no_negative_amount() -> None:
    assert read_natural(-1, []) is None
    assert read_natural(b"0", []) == 0


@pytest.mark.parametrize(("value", "tos"), [(0, 0), (b"184", 184), (255, 255), (256, None), (-1, -1), (-7, -1)])
def test_tos_is_a_byte_or_minus_one(value: NgValue, tos: int | None) -> None:
    assert read_tos(value, []) == tos


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"2001:DB8:0::1", "2001:db8::1"),
        (b"::ffff:192.0.2.1", "192.0.2.1"),
        (b"fe80::1%eth0", None),
        (b"host.example", None),
        (b"192.0.2.1\xff", None),
        (b"1" * 10_000, None),
        (b"", None),
        (3232235521, None),
    ],
)
def test_address_is_put_into_its_canonical_form(value: NgValue, address: str | None) -> None:
    assert read_address(value, []) == address


@pytest.mark.parametrize(
    ("value", "family"),
    [(b"IP4", AddressFamily.IP4), (b"ip6", AddressFamily.IP6), (b"IP5", None), ([b"IP4"], None), (b"", None)],
)
def test_family_is_read_in_any_case(value: NgValue, family: AddressFamily | None) -> None:
    assert read_family(value, []) is family


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ([b"IP4", b"10.10.1.10"], "10.10.1.10"),
        ([b"IP6", b"2001:db8::1"], "2001:db8::1"),
        (b"10.10.1.10", "10.10.1.10"),
        (b"IP4,10.10.1.10", "10.10.1.10"),
        ([b"10.10.1.10"], "10.10.1.10"),
        ([], None),
        (b"", None),
        ([b"IP4"], None),
        ([b"IP4", b"10.10.1.10", b"5060"], None),
        (7, None),
    ],
)
def test_received_from_is_a_pair_or_an_address(value: NgValue, address: str | None) -> None:
    assert read_received_from(value, []) == address


@pytest.mark.parametrize(
    ("value", "direction"),
    [
        ([b"external", b"internal"], Direction("external", "internal")),
        ([b"external"], Direction("external", None)),
        ([b"a", b"b", b"c"], Direction("a", "b")),
        ([5, b"a"], Direction("a", None)),
        (b"external,internal", None),
        ([], None),
    ],
)
def test_direction_is_a_list_only(value: NgValue, direction: Direction | None) -> None:
    assert read_direction(value, []) == direction


def test_unknown_words_are_handed_back() -> None:
    read = words_reader({b"on-off": 1, b"quiet": None})
    rejected: list[bytes] = []
    assert read([b"ON_off", b"quiet", b"what", b"on off"], rejected) == frozenset({1})
    assert rejected == [b"what"]
    assert read(5, rejected) is None


def test_last_known_word_counts_where_only_one_can() -> None:
    read = word_reader({b"a": 1, b"b": 2})
    rejected: list[bytes] = []
    assert read(b"a", rejected) == 1
    assert read([b"b", b"a", b"z"], rejected) == 1
    assert rejected == [b"z"]
    assert read([], rejected) is None
