"""Offer and answer: who is who, which ports, and what the relay is told."""

from __future__ import annotations

import pytest

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.calls.events import EventKind
from mediaproxy.datapath import SourceEventKind, SourcePolicy
from mediaproxy.engine import EngineSettings
from mediaproxy.errors import (
    LimitReachedError,
    OutOfPortsError,
    RefusedAddressError,
    RequestError,
    SdpError,
)
from mediaproxy.interfaces import Interface
from mediaproxy.net import AddressFamily, Endpoint
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux
from tests.support.sessions import LOOP_MARKER, PRIVATE, PUBLIC, Session, audio, media_ports, sdp_lines

SMALL = Interface("pub", "203.0.113.10", "203.0.113.10", 30000, 30003)


def config_of(session: Session, port: int, address: str = PUBLIC.address):
    config = session.relay.transports[session.relay.handle_at(address, port)].config
    assert config is not None
    return config


def test_call_gets_a_pair_on_each_side_and_forwards_both_ways() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    towards_a = media_ports(session.answer())[0]
    assert towards_a != towards_b
    assert len(session.relay.open) == 4
    from_a, from_b = config_of(session, towards_a), config_of(session, towards_b)
    assert from_a.rtp_sinks == (from_b.handle,)
    assert from_b.rtp_sinks == (from_a.handle,)
    assert from_a.remote == Endpoint("192.0.2.21", 9000)
    assert from_b.remote == Endpoint("192.0.2.77", 17000)
    rtcp = config_of(session, towards_a + 1)
    assert rtcp.remote == Endpoint("192.0.2.21", 9001)
    assert rtcp.rtcp_sinks == (config_of(session, towards_b + 1).handle,)
    assert from_a.rtcp_sinks == (), "without mux nothing on the RTP port is taken for RTCP"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sdp": None}, "No SDP body in message"),
        ({"call_id": None}, "No call-id in message"),
        ({"from_tag": None}, "No from-tag in message"),
        ({"sdp": b"hello"}, "Failed to parse SDP"),
        ({"sdp": b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n"}, "Error rewriting SDP"),
        ({"sdp": b"v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4 RTP/AVP 0\r\n"}, "Incomplete SDP"),
    ],
)
def test_bad_offer_is_refused_with_the_text_that_clients_know_and_leaves_nothing(changes: dict, text: str) -> None:
    session = Session()
    request = {"sdp": audio(), "call_id": "c", "from_tag": "a"} | changes
    with pytest.raises(RequestError, match=text):
        session.handle(NgRequest("offer", **request))
    assert session.engine.calls == 0
    assert session.relay.open == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"to_tag": None}, "No to-tag in message"),
        ({"call_id": "other"}, "Unknown call-id"),
        ({"to_tag": "a"}, "Invalid dialogue association"),
    ],
)
def test_bad_answer_is_refused_with_the_text_that_clients_know(changes: dict, text: str) -> None:
    session = Session()
    session.offer()
    with pytest.raises(RequestError, match=text):
        session.handle(
            NgRequest("answer", **({"sdp": audio(), "call_id": "c", "from_tag": "a", "to_tag": "b"} | changes))
        )


def test_unknown_command_is_refused_by_its_text() -> None:
    with pytest.raises(RequestError, match=r"^Unrecognized command$"):
        Session().call("start_recording")


def test_same_offer_again_gives_the_same_bytes_and_opens_nothing() -> None:
    session = Session()
    first = session.offer()
    opened = len(session.relay.transports)
    assert session.offer() == first
    assert len(session.relay.transports) == opened
    answered = session.answer()
    assert session.answer() == answered
    assert len(session.relay.transports) == opened


@pytest.mark.parametrize("speaker", ["caller", "callee"])
def test_reinvite_from_either_side_keeps_all_ports(speaker: str) -> None:
    session = Session()
    towards_b = media_ports(session.offer())
    towards_a = media_ports(session.answer())
    if speaker == "caller":
        assert media_ports(session.offer(to_tag="b")) == towards_b
        assert media_ports(session.answer()) == towards_a
    else:
        assert media_ports(session.offer(audio("192.0.2.77", 17000), from_tag="b", to_tag="a")) == towards_a
        assert media_ports(session.answer(audio(), from_tag="b", to_tag="a")) == towards_b
    assert len(session.relay.open) == 4


