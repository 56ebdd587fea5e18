"""``parse_sdp``: every line kept, and everything that isn't SDP refused with the line and the reason."""

from __future__ import annotations

import pytest

from mediaproxy.errors import SdpSyntaxError
from mediaproxy.net import AddressFamily
from mediaproxy.sdp.model import (
    MAX_MEDIA_SECTIONS,
    MAX_SDP_BYTES,
    MAX_SDP_LINES,
    fields_of,
    parse_connection,
    parse_number,
    parse_sdp,
)
from mediaproxy.sdp.plan import Origin

CALL = (
    b"v=0\r\no=caller 53655765 2353687637 IN IP4 10.10.1.10\r\ns=-\r\nc=IN IP4 10.10.1.10\r\nt=0 0\r\n"
    b"m=audio 6000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=ptime:20\r\n"
)


def refusal(body: bytes) -> str:
    with pytest.raises(SdpSyntaxError) as caught:
        parse_sdp(body)
    assert str(caught.value) == "Failed to parse SDP"
    return caught.value.detail


def test_parse_sdp_plain_call_reads_structure() -> None:
    sdp = parse_sdp(CALL)
    assert [line.kind for line in sdp.lines] == ["v", "o", "s", "c", "t"]
    assert sdp.origin == Origin("caller", "53655765", "2353687637", "IN", "IP4", "10.10.1.10")
    assert sdp.connection == ("10.10.1.10", AddressFamily.IP4)
    assert len(sdp.medias) == 1
    media = sdp.medias[0]
    assert (media.number, media.media_type, media.port, media.port_count) == (6, "audio", 6000, 1)
    assert (media.protocol, media.formats, media.connection) == ("RTP/AVP", ("8", "101"), None)
    assert [line.value for line in media.lines] == ["rtpmap:8 PCMA/8000", "ptime:20"]


@pytest.mark.parametrize(
    "body",
    [
        CALL,
        CALL.replace(b"\r\n", b"\n"),
        CALL.replace(b"s=-\r\n", b"s=-\n"),
        CALL.replace(b"s=-\r\n", b"s=-\r\r\n"),
        CALL[:-2],
        CALL[:-1],
        CALL + b"\r\n",
        CALL + b"\r\nthis is no SDP any more\r\n\0",
        CALL + b" \t",
        CALL.replace(b"s=-", b"s=Jos\xc3\xa0 \xff\xfe"),
        b"",
        b"\r\n",
    ],
)
def test_to_bytes_any_accepted_form_is_identity(body: bytes) -> None:
    assert parse_sdp(body).to_bytes() == body


def test_parse_sdp_blank_line_ends_it() -> None:
    sdp = parse_sdp(b"v=0\r\ns=-\r\n\r\nm=audio 6000 RTP/AVP 8\r\n")
    assert sdp.medias == ()
    assert sdp.tail == "\r\nm=audio 6000 RTP/AVP 8\r\n"


def test_parse_sdp_empty_body_has_no_media() -> None:
    assert parse_sdp(b"").medias == ()


def test_parse_sdp_missing_times_and_names_is_accepted() -> None:
    sdp = parse_sdp(b"v=0\nc=IN IP4 192.0.2.1\nm=audio 6000 RTP/AVP 8\n")
    assert sdp.origin is None
    assert sdp.medias[0].port == 6000


def test_parse_sdp_session_lines_inside_a_media_are_strays() -> None:
    sdp = parse_sdp(b"v=0\nm=audio 6000 RTP/AVP 8\nc=IN IP4 192.0.2.1\nt=0 0\no=- 1 2 IN IP4 a.example\n")
    assert [line.kind for line in sdp.strays] == ["t", "o"]
    assert sdp.origin is not None
    assert sdp.origin.address == "a.example"


def test_parse_sdp_several_connections_take_the_first() -> None:
    sdp = parse_sdp(b"v=0\nm=audio 6000 RTP/AVP 8\nc=IN IP4 192.0.2.1\nc=IN IP4 192.0.2.2\n")
    assert sdp.medias[0].connection == ("192.0.2.1", AddressFamily.IP4)


def test_parse_sdp_username_of_several_words_stays_whole() -> None:
    sdp = parse_sdp(b"v=0\no=John Doe 1 2 IN IP4 192.0.2.1\n")
    assert sdp.origin == Origin("John Doe", "1", "2", "IN", "IP4", "192.0.2.1")


def test_parse_sdp_utf8_that_looks_like_white_space_does_not_split() -> None:
    # U+00E0 is C3 A0 and U+00C5 is C3 85 in UTF-8: A0 and 85 are white space in latin-1
    sdp = parse_sdp("v=0\no=Josà-Å 1 2 IN IP4 192.0.2.1\n".encode())
    assert sdp.origin is not None
    assert sdp.origin.username.encode("latin-1").decode() == "Josà-Å"


