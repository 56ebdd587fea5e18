"""Any bytes: a request, or refused by name; and replies that can be read again."""

from __future__ import annotations

import json
from typing import Any

import bencodepy
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.errors import NgSyntaxError, PayloadError
from mediaproxy.ng.message import Encoding, NgRequest, detect_encoding, split_message
from mediaproxy.ng.options import FLAG_WORDS, KEYS, parse_request
from mediaproxy.ng.payload import decode_payload, encode_payload

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_replies = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | _texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=20,
)
_known = [spelling for key in KEYS for spelling in (key.name, key.name.upper(), key.name.replace("-", " "))]
_words = [word.name for word in FLAG_WORDS] + ["replace-origin", "SDES-no-X", "rtcp-mux-offer", "IP4", "192.0.2.1", "7"]
_values = st.recursive(
    st.sampled_from(_words) | _texts | st.integers(-(2**70), 2**70) | st.none() | st.booleans() | st.floats(0, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


def parse(datagram: bytes) -> NgRequest:
    _, payload = split_message(datagram)
    return parse_request(decode_payload(payload, detect_encoding(payload)), "192.0.2.1")


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"c {" + data))
def test_any_datagram_is_parsed_or_refused_by_name(datagram: bytes) -> None:
    try:
        request = parse(datagram)
    except (NgSyntaxError, PayloadError):
        return
    assert isinstance(request, NgRequest)


@given(st.dictionaries(st.sampled_from(_known).filter("command".__ne__) | _texts, _values, max_size=10))
def test_any_values_of_known_keys_make_a_request(options: dict[str, Any]) -> None:
    # Of the keys named "command" the first one counts.
    request = parse(b"c " + json.dumps({"command": "offer"} | options, allow_nan=False).encode())
    assert request.command == "offer"
    for text in (request.call_id, request.from_tag, request.from_interface, request.label):
        assert text is None or (isinstance(text, str) and text)
    assert request.tos is None or -1 <= request.tos <= 255
    assert request.delete_delay is None or request.delete_delay >= 0


@given(st.dictionaries(_texts, _replies, max_size=6))
def test_replies_can_be_read_in_both_encodings(reply: dict[str, Any]) -> None:
    bencoded = bencodepy.decode(encode_payload(reply, Encoding.BENCODE))
    assert [key.decode() for key in bencoded] == list(reply)
    as_json = json.loads(encode_payload(reply, Encoding.JSON))
    assert list(as_json) == list(reply)
