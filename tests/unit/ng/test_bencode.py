from __future__ import annotations

from typing import cast

import pytest

from mediaproxy.errors import PayloadError
from mediaproxy.ng.bencode import MAX_DEPTH, MAX_ELEMENTS, decode, encode
from mediaproxy.ng.message import Dictionary, NgReplyValue, NgValue
from tests.support.ng_requests import RecordedRequest, recorded_request, recorded_requests


def test_request_keeps_the_order_of_its_keys() -> None:
    names = [key for key, _ in decode(recorded_request("02-kamailio-offer").payload)]
    assert names == [
        b"supports",
        b"sdp",
        b"direction",
        b"replace",
        b"transport-protocol",
        b"call-id",
        b"received-from",
        b"from-tag",
        b"command",
    ]


def test_values_of_a_recorded_offer_are_whole() -> None:
    offer = dict(decode(recorded_request("02-kamailio-offer").payload))
    assert offer[b"direction"] == [b"external", b"internal"]
    assert offer[b"received-from"] == [b"IP4", b"10.10.1.10"]
    assert isinstance(offer[b"sdp"], bytes)
    assert len(offer[b"sdp"]) == 212
    assert offer[b"sdp"].endswith(b"a=sendrecv\r\n")


@pytest.mark.parametrize("request_", recorded_requests(), ids=lambda request: request.name)
def test_every_recorded_request_survives_a_round_trip(request_: RecordedRequest) -> None:
    if request_.payload.startswith(b"{"):
        assert request_.payload == b'{"command":"ping"}'
        return
    assert _as_bencode(decode(request_.payload)) == request_.payload


def _as_bencode(value: NgValue) -> bytes:
    if isinstance(value, Dictionary):
        return b"d" + b"".join(_as_bencode(key) + _as_bencode(item) for key, item in value) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(_as_bencode(item) for item in cast("list[NgValue]", value)) + b"e"
    assert isinstance(value, bytes | int)
    return encode(value)


def test_duplicate_keys_are_all_kept() -> None:
    assert decode(b"d1:ai1e1:bi2e1:ai3ee") == [(b"a", 1), (b"b", 2), (b"a", 3)]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"d7:command4:pinge\n", [(b"command", b"ping")]),
        (b"d7:command4:ping", [(b"command", b"ping")]),
        (b"de", []),
        (b"d", []),
        (b"d1:ai007ee", [(b"a", 7)]),
        (b"d1:ai-0ee", [(b"a", 0)]),
        (b"d1:ai-12ee", [(b"a", -12)]),
        (b"d1:ai9223372036854775807ee", [(b"a", 2**63 - 1)]),
        (b"d1:ai-9223372036854775808ee", [(b"a", -(2**63))]),
        (b"d0:0:e", [(b"", b"")]),
        (b"d1:alee", [(b"a", [])]),
        (b"d1:adee", [(b"a", [])]),
        (b"d1:ad1:bl1:cd1:di1eeeee", [(b"a", [(b"b", [b"c", [(b"d", 1)]])])]),
        (b"d1:zi1e1:ai2ee", [(b"z", 1), (b"a", 2)]),
        (b"d1:a5:i1e:ee", [(b"a", b"i1e:e")]),
    ],
)
def test_tolerated_input_is_decoded(data: bytes, value: list[tuple[bytes, NgValue]]) -> None:
    assert decode(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i1e",
        b"le",
        b"d7:command04:pinge",
        b"d07:command4:pinge",
        b"d00::e",
        b"di1e1:ae",
        b"dle1:ae",
        b"dde1:ae",
        b"d1:a1:b1:ce",
        b"d1:a",
        b"d1:al1:b",
        b"d1:a6:bbbbe",
        b"d7:comma",
        b"d1",
        b"d1:a-1:be",
        b"d1:a+1:be",
        b"d1:a1_0:0123456789e",
        b"d1:a99999999999:e",
        b"d1:a999999999:e",
        b"d1:aiee",
        b"d1:ai-ee",
        b"d1:ai--1ee",
        b"d1:ai+1ee",
        b"d1:ai 1ee",
        b"d1:ai1_0ee",
        b"d1:ai1.5ee",
        b"d1:ai9223372036854775808ee",
        b"d1:ai-9223372036854775809ee",
        b"d1:ai1",
        b"d1:ai" + b"0" * 65000 + b"e",
        b"d1:axe",
        b"d1:a\xff",
        b"d1:a e",
    ],
)
def test_malformed_input_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(PayloadError, match=r"^Could not decode bencode dictionary$"):
        decode(data)


def test_nesting_ends_at_its_bound() -> None:
    inner = MAX_DEPTH - 1
    assert decode(b"d1:a" + b"l" * inner + b"e" * (inner + 1))
    with pytest.raises(PayloadError):
        decode(b"d1:a" + b"l" * (inner + 1) + b"e" * (inner + 2))
    with pytest.raises(PayloadError):
        decode(b"d1:a" + b"l" * 60_000)
    with pytest.raises(PayloadError):
        decode(b"d1:a" * 15_000)


def test_elements_end_at_their_bound() -> None:
    assert decode(b"d1:al" + b"0:" * (MAX_ELEMENTS - 2) + b"ee")
    with pytest.raises(PayloadError):
        decode(b"d1:al" + b"0:" * (MAX_ELEMENTS - 1) + b"ee")


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"result": "pong"}, b"d6:result4:ponge"),
        ({"z": 1, "a": -2}, b"d1:zi1e1:ai-2ee"),
        ({"sdp": b"v=0\r\n", "result": "ok"}, b"d3:sdp5:v=0\r\n6:result2:oke"),
        ({"calls": ["c1", "c2"]}, b"d5:callsl2:c12:c2ee"),
        ({"tags": {"x": {}}, "e": []}, b"d4:tagsd1:xdee1:elee"),
        ({"tag": "\udcff\udc80"}, b"d3:tag2:\xff\x80e"),
        ({"tag": "ä"}, b"d3:tag2:\xc3\xa4e"),
        ({"\udcff": 0}, b"d1:\xffi0ee"),
    ],
)
def test_replies_are_written_in_insertion_order(value: NgReplyValue, data: bytes) -> None:
    assert encode(value) == data