def test_late_offer_with_both_tags_in_the_first_message() -> None:
    session = Session()
    towards_caller = media_ports(session.offer(audio("192.0.2.77", 17000), from_tag="callee", to_tag="caller"))
    towards_callee = media_ports(session.answer(audio(), from_tag="callee", to_tag="caller"))
    assert towards_caller != towards_callee
    assert list(session.call("query")["tags"]) == ["callee", "caller"]


def test_branches_get_ports_of_their_own_and_both_forward() -> None:
    session = Session()
    one = media_ports(session.offer(via_branch="z1"))[0]
    two = media_ports(session.offer(via_branch="z2"))[0]
    assert one != two
    assert media_ports(session.offer(via_branch="z1")) == [one]
    a_facing_one = media_ports(session.answer(via_branch="z1", to_tag="b1"))[0]
    a_facing_two = media_ports(session.answer(audio("192.0.2.78", 18000), via_branch="z2", to_tag="b2"))[0]
    assert a_facing_one != a_facing_two
    for port, towards in ((one, a_facing_one), (two, a_facing_two)):
        assert config_of(session, port).rtp_sinks == (config_of(session, towards).handle,)
        assert config_of(session, towards).remote == Endpoint("192.0.2.21", 9000)


def test_second_answer_of_an_unbranched_fork_renames_the_callee() -> None:
    session = Session()
    session.offer()
    first = media_ports(session.answer(to_tag="b1"))
    second = media_ports(session.answer(audio("192.0.2.78", 18000), to_tag="b2"))
    assert first == second
    tags = session.call("query")["tags"]
    assert list(tags) == ["a", "b2"]
    assert tags["b2"]["tag-aliases"] == ["b1"]
    assert media_ports(session.answer(to_tag="b1")) == first, "and back again"
    assert list(session.call("query")["tags"]) == ["a", "b1"]


def test_second_answer_after_a_final_one_branches_off_with_a_port_of_its_own() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    first = media_ports(session.answer(to_tag="b1", sip_code=200))[0]
    second = media_ports(session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200))[0]
    assert first != second
    assert config_of(session, towards_b).rtp_sinks == (config_of(session, second).handle,)
    assert config_of(session, second).remote == Endpoint("192.0.2.21", 9000)
    session.call("delete", from_tag="a", delete_delay=0)
    assert session.relay.open == []


def test_answer_with_an_unknown_from_tag_makes_a_dialogue() -> None:
    session = Session()
    session.offer()
    reply = session.answer(from_tag="somebody", to_tag="else")
    assert reply["result"] == "ok"
    assert set(session.call("query")["tags"]) >= {"somebody", "else"}


def test_interfaces_and_families_are_remembered() -> None:
    session = Session()
    offered = session.offer(
        from_interface="priv", to_interface="pub", address_family=AddressFamily.IP6, replace=frozenset({Replace.ORIGIN})
    )
    assert "c=IN IP6 2001:db8:aa::10" in sdp_lines(offered)
    answered = session.answer(audio("2001:db8:bb::77", 17000), replace=frozenset({Replace.ORIGIN}))
    assert "c=IN IP4 198.51.100.10" in sdp_lines(answered)
    assert sdp_lines(answered)[1] == "o=anna 8000 8000 IN IP4 198.51.100.10"
    # OpenSIPS' re-INVITE says nothing of interfaces.
    again = session.offer(to_tag="b")
    assert media_ports(again) == media_ports(offered)
    assert "c=IN IP6 2001:db8:aa::10" in sdp_lines(again)


def test_unknown_interface_warns_and_goes_on() -> None:
    reply = Session().offer(to_interface="dmz")
    assert reply["warning"] == "interface dmz is not configured, using pub"
    assert list(reply) == ["sdp", "warning", "result"]


def test_out_of_ports_leaves_the_established_call_as_it_was() -> None:
    session = Session(interfaces=(SMALL,))
    session.offer()
    session.answer()
    before = len(session.relay.open)
    with pytest.raises(OutOfPortsError, match=r"^Ran out of ports$"):
        session.offer(call_id="other")
    two_medias = audio(extra="m=video 9002 RTP/AVP 96\r\n")
    with pytest.raises(OutOfPortsError):
        session.offer(two_medias, to_tag="b")
    assert len(session.relay.open) == before
    assert session.engine.calls == 1
    assert media_ports(session.offer(to_tag="b"))


def test_half_opened_request_gives_its_pairs_back() -> None:
    session = Session(interfaces=(SMALL,))
    with pytest.raises(OutOfPortsError):
        session.offer(audio(extra="m=video 9002 RTP/AVP 96\r\n"))
    assert session.relay.open == []
    assert media_ports(session.offer())


