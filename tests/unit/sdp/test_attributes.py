"""``read_facts``: what an SDP says, per m= section."""

from __future__ import annotations

import pytest

from mediaproxy.errors import SdpIncompleteError
from mediaproxy.net import AddressFamily
from mediaproxy.sdp import Codec, MediaFacts, RtcpAttribute, SessionFacts, TransportKind, parse_sdp, read_facts
from mediaproxy.sdp.attributes import classify_protocol
from mediaproxy.sdp.plan import Direction

HEAD = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=desk\nc=IN IP4 192.0.2.1\nt=0 0\n"
AUDIO = "m=audio 6000 RTP/AVP 8 101\n"


def facts_of(*parts: str) -> SessionFacts:
    return read_facts(parse_sdp("".join(parts).encode("latin-1")))


def audio(*lines: str, session: str = "") -> MediaFacts:
    """The facts of one audio section with these lines below its m=."""
    return facts_of(HEAD, session, AUDIO, *(line + "\n" for line in lines)).medias[0]


def incomplete(*parts: str) -> str:
    with pytest.raises(SdpIncompleteError) as caught:
        facts_of(*parts)
    assert str(caught.value) == "Incomplete SDP specification"
    return caught.value.detail


def test_read_facts_session_fields_are_read() -> None:
    facts = facts_of(
        HEAD, "a=group:BUNDLE 0\na=ice-lite\na=rtpengine:abcdef012345\n", "a=rtpengine: fedcba543210\n", AUDIO
    )
    assert facts.origin is not None
    assert facts.session_name == "desk"
    assert facts.bundle_group
    assert facts.ice_lite
    assert facts.loop_markers == ("abcdef012345", "fedcba543210")


def test_read_facts_nothing_given_is_none() -> None:
    facts = facts_of("v=0\n")
    assert facts == (None, None, (), False, False, (), ({"v": ["v=0"]}, [], []))


def test_read_facts_other_group_is_no_bundle() -> None:
    assert not facts_of(HEAD, "a=group:LS 0 1\n", AUDIO).bundle_group


def test_media_facts_of_a_bare_section_have_defaults() -> None:
    media = audio()
    assert (media.index, media.kind, media.port, media.port_count) == (0, "audio", 6000, 1)
    assert (media.protocol, media.formats, media.transport) == ("RTP/AVP", ("8", "101"), TransportKind.RTP)
    assert (media.rtcp, media.rtcp_mux, media.direction, media.mid, media.label) == (None, False, None, None, None)
    assert (media.ptime, media.maxptime, media.bundle_only, media.ssrcs) == (None, None, False, ())
    booleans = (
        media.has_ice,
        media.has_crypto,
        media.has_fingerprint,
        media.has_extmap,
        media.extmap_allow_mixed,
        media.held,
        media.secure,
    )
    assert booleans == (False,) * len(booleans)


def test_media_facts_attributes_are_read() -> None:
    media = audio(
        "a=mid:v1",
        "a=label:main",
        "a=ptime:20",
        "a=maxptime: 40 ",
        "a=rtcp-mux",
        "a=bundle-only",
        "a=ssrc:123 cname:x",
        "a=ssrc:123 msid:y",
        "a=ssrc:4294967295 cname:z",
        "a=ssrc:nonsense",
        "a=extmap:1 urn:x",
        "a=extmap-allow-mixed",
    )
    assert (media.mid, media.label, media.ptime, media.maxptime) == ("v1", "main", "20", "40")
    assert media.rtcp_mux
    assert media.bundle_only
    assert media.has_extmap
    assert media.extmap_allow_mixed
    assert media.ssrcs == (123, 4294967295)


@pytest.mark.parametrize(
    ("session", "line", "direction"),
    [
        ("", "a=sendonly", Direction.SENDONLY),
        ("a=sendonly\n", "a=x", Direction.SENDONLY),
        ("a=sendonly\n", "a=recvonly", Direction.RECVONLY),
        ("", "a=inactive ", Direction.INACTIVE),
        ("", "a=sendrecv", Direction.SENDRECV),
    ],
)
def test_direction_of_the_section_wins_over_the_sessions(session: str, line: str, direction: Direction) -> None:
    assert audio(line, session=session).direction is direction