def test_parse_sdp_extra_white_space_is_tolerated() -> None:
    sdp = parse_sdp(b"v=0 \nc=IN  IP4\t192.0.2.1 \nm=audio  6000 RTP/AVP  8 \n")
    assert sdp.connection == ("192.0.2.1", AddressFamily.IP4)
    assert sdp.medias[0].formats == ("8",)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"o=- 1 1 IN IP4 192.0.2.1\n", "line 1: not v=0"),
        (b"v=1\n", "line 1: not v=0"),
        (b"v=0\nq=1\n", "line 2: unknown line type 'q'"),
        (b"v=0\nV=0\n", "line 2: unknown line type 'V'"),
        (b"v=0\nhello\n", "line 2: not of the form letter=value"),
        (b"v=0\n a=x\n", "line 2: not of the form letter=value"),
        (b"v=0\no=- 1 1 IN IP4\n", "line 2: o= has 5 fields, not 6"),
        (b"v=0\no=- 1 1 IN IP4 h\no=\n", "line 3: o= has 0 fields, not 6"),
        (b"v=0\nc=IN IP4 phone.example.com\n", "line 2: c= without a usable IP address"),
        (b"v=0\nc=IN IP4 192.0.2.256\n", "line 2: c= without a usable IP address"),
        (b"v=0\nc=IN IP6 192.0.2.1\n", "line 2: c= without a usable IP address"),
        (b"v=0\nc=IN IP4 192.0.2.1/x\n", "line 2: c= without a usable IP address"),
        (b"v=0\nc=IN IP4 192.0.2.1\nc=IN IP4 x\n", "line 3: c= without a usable IP address"),
        (b"v=0\nm=audio 1 RTP/AVP 0\nc=ATM NSAP 47\n", "line 3: c= without a usable IP address"),
        (b"v=0\nm=audio 6000\n", "line 2: m= without type, port and protocol"),
        (b"v=0\nm=audio 65536 RTP/AVP 0\n", "line 2: m= port is not a number from 0 to 65535"),
        (b"v=0\nm=audio -1 RTP/AVP 0\n", "line 2: m= port is not a number from 0 to 65535"),
        (b"v=0\nm=audio \xb2 RTP/AVP 0\n", "line 2: m= port is not a number from 0 to 65535"),
        (b"v=0\nm=audio 1/0 RTP/AVP 0\n", "line 2: m= port count is not a number from 1 to 65535"),
        (b"v=0\ns=a\rb\n", "line 2: holds a NUL or a CR that ends no line"),
        (b"v=0\ns=a\0b\n", "line 2: holds a NUL or a CR that ends no line"),
    ],
)
def test_parse_sdp_malformed_is_refused_with_line_and_reason(body: bytes, detail: str) -> None:
    assert refusal(body) == detail


def test_parse_sdp_too_many_bytes_is_refused() -> None:
    body = b"v=0\na=" + b"x" * (MAX_SDP_BYTES - 6)
    assert parse_sdp(body).to_bytes() == body
    assert refusal(body + b"x") == f"{MAX_SDP_BYTES + 1} bytes, more than {MAX_SDP_BYTES}"


def test_parse_sdp_too_many_lines_is_refused() -> None:
    body = b"v=0\n" + b"a=\n" * (MAX_SDP_LINES - 1)
    assert len(parse_sdp(body).lines) == MAX_SDP_LINES
    assert refusal(body + b"a=\n") == f"more than {MAX_SDP_LINES} lines"


def test_parse_sdp_too_many_sections_is_refused() -> None:
    body = b"v=0\n" + b"m=audio 1 RTP/AVP 0\n" * MAX_MEDIA_SECTIONS
    assert len(parse_sdp(body).medias) == MAX_MEDIA_SECTIONS
    assert refusal(body + b"m=audio 1 RTP/AVP 0\n") == "line 66: more than 64 m= sections"


@pytest.mark.parametrize(
    ("value", "address", "family"),
    [
        ("IN IP4 224.2.1.1/127", "224.2.1.1", AddressFamily.IP4),
        ("IN IP4 224.2.1.1/127/3", "224.2.1.1", AddressFamily.IP4),
        ("IN IP6 FF15::101/3", "ff15::101", AddressFamily.IP6),
        ("in ip6 2001:DB8::1", "2001:db8::1", AddressFamily.IP6),
        ("IN IP6 ::ffff:192.0.2.1", "192.0.2.1", AddressFamily.IP4),
        ("IN IP4 0.0.0.0", "0.0.0.0", AddressFamily.IP4),
        ("IN IP6 ::", "::", AddressFamily.IP6),
    ],
)
def test_parse_connection_legal_forms_are_read(value: str, address: str, family: AddressFamily) -> None:
    connection = parse_connection(fields_of(value))
    assert connection == (address, family)


@pytest.mark.parametrize(("address", "unspecified"), [("0.0.0.0", True), ("::", True), ("192.0.2.1", False)])
def test_connection_unspecified_knows_both_families(address: str, unspecified: bool) -> None:
    connection = parse_connection(["IN", "IP6" if ":" in address else "IP4", address])
    assert connection is not None
    assert connection.unspecified is unspecified


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("65535", 65535), ("65536", None), ("", None), ("+1", None), ("1" * 5000, None)]
)
def test_parse_number_outside_of_range_is_none(text: str, number: int | None) -> None:
    assert parse_number(text, 65535) == number