def test_relay_without_descriptors_sends_the_sip_proxy_to_the_next_node() -> None:
    session = Session()
    session.relay.capacity = 2
    with pytest.raises(OutOfPortsError, match=r"^Ran out of ports$") as refused:
        session.offer()
    assert "descriptors" in refused.value.detail
    assert session.relay.open == []
    session.relay.capacity = 4
    session.offer()
    assert session.relay.handle_at(PUBLIC.address, 30002), "the pair that was not bound is next"


def test_busy_ports_are_passed_over() -> None:
    session = Session()
    session.relay.busy.update({(PUBLIC.address, 30000), (PUBLIC.address, 30002)})
    assert media_ports(session.offer()) == [30006]


@pytest.mark.parametrize(
    ("address", "why"),
    [("224.2.1.1", "multicast"), ("255.255.255.255", "broadcast"), ("ff02::1", "multicast")],
)
def test_sdp_that_points_at_everybody_is_refused_by_name(address: str, why: str) -> None:
    session = Session()
    with pytest.raises(RefusedAddressError, match=f"^Refused media address {address}: {why}$"):
        session.offer(audio(address))
    assert session.relay.open == []


def test_rtcp_attribute_cannot_smuggle_a_refused_address_in() -> None:
    with pytest.raises(RefusedAddressError):
        Session().offer(audio(extra="a=rtcp:5 IN IP4 224.0.0.1\r\n"))


def test_access_list_judges_addresses() -> None:
    import ipaddress  # noqa: PLC0415 - only this test speaks of networks

    policy = AddressPolicy(
        deny=[ipaddress.ip_network("10.0.0.0/8")],
        allow=[ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("0.0.0.0/0")],
        broadcasts=["192.0.2.255"],
    )
    session = Session(addresses=policy)
    session.offer(audio("10.1.2.3"), call_id="fine")
    with pytest.raises(RefusedAddressError, match="denied by the media access list"):
        session.offer(audio("10.2.3.4"))
    with pytest.raises(RefusedAddressError, match="broadcast"):
        session.offer(audio("192.0.2.255"))
    with pytest.raises(RefusedAddressError, match="not in the media access list"):
        session.offer(audio("2001:db8::1"))


def test_sip_source_address_replaces_the_sdp_address() -> None:
    session = Session()
    flags = frozenset({Flag.SIP_SOURCE_ADDRESS})
    with pytest.raises(SdpError, match="Incomplete SDP specification"):
        session.offer(flags=flags)
    session.offer(flags=flags, received_from="198.51.100.77")
    towards_a = media_ports(session.answer())[0]
    assert config_of(session, towards_a).remote == Endpoint("198.51.100.77", 9000)
    assert config_of(session, towards_a + 1).remote == Endpoint("198.51.100.77", 9001)


def test_limit_refuses_new_calls_only() -> None:
    session = Session(settings=EngineSettings(max_sessions=1))
    session.offer()
    with pytest.raises(LimitReachedError, match=r"^Parallel session limit reached$"):
        session.offer(call_id="second")
    session.offer(to_tag="b")
    session.answer()
    assert session.call("statistics", call_id=None)["statistics"]["totalstatistics"]["rejectedsessions"] == 1


def test_hold_with_zero_address_stops_sending_and_resume_starts_again() -> None:
    session = Session()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    held = session.offer(audio("0.0.0.0", direction="sendonly"), to_tag="b")
    assert "c=IN IP4 0.0.0.0" in sdp_lines(held)
    assert "a=sendonly" in sdp_lines(held)
    assert config_of(session, towards_a).remote is None
    session.answer(audio("192.0.2.77", 17000, direction="recvonly"))
    session.offer(to_tag="b")
    assert config_of(session, towards_a).remote == Endpoint("192.0.2.21", 9000)
    with_address = session.offer(audio("0.0.0.0"), to_tag="b", replace=frozenset({Replace.ZERO_ADDRESS}))
    assert "c=IN IP4 203.0.113.10" in sdp_lines(with_address)
    assert "a=sendonly" in sdp_lines(with_address)


MUX = "a=rtcp-mux\r\n"


