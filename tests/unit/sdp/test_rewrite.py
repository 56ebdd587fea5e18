"""``write_outgoing``: form M, line by line (reference E.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.errors import SdpRewriteError
from mediaproxy.net import AddressFamily
from mediaproxy.sdp import parse_sdp, read_facts, write_outgoing
from mediaproxy.sdp.plan import Direction, MediaPlan, Origin, SessionPlan

HEAD = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n"
OUT_HEAD = "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\n"
PLAIN = MediaPlan(
    30000, "203.0.113.10", AddressFamily.IP4, "RTP/AVP", ("8",), direction=Direction.SENDRECV, rtcp_port=30001
)
OPAQUE = MediaPlan(30000, "203.0.113.10", AddressFamily.IP4, "udptl", ("t38",))


def written(body: str, *plans: MediaPlan, session: SessionPlan | None = None) -> str:
    """The outgoing SDP with LF line ends; that they were all CRLF is checked here."""
    sdp = parse_sdp(body.encode("latin-1"))
    plan = replace(session or SessionPlan(()), medias=plans)
    out = write_outgoing(sdp, read_facts(sdp), plan).decode("latin-1")
    assert out.endswith("\r\n")
    assert out.count("\r\n") == out.count("\n") == out.count("\r")
    return out.replace("\r\n", "\n")


def media_part(body: str, plan: MediaPlan) -> list[str]:
    return written(HEAD + body, plan).removeprefix(OUT_HEAD).splitlines()


def test_write_outgoing_session_part_has_form_m_order() -> None:
    body = (
        "v=0\r\n"
        "a=x-first:1\r\n"
        "p=+43 1\r\n"
        "b=TIAS:64000\r\n"
        "b=X-YZ:1\r\n"
        "b=AS:80\r\n"
        "k=prompt\r\n"
        "z=2882844526 -1h\r\n"
        "t=1 2\r\n"
        "r=7d 1h 0 25h\r\n"
        "t=3 4\r\n"
        "e=a@example.com\r\n"
        "u=http://example.com/\r\n"
        "i=info\r\n"
        "s=name\r\n"
        "a=group:BUNDLE 0\r\n"
        "a=group:LS 0\r\n"
        "a=rtpengine:old\r\n"
        "a=rtpengine:0123456789ab\r\n"
        "a=ice-lite\r\n"
        "a=ice-options:trickle\r\n"
        "a=sendonly\r\n"
        "a=tool:phone\r\n"
        "o=- 1 1 IN IP4 192.0.2.1\r\n"
        "c=IN IP4 192.0.2.1\r\n"
        "m=audio 6000 RTP/AVP 8\r\n"
    )
    assert written(body, PLAIN, session=SessionPlan((), loop_marker="0123456789ab")).splitlines()[:21] == [
        "v=0",
        "o=- 1 1 IN IP4 192.0.2.1",
        "s=name",
        "i=info",
        "u=http://example.com/",
        "e=a@example.com",
        "p=+43 1",
        "b=AS:80",
        "b=TIAS:64000",
        "b=X-YZ:1",
        "t=1 2",
        "r=7d 1h 0 25h",
        "t=3 4",
        "z=2882844526 -1h",
        "k=prompt",
        "a=rtpengine:0123456789ab",
        "a=x-first:1",
        "a=group:LS 0",
        "a=rtpengine:old",
        "a=tool:phone",
        "m=audio 30000 RTP/AVP 8",
    ]


def test_write_outgoing_missing_lines_are_added_but_no_origin() -> None:
    assert written("v=0\nc=IN IP4 192.0.2.1\nm=audio 6000 RTP/AVP 8\n", PLAIN).startswith("v=0\ns=\nt=0 0\nm=audio")


def test_write_outgoing_origin_and_name_of_the_plan_replace_the_senders() -> None:
    session = SessionPlan((), origin=Origin("u", "1", "2", "IN", "IP6", "2001:db8::1"), session_name="other")
    assert written(HEAD + "m=audio 6000 RTP/AVP 8\n", PLAIN, session=session).startswith(
        "v=0\no=u 1 2 IN IP6 2001:db8::1\ns=other\nt=0 0\nm="
    )


def test_write_outgoing_media_part_has_form_m_order() -> None:
    body = (
        "m=audio 6000/2 UDP/TLS/RTP/SAVPF 111 8 98\n"
        "a=maxptime:60\n"
        "a=ptime:20\n"
        "a=x-one\n"
        "a=rtcp-mux\n"
        "a=ice-ufrag:abcd\n"
        "a=ice-pwd:secret\n"
        "a=candidate:1 1 udp 1 192.0.2.1 6000 typ host\n"
        "a=end-of-candidates\n"
        "a=rtcp:6001 IN IP4 192.0.2.1\n"
        "a=tls-id:1\n"
        "a=fingerprint:sha-256 AA\n"
        "a=setup:actpass\n"
        "a=crypto:1 SUITE inline:x\n"
        "a=recvonly\n"
        "a=rtcp-fb:111 nack\n"
        "a=rtcp-fb:* ccm fir\n"
        "a=rtcp-fb:97 nack\n"
        "a=fmtp:111 minptime=10;useinbandfec=1\n"
        "a=fmtp:111 x=y\n"
        "a=rtpmap:97 removed/8000\n"
        "a=fmtp:97 removed\n"
        "a=rtpmap:111 opus/48000/2\n"
        "a=extmap:1 urn:one\n"
        "a=label:main\n"
        "a=bundle-only\n"
        "a=ssrc:1 cname:x\n"
        "a=extmap:2 urn:two\n"
        "a=mid:theirs\n"
        "k=clear:x\n"
        "b=TIAS:64000\n"
        "b=AS:64\n"
        "c=IN IP4 192.0.2.2\n"
        "i=title\n"
    )
    plan = MediaPlan(
        port=30000,
        address="2001:db8::1",
        family=AddressFamily.IP6,
        protocol="UDP/TLS/RTP/SAVPF",
        formats=("8", "111", "98"),
        mid="ours",
        direction=Direction.SENDONLY,
        rtcp_port=30000,
        full_rtcp=True,
        rtcp_mux=True,
        ptime="30",
        maxptime="90",
        extmap_allow_mixed=True,
        secure=True,
    )
    assert media_part(body, plan) == [
        "m=audio 30000 UDP/TLS/RTP/SAVPF 8 111 98",
        "i=title",
        "c=IN IP6 2001:db8::1",
        "b=TIAS:64000",
        "b=AS:64",
        "k=clear:x",
        "a=mid:ours",
        "a=label:main",
        "a=bundle-only",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=fmtp:111 x=y",
        "a=rtcp-fb:111 nack",
        "a=extmap-allow-mixed",
        "a=extmap:1 urn:one",
        "a=extmap:2 urn:two",
        "a=x-one",
        "a=rtcp-fb:* ccm fir",
        "a=rtcp-fb:97 nack",
        "a=ssrc:1 cname:x",
        "a=sendonly",
        "a=rtcp:30000 IN IP6 2001:db8::1",
        "a=rtcp-mux",
        "a=crypto:1 SUITE inline:x",
        "a=setup:actpass",
        "a=fingerprint:sha-256 AA",
        "a=tls-id:1",
        "a=ptime:30",
        "a=maxptime:90",
    ]


def test_write_outgoing_plain_plan_drops_keys_and_mux() -> None:
    body = (
        "m=audio 6000 RTP/AVP 8\na=crypto:1 S inline:x\na=setup:active\na=fingerprint:sha-1 A\na=tls-id:1\n"
        "a=rtcp-mux\na=rtcp-mux-only\na=mid:0\na=ptime:20\n"
    )
    expected = [
        "m=audio 30000 RTP/AVP 8",
        "c=IN IP4 203.0.113.10",
        "a=rtpmap:8 PCMA/8000",
        "a=sendrecv",
        "a=rtcp:30001",
    ]
    assert media_part(body, PLAIN) == expected
    assert "a=rtcp-mux-only" in media_part(body, replace(PLAIN, rtcp_mux=True))


def test_write_outgoing_session_level_keys_pass_only_when_secure() -> None:
    body = HEAD + "a=fingerprint:sha-256 AA\na=x\na=setup:actpass\na=crypto:1 S inline:x\nm=audio 6000 RTP/SAVP 8\n"
    assert written(body, PLAIN).splitlines()[4:6] == ["a=x", "m=audio 30000 RTP/AVP 8"]
    assert written(body, replace(PLAIN, secure=True)).splitlines()[4:8] == [
        "a=fingerprint:sha-256 AA",
        "a=x",
        "a=setup:actpass",
        "a=crypto:1 S inline:x",
    ]


def test_write_outgoing_stripped_extmaps_vanish_everywhere() -> None:
    body = HEAD + "a=extmap:1 urn:s\na=extmap-allow-mixed\nm=audio 6000 RTP/AVP 8\na=extmap:2 urn:m\n"
    stripped = written(body, replace(PLAIN, extmaps=False, extmap_allow_mixed=True))
    assert "extmap" not in stripped
    kept = written(body, replace(PLAIN, extmap_allow_mixed=True)).splitlines()
    assert [line for line in kept if "extmap" in line] == [
        "a=extmap:1 urn:s",
        "a=extmap-allow-mixed",
        "a=extmap:2 urn:m",
    ]


def test_write_outgoing_allow_mixed_without_extmaps_is_not_printed() -> None:
    assert "extmap" not in written(HEAD + "m=audio 6000 RTP/AVP 8\n", replace(PLAIN, extmap_allow_mixed=True))


@pytest.mark.parametrize("family", list(AddressFamily))
def test_write_outgoing_rejected_section_ends_after_its_identity(family: AddressFamily) -> None:
    body = "m=video 0 RTP/AVP 97 x\ni=cam\nb=AS:512\na=mid:v\na=label:l\na=bundle-only\na=rtpmap:97 H264/90000\na=x\n"
    plan = MediaPlan(0, "203.0.113.10", family, "RTP/AVP", ("97", "x"), mid="v", direction=Direction.SENDRECV)
    assert media_part(body, plan) == [
        "m=video 0 RTP/AVP 97 x",
        "i=cam",
        f"c=IN {family.value} {family.unspecified}",
        "b=AS:512",
        "a=mid:v",
        "a=label:l",
        "a=bundle-only",
    ]


def test_write_outgoing_opaque_section_copies_its_attributes() -> None:
    body = (
        "m=image 9000 UDPTL t38\na=T38FaxVersion:0\na=sendrecv\na=rtcp:9001\na=fmtp:8 x\na=setup:active\n"
        "a=fingerprint:sha-256 A\na=candidate:1 1 udp 1 192.0.2.1 9000 typ host\na=T38FaxUdpEC:t38UDPRedundancy\n"
    )
    assert media_part(body, OPAQUE) == [
        "m=image 30000 udptl t38",
        "c=IN IP4 203.0.113.10",
        "a=T38FaxVersion:0",
        "a=fmtp:8 x",
        "a=setup:active",
        "a=fingerprint:sha-256 A",
        "a=T38FaxUdpEC:t38UDPRedundancy",
    ]


def test_write_outgoing_unrelayed_section_keeps_port_and_session_address() -> None:
    body = "m=message 7394/2 TCP/MSRP *\na=path:msrp://192.0.2.1:7394/x;tcp\na=setup:actpass\n"
    plan = MediaPlan(7394, None, AddressFamily.IP4, "TCP/MSRP", ("*",))
    expected = [
        "m=message 7394/2 TCP/MSRP *",
        "c=IN IP4 192.0.2.1",
        "a=path:msrp://192.0.2.1:7394/x;tcp",
        "a=setup:actpass",
    ]
    assert media_part(body, plan) == expected
    own = media_part(body.replace("*\n", "*\nc=IN IP4 192.0.2.9\n"), plan)
    assert own[1] == "c=IN IP4 192.0.2.9"


@pytest.mark.parametrize("attribute", ["inactive", "sendonly"])
def test_write_outgoing_kept_direction_stays_in_its_place(attribute: str) -> None:
    body = f"m=audio 6000 RTP/AVP 8\na=x-before\na={attribute}\na=x-after\n"
    plan = replace(PLAIN, keep_direction=True, rtcp_port=None)
    assert media_part(body, plan)[3:] == ["a=x-before", f"a={attribute}", "a=x-after"]


def test_write_outgoing_kept_direction_of_the_session_stays_in_the_session() -> None:
    body = HEAD + "a=inactive\nm=audio 6000 RTP/AVP 8\n"
    out = written(body, replace(PLAIN, keep_direction=True, rtcp_port=None)).splitlines()
    assert out[4:6] == ["a=inactive", "m=audio 30000 RTP/AVP 8"]
    assert "a=sendrecv" not in out


def test_write_outgoing_dynamic_type_without_rtpmap_gets_none() -> None:
    part = media_part("m=audio 6000 RTP/AVP 97\n", replace(PLAIN, formats=("97",)))
    assert part == ["m=audio 30000 RTP/AVP 97", "c=IN IP4 203.0.113.10", "a=sendrecv", "a=rtcp:30001"]


def test_write_outgoing_repeated_format_is_described_once() -> None:
    part = media_part("m=audio 6000 RTP/AVP 8 8\n", replace(PLAIN, formats=("8", "8")))
    assert part[0] == "m=audio 30000 RTP/AVP 8 8"
    assert part.count("a=rtpmap:8 PCMA/8000") == 1


def test_write_outgoing_no_formats_prints_one_for_rtp_only() -> None:
    assert media_part("m=audio 6000 RTP/AVP\n", replace(PLAIN, formats=()))[0] == "m=audio 30000 RTP/AVP 0"
    assert media_part("m=application 6000 UDP/X\n", replace(OPAQUE, formats=(), protocol="UDP/X"))[0] == (
        "m=application 30000 UDP/X"
    )


def test_write_outgoing_any_byte_of_an_unknown_line_survives() -> None:
    everything = "".join(chr(code) for code in range(1, 256) if code not in (10, 13))
    assert f"a=x-{everything}" in written(HEAD + f"m=audio 6000 RTP/AVP 8\na=x-{everything}\n", PLAIN).split("\n")


def test_write_outgoing_without_media_is_refused() -> None:
    with pytest.raises(SdpRewriteError, match="Error rewriting SDP") as caught:
        written(HEAD)
    assert caught.value.detail == "the SDP has no m= line"


def test_write_outgoing_plan_of_another_length_is_refused() -> None:
    with pytest.raises(SdpRewriteError) as caught:
        written(HEAD + "m=audio 6000 RTP/AVP 8\n", PLAIN, PLAIN)
    assert caught.value.detail == "the SDP has 1 m= sections, the plan 2"
