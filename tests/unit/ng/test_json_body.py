from __future__ import annotations

import pytest

from mediaproxy.errors import PayloadError
from mediaproxy.ng.bencode import MAX_DEPTH, MAX_ELEMENTS
from mediaproxy.ng.json_body import decode, encode
from mediaproxy.ng.message import Dictionary


def test_json_becomes_what_bencode_would_have_brought() -> None:
    decoded = decode(b'{"command":"list","limit":5,"yes":true,"no":false,"l":["a",{"b":"\\u00e4"}],"f":1.5,"n":null}')
    assert decoded == [
        (b"command", b"list"),
        (b"limit", 5),
        (b"yes", 1),
        (b"no", 0),
        (b"l", [b"a", [(b"b", b"\xc3\xa4")]]),
        (b"f", b"1.5"),
        (b"n", None),
    ]
    inner = decoded[4][1]
    assert isinstance(inner, list)
    assert type(inner[1]) is Dictionary


def test_last_of_two_values_counts() -> None:
    assert decode(b'{"a":1,"a":2}') == [(b"a", 2)]


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}}",
        b'{"a":}',
        b"{'a':1}",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' + b"[" * 60_000,
        b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":1}{"b":2}',
    ],
)
def test_what_is_no_json_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(PayloadError, match=r"^Failed to parse JSON document$"):
        decode(data)


@pytest.mark.parametrize("data", [b"[]", b'"a"', b"1", b"null"])
def test_what_is_no_object_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(PayloadError, match=r"^Could not decode JSON dictionary$"):
        decode(data)


def test_bounds_are_those_of_bencode() -> None:
    assert decode(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")
    with pytest.raises(PayloadError):
        decode(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}")
    assert decode(b'{"a":[' + b",".join([b"1"] * (MAX_ELEMENTS - 2)) + b"]}")
    with pytest.raises(PayloadError):
        decode(b'{"a":[' + b",".join([b"1"] * MAX_ELEMENTS) + b"]}")


def test_reply_is_compact_and_keeps_its_order() -> None:
    assert encode({"calls": ["c1", "c2"], "n": 1, "result": "ok"}) == b'{"calls":["c1","c2"],"n":1,"result":"ok"}'


def test_bytes_that_json_cannot_carry_are_replaced() -> None:
    reply = encode({"sdp": b"v=0\r\ns=\xe4\r\n", "tag": "a\udcff", "\udcff": {"x": "ä"}})
    assert reply == '{"sdp":"v=0\\r\\ns=\ufffd\\r\\n","tag":"a\ufffd","\ufffd":{"x":"ä"}}'.encode()