@pytest.mark.parametrize("a_mux", [True, False])
@pytest.mark.parametrize(
    ("words", "to_b", "same_port_b", "to_a_if_b", "to_a_if_not"),
    [  # reference E.5, rows with mux offered by A
        ((), True, False, True, False),
        (("offer",), True, False, True, False),
        (("demux",), False, False, True, True),
        (("accept",), True, False, True, True),
        (("require",), True, True, True, False),
        (("reject",), True, False, False, False),
    ],
)
@pytest.mark.parametrize("b_mux", [True, False])
def test_rtcp_mux_follows_the_table(
    a_mux: bool, words: tuple[str, ...], to_b: bool, same_port_b: bool, to_a_if_b: bool, to_a_if_not: bool, b_mux: bool
) -> None:
    if not a_mux:  # reference E.5, rows without
        to_b = words in {("offer",), ("require",)}
        to_a_if_b = to_a_if_not = False
    session = Session()
    mux_words = frozenset(RtcpMux(word) for word in words)
    offered = session.offer(audio(extra=MUX if a_mux else ""), rtcp_mux=mux_words)
    lines, port = sdp_lines(offered), media_ports(offered)[0]
    assert ("a=rtcp-mux" in lines) == to_b
    assert f"a=rtcp:{port if same_port_b and to_b else port + 1}" in lines
    b_mux = b_mux and to_b
    answered = session.answer(audio("192.0.2.77", 17000, extra=MUX if b_mux else ""))
    lines, port_a = sdp_lines(answered), media_ports(answered)[0]
    expected = to_a_if_b if b_mux else to_a_if_not
    assert ("a=rtcp-mux" in lines) == expected
    assert f"a=rtcp:{port_a if expected else port_a + 1}" in lines
    # RTCP of each side goes to where the other one takes it.
    towards_b_rtcp = config_of(session, port if b_mux else port + 1).handle
    assert config_of(session, port_a if expected else port_a + 1).rtcp_sinks == (towards_b_rtcp,)


def test_mux_offered_by_b_unasked_is_not_believed() -> None:
    session = Session()
    port = media_ports(session.offer())[0]
    session.answer(audio("192.0.2.77", 17000, extra=MUX))
    assert config_of(session, port).rtcp_sinks == ()


def test_rejected_media_keeps_its_place_and_gets_no_port() -> None:
    session = Session()
    two = audio(extra="m=video 9002 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=mid:v\r\n")
    session.offer(two)
    answered = session.answer(audio("192.0.2.77", 17000, extra="m=video 0 RTP/AVP 97\r\n"))
    assert media_ports(answered)[1] == 0
    assert sdp_lines(answered)[-4:] == ["m=video 0 RTP/AVP 97", "c=IN IP4 0.0.0.0", "a=mid:v", ""]


def test_answer_with_a_section_nobody_offered_shows_it_rejected() -> None:
    session = Session()
    session.offer()
    answered = session.answer(audio("192.0.2.77", 17000, extra="m=video 5000 RTP/AVP 97\r\n"))
    assert media_ports(answered)[1] == 0
    assert len(session.relay.open) == 4


def test_formats_never_offered_are_taken_out_of_the_answer() -> None:
    session = Session()
    session.offer(audio(formats="8 0"))
    lines = sdp_lines(session.answer(audio("192.0.2.77", 17000, formats="8 18")))
    assert f"m=audio {media_ports(session.answer(audio('192.0.2.77', 17000, formats='8 18')))[0]} RTP/AVP 8" in lines


def test_same_codec_under_another_number_stays() -> None:
    session = Session()
    session.offer(audio(formats="8", extra="").replace(b"RTP/AVP 8", b"RTP/AVP 8 101"))
    body = audio("192.0.2.77", 17000, formats="8 96").replace(b"rtpmap:101", b"rtpmap:96")
    assert any(line.endswith("RTP/AVP 8 96") for line in sdp_lines(session.answer(body)))


def test_profile_is_translated_between_avp_and_avpf_and_back() -> None:
    session = Session()
    offered = session.offer(transport_protocol="RTP/AVPF")
    assert any(" RTP/AVPF " in line for line in sdp_lines(offered))
    answered = session.answer(audio("192.0.2.77", 17000, protocol="RTP/AVPF"))
    assert any(line.startswith("m=audio") and " RTP/AVP " in line for line in sdp_lines(answered))
    assert any(" RTP/AVPF " in line for line in sdp_lines(session.offer(to_tag="b"))), "remembered"


def test_secure_profile_passes_with_a_warning_where_it_can_not_be_translated() -> None:
    session = Session()
    crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"
    reply = session.offer(audio(protocol="RTP/SAVP", extra=crypto), transport_protocol="RTP/AVP")
    assert reply["warning"] == "media 1: RTP/SAVP is not translated to RTP/AVP"
    assert crypto.strip() in sdp_lines(reply)
    assert any(" RTP/SAVP " in line for line in sdp_lines(reply))


