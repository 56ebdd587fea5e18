from __future__ import annotations

import pytest

from mediaproxy.errors import NgSyntaxError, PayloadError
from mediaproxy.ng.message import MAX_COOKIE, Encoding, detect_encoding, split_message
from mediaproxy.ng.payload import decode_payload, encode_payload


@pytest.mark.parametrize(
    ("datagram", "cookie", "payload"),
    [
        (b"3021_771_4 d7:command4:pinge", b"3021_771_4", b"d7:command4:pinge"),
        (b"\x00\xff\n x", b"\x00\xff\n", b"x"),
        (b"a ", b"a", b""),
        (b"a  b c", b"a", b" b c"),
        (b"c" * MAX_COOKIE + b" d", b"c" * MAX_COOKIE, b"d"),
    ],
)
def test_message_splits_at_the_first_space(datagram: bytes, cookie: bytes, payload: bytes) -> None:
    assert split_message(datagram) == (cookie, payload)


@pytest.mark.parametrize("datagram", [b"", b" ", b" d7:command4:pinge", b"nospace", b"c" * (MAX_COOKIE + 1) + b" d"])
def test_message_without_a_cookie_is_refused(datagram: bytes) -> None:
    with pytest.raises(NgSyntaxError):
        split_message(datagram)


@pytest.mark.parametrize(("payload", "encoding"), [(b"de", Encoding.BENCODE), (b"{}", Encoding.JSON)])
def test_encoding_is_told_by_the_first_byte(payload: bytes, encoding: Encoding) -> None:
    assert detect_encoding(payload) is encoding
    assert decode_payload(payload, encoding) == []
    assert encode_payload({}, encoding) == payload


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "Invalid data (no payload)"),
        (b"x", "Invalid NG data format"),
        (b" d", "Invalid NG data format"),
        (b"[1]", "Invalid NG data format"),
        (b"le", "Invalid NG data format"),
    ],
)
def test_other_payloads_are_refused_with_the_known_texts(payload: bytes, text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        detect_encoding(payload)
    assert str(caught.value) == text