@pytest.mark.parametrize(
    ("line", "rtcp"),
    [
        ("a=rtcp:9055", RtcpAttribute(9055, None)),
        ("a=rtcp:9055 IN IP4 192.0.2.9", RtcpAttribute(9055, "192.0.2.9")),
        ("a=rtcp:9 IN IP4 0.0.0.0", RtcpAttribute(9, "0.0.0.0")),
        ("a=rtcp: 9055 IN IP6 2001:DB8::1", RtcpAttribute(9055, "2001:db8::1")),
        ("a=rtcp:0", None),
    ],
)
def test_rtcp_attribute_forms_are_read(line: str, rtcp: RtcpAttribute | None) -> None:
    assert audio(line).rtcp == rtcp


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("a=rtcp", "line 7: a=rtcp without a port from 0 to 65535"),
        ("a=rtcp:x", "line 7: a=rtcp without a port from 0 to 65535"),
        ("a=rtcp:65536", "line 7: a=rtcp without a port from 0 to 65535"),
        ("a=rtcp:9 IN IP4 phone.example", "line 7: a=rtcp with an unusable address"),
        ("a=rtcp:9 IN IP4", "line 7: a=rtcp with an unusable address"),
    ],
)
def test_rtcp_attribute_malformed_is_refused(line: str, detail: str) -> None:
    assert incomplete(HEAD, AUDIO, line + "\n") == detail


@pytest.mark.parametrize("payload_type", ["128", "x", "-1", "\xb2", "1000"])
def test_payload_type_out_of_range_is_refused(payload_type: str) -> None:
    detail = incomplete(HEAD, f"m=audio 6000 RTP/AVP 8 {payload_type}\n")
    assert detail == f"line 6: format {payload_type!r} is not a payload type from 0 to 127"


@pytest.mark.parametrize("line", ["m=audio 6000 RTP/AVP 8", "m=image 6000 udptl t38"])
def test_section_without_connection_is_refused(line: str) -> None:
    assert incomplete("v=0\n", line, "\n").startswith("line 2: m=")


@pytest.mark.parametrize(
    "line", ["m=audio 0 RTP/AVP x", "m=message 6000 TCP/MSRP *", "m=image 0 udptl t38", "m=audio 0 RTP/AVP 8\na=rtcp:x"]
)
def test_section_that_is_not_relayed_may_lack_what_relaying_needs(line: str) -> None:
    assert facts_of("v=0\n", line, "\n").medias[0].connection is None


def test_connection_of_the_section_wins_over_the_sessions() -> None:
    facts = facts_of(HEAD, AUDIO, AUDIO, "c=IN IP6 2001:db8::6\n")
    assert [media.connection for media in facts.medias] == [
        ("192.0.2.1", AddressFamily.IP4),
        ("2001:db8::6", AddressFamily.IP6),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "a=candidate:1 1 udp 2113937151 5e1a2b3c.local 50010 typ host",
        "a=candidate:not a candidate at all",
        "a=remote-candidates:1 host.invalid x",
        "a=x-address:300.300.300.300",
    ],
)
def test_bad_address_in_an_ignored_place_is_not_looked_at(line: str) -> None:
    assert audio(line).port == 6000