def test_switch_to_t38_and_back_keeps_the_ports() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    towards_a = media_ports(session.answer())[0]
    fax = b"v=0\r\no=- 1 2 IN IP4 192.0.2.77\r\ns=-\r\nc=IN IP4 192.0.2.77\r\nt=0 0\r\nm=image 17000 UDPTL t38\r\n"
    reply = session.offer(fax, from_tag="b", to_tag="a")
    assert f"m=image {towards_a} udptl t38" in sdp_lines(reply)
    session.answer(fax.replace(b".77", b".21"), from_tag="b", to_tag="a")
    assert config_of(session, towards_a).opaque
    assert config_of(session, towards_b).opaque
    session.offer(to_tag="b")
    session.answer()
    assert not config_of(session, towards_a).opaque


def test_sdp_with_our_own_loop_marker_comes_back_unchanged() -> None:
    session = Session()
    marked = session.offer(flags=frozenset({Flag.LOOP_PROTECT}))
    assert f"a=rtpengine:{LOOP_MARKER}" in sdp_lines(marked)
    again = session.offer(marked["sdp"], call_id="second hop", flags=frozenset({Flag.LOOP_PROTECT}))
    assert again["sdp"] == marked["sdp"]
    assert session.engine.calls == 1


def test_callee_cannot_use_our_marker_to_slip_past_us() -> None:
    session = Session()
    flags = frozenset({Flag.LOOP_PROTECT})
    session.offer(flags=flags)
    stolen = audio("192.0.2.77", 17000, extra=f"a=rtpengine:{LOOP_MARKER}\r\n")
    first = session.answer(stolen, flags=flags)
    assert first["sdp"] != stolen
    assert session.answer(first["sdp"], flags=flags)["sdp"] == first["sdp"], "the answer's second pass"


def test_learnt_source_moves_the_destination_and_locks_out_others() -> None:
    session = Session()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    local = Endpoint(PUBLIC.address, towards_a)
    nat = Endpoint("198.51.100.99", 55555)
    session.see(local, nat)
    assert config_of(session, towards_a).policy is SourcePolicy.OPEN
    assert config_of(session, towards_a).remote == nat
    session.pass_time(3.1)
    config = config_of(session, towards_a)
    assert (config.policy, config.expected, config.remote) == (SourcePolicy.LOCKED, nat, nat)
    session.engine.take_events()
    for _ in range(2):
        session.see(local, Endpoint("203.0.113.66", 1), SourceEventKind.REFUSED)
    refused = [event for event in session.engine.take_events() if event.kind is EventKind.SOURCE_REFUSED]
    assert [event.facts for event in refused] == [
        {"media": 1, "expected": str(nat), "seen": "203.0.113.66:1", "packet": "RTP"}
    ]


def test_rtpengines_looser_lock_goes_on_forwarding_strangers() -> None:
    from dataclasses import replace  # noqa: PLC0415

    settings = EngineSettings()
    settings = replace(settings, session=replace(settings.session, source_lock=False))
    session = Session(settings=settings)
    session.offer()
    towards_a = media_ports(session.answer(flags=frozenset({Flag.STRICT_SOURCE})))[0]
    towards_b = media_ports(session.offer(to_tag="b"))[0]
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("192.0.2.21", 9000))
    assert config_of(session, towards_a).policy is SourcePolicy.TRUSTING
    session.answer(flags=frozenset({Flag.STRICT_SOURCE}))
    session.see(Endpoint(PUBLIC.address, towards_b), Endpoint("192.0.2.77", 17000))
    assert config_of(session, towards_b).policy is SourcePolicy.LOCKED


def test_learning_mode_of_a_request_beats_the_configured_one() -> None:
    session = Session()
    session.offer(endpoint_learning=EndpointLearning.OFF)
    towards_a = media_ports(session.answer())[0]
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("198.51.100.99", 5))
    assert config_of(session, towards_a).remote == Endpoint("192.0.2.21", 9000)


def test_report_on_a_port_that_was_closed_meanwhile_is_ignored() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    handle = session.relay.handle_at(PUBLIC.address, towards_b)
    session.call("delete", delete_delay=0)
    from mediaproxy.datapath import PacketClass, SourceEvent  # noqa: PLC0415

    session.engine.source_seen(
        SourceEvent(SourceEventKind.SEEN, handle, PacketClass.RTP, Endpoint("192.0.2.1", 1), 0), session.now
    )
    assert session.engine.take_config_changes() == []


