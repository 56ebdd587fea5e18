"""What holds of every SDP: nothing is lost, nothing gets out but named refusals, and no address leaks."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from mediaproxy.errors import SdpError, SdpIncompleteError, SdpSyntaxError
from mediaproxy.net import AddressFamily
from mediaproxy.sdp import SessionDescription, SessionFacts, parse_sdp, read_facts, write_outgoing
from mediaproxy.sdp.plan import Direction, MediaPlan, Origin, SessionPlan

CHECKED = settings(max_examples=300, derandomize=True, deadline=None)

OURS = {AddressFamily.IP4: "203.0.113.10", AddressFamily.IP6: "2001:db8:aa::10"}
"""What the plans print; the generated SDP only has addresses from 192.0.2.0/24 and 2001:db8:bb::/48."""
THEIRS = re.compile(rb"192\.0\.2\.|2001:db8:bb:")

endings = st.sampled_from(["\r\n", "\n", "\r\r\n"])
words = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=12)
hosts = st.integers(1, 254)
addresses = st.one_of(
    hosts.map(lambda host: f"IN IP4 192.0.2.{host}"),
    hosts.map(lambda host: f"IN IP6 2001:db8:bb::{host:x}"),
    st.sampled_from(["IN IP4 0.0.0.0", "IN IP6 ::", "IN IP4 192.0.2.1/127"]),
)
payload_types = st.integers(0, 127).map(str)
understood = st.one_of(
    st.builds("rtpmap:{} {}/8000".format, payload_types, st.sampled_from(["PCMA", "opus", "telephone-event"])),
    st.builds("fmtp:{} {}".format, payload_types, st.sampled_from(["0-15", "a=b;c=d"])),
    st.builds("rtcp-fb:{} nack".format, st.one_of(payload_types, st.just("*"))),
    st.builds("rtcp:{} {}".format, st.integers(1, 65535), addresses),
    st.builds("candidate:1 1 udp 1 192.0.2.{} 9 typ srflx raddr 192.0.2.{} rport 9".format, hosts, hosts),
    st.builds("remote-candidates:1 192.0.2.{} 9".format, hosts),
    st.sampled_from(
        [
            "sendrecv",
            "sendonly",
            "recvonly",
            "inactive",
            "rtcp-mux",
            "mid:0",
            "label:1",
            "ptime:20",
            "maxptime:40",
            "ice-ufrag:abcd",
            "ice-pwd:secret",
            "ice-options:trickle",
            "end-of-candidates",
            "extmap:1 urn:x",
            "extmap-allow-mixed",
            "crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x",
            "fingerprint:sha-256 AA",
            "setup:actpass",
            "bundle-only",
            "group:BUNDLE 0",
            "rtpengine:0123",
            "ssrc:1 cname:x",
        ]
    ),
)
unknown = st.builds("x-{}:{}".format, st.integers(0, 999), words)
attributes = st.one_of(understood, unknown).map(lambda value: f"a={value}")
media_heads = st.one_of(
    st.builds(
        "m={} {} {} {}".format,
        st.sampled_from(["audio", "video"]),
        st.integers(0, 65535),
        st.sampled_from(["RTP/AVP", "RTP/SAVPF", "udp/tls/rtp/savpf"]),
        st.lists(payload_types, max_size=5).map(" ".join),
    ),
    st.builds("m=image {} udptl t38".format, st.integers(0, 65535)),
    st.builds("m=application {} UDP/BFCP *".format, st.integers(0, 65535)),
)
sections = st.builds(
    lambda head, connection, rest: [head, *connection, *rest],
    media_heads,
    st.lists(addresses.map(lambda value: f"c={value}"), max_size=2),
    st.lists(st.one_of(attributes, st.sampled_from(["b=AS:80", "i=x", "k=prompt", "t=0 0"])), max_size=10),
)


@st.composite
def bodies(draw: st.DrawFn, min_sections: int = 0) -> bytes:
    """SDP that parses: well-formed lines of every kind, in ordinary order, with line ends of every kind."""
    lines = ["v=0"]
    lines += draw(st.lists(st.builds("o={} 1 1 IN IP4 host.example".format, st.just("-")), max_size=1))
    lines += draw(st.lists(words.map(lambda word: f"s={word}"), max_size=1))
    lines.append("c=" + draw(addresses))
    lines += draw(st.lists(st.sampled_from(["t=0 0", "b=AS:80", "b=CT:9", "r=1 2 3", "e=a@b", "k=x"]), max_size=4))
    lines += draw(st.lists(attributes, max_size=4))
    for section in draw(st.lists(sections, min_size=min_sections, max_size=4)):
        lines += section
    body = "".join(line + draw(endings) for line in lines)
    if draw(st.booleans()):
        body = body.rstrip("\r\n")
    return body.encode("latin-1")


@st.composite
def plans(draw: st.DrawFn, facts: SessionFacts) -> SessionPlan:
    """Any plan that relays every section."""
    medias = []
    for fact in facts.medias:
        family = draw(st.sampled_from(AddressFamily))
        port = draw(st.sampled_from([0, 30000])) if fact.port else 0
        medias.append(
            MediaPlan(
                port=port,
                address=OURS[family],
                family=family,
                protocol=fact.protocol,
                formats=fact.formats,
                mid=fact.mid,
                direction=draw(st.sampled_from(Direction)) if fact.is_rtp else None,
                keep_direction=draw(st.booleans()),
                rtcp_port=30001 if fact.is_rtp else None,
                full_rtcp=draw(st.booleans()),
                rtcp_mux=draw(st.booleans()),
                ptime=fact.ptime,
                maxptime=fact.maxptime,
                extmaps=draw(st.booleans()),
                extmap_allow_mixed=draw(st.booleans()),
                secure=draw(st.booleans()),
            )
        )
    origin = Origin("-", "1", "1", "IN", "IP4", OURS[AddressFamily.IP4])
    return SessionPlan(tuple(medias), origin=origin, loop_marker=draw(st.sampled_from([None, "0123456789ab"])))


def rewritten(data: st.DataObject, body: bytes) -> tuple[SessionDescription, SessionFacts, SessionPlan, bytes]:
    sdp = parse_sdp(body)
    facts = read_facts(sdp)
    plan = data.draw(plans(facts))
    return sdp, facts, plan, write_outgoing(sdp, facts, plan)


@CHECKED
@given(bodies())
def test_parse_then_write_is_the_identity(body: bytes) -> None:
    assert parse_sdp(body).to_bytes() == body


@CHECKED
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=200).map(lambda tail: b"v=0\r\n" + tail)))
def test_any_bytes_are_parsed_or_refused_by_name(body: bytes) -> None:
    refusal = None
    try:
        sdp = parse_sdp(body)
        assert sdp.to_bytes() == body
        read_facts(sdp)
    except (SdpSyntaxError, SdpIncompleteError) as error:
        refusal = error
    assert refusal is None or refusal.detail


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A well-formed SDP with a few bytes changed, removed or put in."""
    body = bytearray(draw(bodies(min_sections=1)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(body) - 1))
        body[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
        if not body:
            break
    return bytes(body)


@CHECKED
@given(mutants())
def test_mutated_sdp_is_rewritten_or_refused_by_name(body: bytes) -> None:
    refusal = None
    try:
        sdp = parse_sdp(body)
        facts = read_facts(sdp)
        medias = tuple(
            MediaPlan(30000, OURS[AddressFamily.IP4], AddressFamily.IP4, fact.protocol, fact.formats, secure=True)
            for fact in facts.medias
        )
        out = write_outgoing(sdp, facts, SessionPlan(medias))
        assert len(parse_sdp(out).medias) == len(sdp.medias)
    except SdpError as error:
        refusal = error
    assert refusal is None or refusal.detail


@CHECKED
@given(st.data(), bodies(min_sections=1))
def test_outgoing_sdp_parses_and_says_what_was_planned(data: st.DataObject, body: bytes) -> None:
    sdp, facts, plan, out = rewritten(data, body)
    again = read_facts(parse_sdp(out))
    assert out.endswith(b"\r\n")
    assert out.count(b"\r\n") == out.count(b"\n") == out.count(b"\r")
    assert again.origin == plan.origin
    assert again.session_name == (facts.session_name or "")
    assert again.loop_markers == (() if plan.loop_marker is None else (plan.loop_marker,)) + facts.loop_markers
    assert not again.bundle_group
    assert len(again.medias) == len(sdp.medias)
    for fact, planned, heard in zip(again.medias, plan.medias, facts.medias, strict=True):
        assert fact.kind == heard.kind
        assert (fact.port, fact.port_count, fact.protocol, fact.mid) == (planned.port, 1, planned.protocol, planned.mid)
        assert fact.connection == (OURS[planned.family] if planned.port else planned.family.unspecified, planned.family)
        assert not fact.has_ice
        if fact.is_rtp and planned.port and heard.formats:
            assert fact.formats == heard.formats
            assert fact.codecs == heard.codecs
            assert fact.rtcp_mux is planned.rtcp_mux
            assert fact.rtcp is not None
            if not planned.keep_direction:
                assert fact.direction is planned.direction


@CHECKED
@given(st.data(), bodies(min_sections=1))
def test_unknown_attributes_survive_in_order(data: st.DataObject, body: bytes) -> None:
    sdp, _, plan, out = rewritten(data, body)
    again = parse_sdp(out)

    def unknown_of(values: list[str]) -> list[str]:
        return [value for value in values if value.startswith("x-")]

    assert unknown_of([line.value for line in again.lines]) == unknown_of([line.value for line in sdp.lines])
    for before, after, planned in zip(sdp.medias, again.medias, plan.medias, strict=True):
        expected = unknown_of([line.value for line in before.lines]) if planned.port else []
        assert unknown_of([line.value for line in after.lines]) == expected


@CHECKED
@given(st.data(), bodies(min_sections=1))
def test_no_address_of_the_sender_leaks(data: st.DataObject, body: bytes) -> None:
    _, _, _, out = rewritten(data, body)
    known = b"".join(line for line in out.split(b"\r\n") if not line.startswith((b"a=x-", b"s=")))
    assert THEIRS.search(known) is None