@pytest.mark.parametrize(
    ("kind", "protocol", "transport"),
    [
        ("audio", "RTP/AVP", TransportKind.RTP),
        ("video", "rtp/avpf", TransportKind.RTP),
        ("audio", "RTP/SAVP", TransportKind.RTP),
        ("audio", "RTP/SAVPF", TransportKind.RTP),
        ("audio", "UDP/TLS/RTP/SAVP", TransportKind.RTP),
        ("audio", "udp/tls/RTP/SAVPF", TransportKind.RTP),
        ("image", "udptl", TransportKind.OPAQUE),
        ("image", "UDPTL", TransportKind.OPAQUE),
        ("application", "UDP/BFCP", TransportKind.OPAQUE),
        ("application", "UDP/DTLS/SCTP", TransportKind.OPAQUE),
        ("application", "DTLS/SCTP", TransportKind.OPAQUE),
        ("audio", "vnd.example", TransportKind.OPAQUE),
        ("message", "TCP/MSRP", TransportKind.NOT_RELAYED),
        ("message", "vnd.example", TransportKind.NOT_RELAYED),
        ("application", "TCP/TLS/BFCP", TransportKind.NOT_RELAYED),
        ("application", "tcp/dtls/sctp", TransportKind.NOT_RELAYED),
        ("image", "tcptl", TransportKind.NOT_RELAYED),
        ("audio", "TCP/RTP/AVP", TransportKind.NOT_RELAYED),
    ],
)
def test_classify_protocol_knows_three_kinds(kind: str, protocol: str, transport: TransportKind) -> None:
    assert classify_protocol(kind, protocol) is transport
    media = facts_of(HEAD, f"m={kind} 6000 {protocol} 8\n").medias[0]
    assert media.is_rtp is (transport is TransportKind.RTP)
    assert media.relayed is (transport is not TransportKind.NOT_RELAYED)


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_held_is_an_unspecified_address_without_ice(address: str) -> None:
    line = f"c=IN {'IP6' if ':' in address else 'IP4'} {address}"
    held = audio(line)
    assert held.unspecified
    assert held.held
    for ice, session in (
        ("a=ice-ufrag:abcd", ""),
        ("a=candidate:1 1 udp 1 h.local 9 typ host", ""),
        ("a=x", "a=ice-ufrag:a\n"),
    ):
        unknown = audio(line, ice, session=session)
        assert unknown.has_ice
        assert unknown.unspecified
        assert not unknown.held
    assert not audio().unspecified


@pytest.mark.parametrize(
    ("session", "line", "protocol", "crypto", "fingerprint"),
    [
        ("", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "RTP/AVP", True, False),
        ("", "a=fingerprint:sha-256 AA:BB", "UDP/DTLS/SCTP", False, True),
        ("a=fingerprint:sha-256 AA:BB\n", "a=x", "RTP/AVP", False, True),
        ("a=crypto:1 x y\n", "a=x", "RTP/AVP", True, False),
        ("", "a=x", "RTP/savp", False, False),
    ],
)
def test_secure_sees_profile_and_keys(session: str, line: str, protocol: str, crypto: bool, fingerprint: bool) -> None:
    media = facts_of(HEAD, session, f"m=audio 6000 {protocol} 8\n", line, "\n").medias[0]
    assert (media.has_crypto, media.has_fingerprint) == (crypto, fingerprint)
    assert media.secure


def test_codecs_static_and_dynamic_are_named() -> None:
    media = facts_of(
        HEAD,
        "m=audio 6000 RTP/AVP 111 8 10 97 98 0 99\n",
        "a=rtpmap:111 opus/48000/2\na=rtpmap:98 odd\na=rtpmap:0 PCMU/16000\na=rtpmap:99 G726-32/8000/1 \n",
        "a=rtpmap:111 second/1\na=rtpmap:100 notlisted/8000\n",
    ).medias[0]
    assert media.codecs == (
        Codec(111, "opus", 48000, 2),
        Codec(8, "PCMA", 8000),
        Codec(10, "L16", 44100, 2),
        Codec(97, "", 0),
        Codec(98, "odd", 0),
        Codec(0, "PCMU", 16000),
        Codec(99, "G726-32", 8000),
    )
    assert media.codec_table[0] == (111, "opus/48000/2", 48000)
    assert media.codec_table[3] == (97, "", 0)


def test_codecs_same_number_in_two_sections_means_two_things() -> None:
    facts = facts_of(
        HEAD,
        "m=audio 6000 RTP/AVP 96 97\na=rtpmap:96 speex/16000\na=rtpmap:97 telephone-event/16000\n",
        "m=video 6002 RTP/AVP 96 97\na=rtpmap:96 VP8/90000\na=rtpmap:97 H264/90000\n",
    )
    assert [[codec.encoding for codec in media.codecs] for media in facts.medias] == [
        ["speex/16000", "telephone-event/16000"],
        ["VP8/90000", "H264/90000"],
    ]


def test_read_facts_large_input_stays_linear() -> None:
    # 20 000 formats and 1 000 lines that look each of theirs up: a scan per line would take minutes, not milliseconds
    body = HEAD + "m=audio 6000 RTP/AVP " + "8 " * 20000 + "\n" + "a=fmtp:9 x\n" * 1000
    media = facts_of(body).medias[0]
    assert len(media.codecs) == 20000
    assert media.lines.codec_parameters == {}