def test_tos_of_the_offer_counts_for_the_call_and_goes_with_the_next() -> None:
    session = Session()
    towards_b = media_ports(session.offer(tos=184))[0]
    session.answer()
    assert config_of(session, towards_b).tos == 184
    session.offer(to_tag="b")
    assert config_of(session, towards_b).tos == 0


def test_media_address_is_shown_instead_of_the_interfaces() -> None:
    lines = sdp_lines(Session().offer(media_address="198.18.9.9"))
    assert "c=IN IP4 198.18.9.9" in lines


def test_sdp_version_counts_changes_from_the_first_value() -> None:
    session = Session()
    words = frozenset({Replace.SDP_VERSION})

    def version(body: bytes) -> str:
        return sdp_lines(session.offer(body, to_tag="b", replace=words))[1].split()[2]

    first = audio(origin="anna 8000 200")
    assert sdp_lines(session.offer(first, replace=words))[1].split()[2] == "200"
    session.answer()
    assert version(first) == "200"
    assert version(audio(origin="anna 8000 201", port=9002, formats="8")) == "201"
    assert version(audio(origin="anna 8000 205", port=9002, formats="0")) == "202"
    assert version(audio(origin="anna 8000 205", port=9002, formats="0")) == "202"


def test_changed_interface_opens_a_new_pair_and_closes_the_old() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.answer()
    moved = session.offer(to_tag="b", to_interface="priv")
    assert media_ports(moved)[0] >= PRIVATE.port_min
    assert "c=IN IP4 198.51.100.10" in sdp_lines(moved)
    assert len(session.relay.open) == 4
    with pytest.raises(KeyError):
        session.relay.handle_at(PUBLIC.address, towards_b)
    # What B signalled before still holds on its new port.
    assert config_of(session, media_ports(moved)[0], PRIVATE.address).remote == Endpoint("192.0.2.77", 17000)


def test_browser_with_many_codecs_stays_within_what_the_relay_takes() -> None:
    session = Session()
    numbers = range(96, 127)
    maps = "".join(f"a=rtpmap:{number} VP8/90000\r\n" for number in numbers)
    formats = " ".join(str(number) for number in numbers)
    session.offer(audio(extra=f"m=video 5000 RTP/AVP {formats}\r\n{maps}"))
    towards_a = media_ports(session.answer(audio("192.0.2.77", 17000, extra="m=video 6000 RTP/AVP 96\r\n")))[1]
    assert len(config_of(session, towards_a).clock_rates) == 16


def test_fax_source_is_learnt_though_its_packets_are_of_no_known_class() -> None:
    from mediaproxy.datapath import PacketClass  # noqa: PLC0415

    session = Session()
    fax = b"v=0\r\no=- 1 2 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=image 17000 udptl t38\r\n"
    session.offer(fax)
    towards_a = media_ports(session.answer(fax))[0]
    nat = Endpoint("198.51.100.99", 4)
    session.see(Endpoint(PUBLIC.address, towards_a), nat, packet_class=PacketClass.OTHER)
    assert config_of(session, towards_a).remote == nat


def test_control_port_is_no_place_for_media() -> None:
    control = Endpoint("203.0.113.10", 2223)
    session = Session(addresses=AddressPolicy(control=[control]))
    with pytest.raises(RefusedAddressError, match="our own control port"):
        session.offer(audio("203.0.113.10", 2223))
    with pytest.raises(RefusedAddressError, match="our own control port"):
        session.offer(audio(extra="a=rtcp:2223 IN IP4 203.0.113.10\r\n"))
    towards_b = media_ports(session.offer())[0]
    session.answer()
    session.see(Endpoint(PUBLIC.address, towards_b), control)
    assert config_of(session, towards_b).remote == Endpoint("192.0.2.77", 17000), "a forged source neither"


@pytest.mark.parametrize(("address", "why"), [("127.0.0.1", "loopback"), ("169.254.169.254", "link-local")])
def test_near_addresses_are_refused_unless_an_interface_has_one(address: str, why: str) -> None:
    with pytest.raises(RefusedAddressError, match=why):
        Session(addresses=AddressPolicy(local=["203.0.113.10"])).offer(audio(address))
    Session(addresses=AddressPolicy(local=["127.0.0.1"])).offer(audio(address))


def test_endpoints_that_lead_back_to_the_same_call_are_refused() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.answer()
    with pytest.raises(RefusedAddressError, match="leads back to this call"):
        session.offer(audio(PUBLIC.address, towards_b), to_tag="b")


def test_loop_over_two_calls_is_refused_and_two_hops_are_not() -> None:
    session = Session()
    out = media_ports(session.offer())[0]
    # The second hop of the same call: its offer holds the first hop's port.
    second = media_ports(session.offer(audio(PUBLIC.address, out), call_id="hop"))[0]
    back = media_ports(session.answer(call_id="hop"))[0]
    towards_a = media_ports(session.answer(audio(PUBLIC.address, back)))[0]
    assert towards_a
    with pytest.raises(RefusedAddressError, match="leads back"):
        session.offer(audio(PUBLIC.address, second), to_tag="b")


def test_stray_packet_does_not_lock_out_a_party_that_keeps_to_its_sdp() -> None:
    from mediaproxy.datapath import PacketClass  # noqa: PLC0415

    session = Session()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    local, stranger = Endpoint(PUBLIC.address, towards_a), Endpoint("203.0.113.66", 1)
    session.pass_time(10.0)
    session.see(local, stranger, packet_class=PacketClass.KEEPALIVE)
    assert config_of(session, towards_a).policy is SourcePolicy.OPEN
    session.see(local, stranger)
    assert config_of(session, towards_a).policy is SourcePolicy.LOCKED
    session.see(local, Endpoint("192.0.2.21", 9000), SourceEventKind.REFUSED)
    assert config_of(session, towards_a).expected == Endpoint("192.0.2.21", 9000)


def test_asymmetric_party_is_not_locked() -> None:
    session = Session()
    session.offer(flags=frozenset({Flag.ASYMMETRIC}))
    towards_a = media_ports(session.answer())[0]
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("198.51.100.99", 5))
    session.pass_time(4.0)
    config = config_of(session, towards_a)
    assert (config.policy, config.remote) == (SourcePolicy.TRUSTING, Endpoint("192.0.2.21", 9000))


def test_answer_in_another_family_keeps_the_port_that_the_answerer_was_told() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.answer(audio("2001:db8:bb::77", 17000))
    assert session.relay.handle_at(PUBLIC.address, towards_b)
    assert len(session.relay.open) == 4


def test_hold_in_another_family_moves_nothing() -> None:
    session = Session()
    offered = session.offer(audio("2001:db8:bb::21"), to_interface="priv")
    towards_a = media_ports(session.answer())[0]
    session.offer(audio("0.0.0.0"), to_tag="b")
    answered = session.answer()
    assert media_ports(answered) == [towards_a]
    assert "c=IN IP6 2001:db8:aa::10" in sdp_lines(answered)
    assert media_ports(offered)


def test_rejected_media_stops_forwarding_and_comes_back_on_its_port() -> None:
    session = Session()
    two = audio(extra="m=video 9002 RTP/AVP 97\r\n")
    port = media_ports(session.offer(two))[1]
    session.answer(audio("192.0.2.77", 17000, extra="m=video 17002 RTP/AVP 97\r\n"))
    session.offer(audio(extra="m=video 0 RTP/AVP 97\r\n"), to_tag="b")
    config = config_of(session, port)
    assert (config.policy, config.rtp_sinks) == (SourcePolicy.CLOSED, ())
    answered = session.answer(audio("192.0.2.77", 17000, extra="m=video 17002 RTP/AVP 97\r\n"))
    assert media_ports(answered)[1] == 0, "what the offer rejected stays rejected"
    assert media_ports(session.offer(two, to_tag="b"))[1] == port


def test_sip_source_of_another_family_is_faced_in_its_family() -> None:
    session = Session()
    session.offer(flags=frozenset({Flag.SIP_SOURCE_ADDRESS}), received_from="2001:db8:cc::5")
    assert "c=IN IP6 2001:db8:aa::10" in sdp_lines(session.answer())


def test_one_call_can_not_grow_without_end() -> None:
    session = Session(interfaces=(Interface("pub", "203.0.113.10", "203.0.113.10", 30000, 39999),))
    for number in range(64):
        session.offer(from_tag=f"a{number}")
    with pytest.raises(RequestError, match="Too many dialogues"):
        session.offer(from_tag="another")
    for number in range(100):
        session.answer(from_tag="a0", to_tag=f"b{number}")
    assert len(session.call("query")["tags"]["b99"]["tag-aliases"]) == 32
    with pytest.raises(RequestError, match="Invalid dialogue association"):
        session.offer(to_tag="a")


def test_two_branches_that_reach_one_phone_share_its_monologue() -> None:
    session = Session()
    session.offer(via_branch="z1")
    session.offer(via_branch="z2")
    session.answer(via_branch="z1")
    session.answer(via_branch="z2")
    assert list(session.call("query")["tags"]) == ["a", "b"]
    session.call("delete", from_tag="b", delete_delay=0)
    assert session.relay.open == []


def test_other_addresses_of_an_interface_serve_when_the_first_is_used_up() -> None:
    second = Interface("pub", "203.0.113.11", "203.0.113.11", 30000, 30003)
    session = Session(interfaces=(SMALL, second))
    session.offer(call_id="one")
    offered = session.offer(call_id="two")
    assert "c=IN IP4 203.0.113.11" in sdp_lines(offered)
    assert session.offer(call_id="two") == offered


def test_answer_with_an_unknown_from_tag_is_relayed() -> None:
    session = Session()
    session.offer()
    first = session.answer(from_tag="x", to_tag="y")
    assert media_ports(first) != [0]
    assert media_ports(session.answer(from_tag="x", to_tag="y")) == media_ports(first)


def test_version_longer_than_any_number_is_not_counted_on() -> None:
    session = Session()
    words = frozenset({Replace.SDP_VERSION})
    reply = session.offer(audio(origin=f"anna 1 {'9' * 5000}"), replace=words)
    assert sdp_lines(reply)[1].split()[2] == "0"


def test_interface_change_within_a_branched_answer_leaks_nothing() -> None:
    session = Session()
    session.offer()
    session.answer(to_tag="b1", sip_code=200)
    session.answer(audio("2001:db8:bb::78", 18000), to_tag="b2", sip_code=200)
    session.answer(to_tag="b1", sip_code=200)
    session.call("delete", from_tag="a", delete_delay=0)
    assert session.relay.open == []
    assert session.engine.calls == 0


def test_shared_port_goes_on_serving_the_branch_that_is_left() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    first = media_ports(session.answer(to_tag="b1", sip_code=200))[0]
    session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200)
    session.call("delete", from_tag="b2", delete_delay=0)
    config = config_of(session, towards_b)
    assert config.remote == Endpoint("192.0.2.77", 17000)
    assert config.rtp_sinks == (config_of(session, first).handle,)


def test_refused_branch_leaves_the_shared_port_alone() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.answer(to_tag="b1", sip_code=200)
    before = config_of(session, towards_b)
    with pytest.raises(RefusedAddressError):
        session.answer(audio("224.0.0.1"), to_tag="b2", sip_code=200)
    session.pass_time(4.0)
    assert config_of(session, towards_b).rtp_sinks == before.rtp_sinks


def test_translation_of_the_profile_outlives_a_fax() -> None:
    session = Session()
    session.offer(transport_protocol="RTP/AVPF")
    session.answer(audio("192.0.2.77", 17000, protocol="RTP/AVPF"))
    fax = b"v=0\r\no=- 1 2 IN IP4 192.0.2.21\r\ns=-\r\nc=IN IP4 192.0.2.21\r\nt=0 0\r\nm=image 9000 udptl t38\r\n"
    session.offer(fax, to_tag="b")
    session.answer(fax.replace(b".21", b".77"))
    assert any(" RTP/AVPF " in line for line in sdp_lines(session.offer(to_tag="b")))
    back = session.offer(audio("192.0.2.77", 17000, protocol="RTP/AVPF"), from_tag="b", to_tag="a")
    assert any(" RTP/AVP " in line for line in sdp_lines(back))


def test_generated_mid_avoids_those_that_are_taken() -> None:
    body = audio(extra="m=video 9002 RTP/AVP 97\r\na=mid:1\r\n")
    lines = sdp_lines(Session().offer(body, flags=frozenset({Flag.GENERATE_MID})))
    assert [line for line in lines if line.startswith("a=mid")] == ["a=mid:3", "a=mid:1"]


def test_learnt_source_is_told_when_it_is_not_where_sdp_said() -> None:
    session = Session()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("198.51.100.99", 5))
    session.engine.take_events()
    session.pass_time(3.5)
    facts = [event.facts for event in session.engine.take_events() if event.kind is EventKind.LEARNT]
    assert facts == [{"media": 1, "signalled": "192.0.2.21:9000", "learnt": "198.51.100.99:5"}]
