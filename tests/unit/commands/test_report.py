"""The corners of the report that ``query`` and ``delete`` give: what is left out, and what stands for a party."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mediaproxy.datapath import FlowReason, SsrcCounters, StreamCounters, Verdict
from mediaproxy.net import Endpoint
from mediaproxy.ng.words import EndpointLearning, Flag
from tests.support.sessions import PUBLIC, WALL_OFFSET, Session, audio, media_ports

MUX = "a=rtcp-mux\r\n"


def party(session: Session, tag: str) -> Any:
    return session.call("query")["tags"][tag]


def established(**offer_keys: object) -> tuple[Session, int]:
    """The session, and the port that the offerer was told."""
    session = Session()
    session.offer(**offer_keys)
    return session, media_ports(session.answer())[0]


def test_names_and_notes_are_reported_only_if_there_are_any() -> None:
    session, _ = established(label="desk", metadata="note", via_branch="z1")
    reply = session.call("query")
    assert reply["metadata"] == "note"
    assert reply["tags"]["a"]["label"] == "desk"
    assert "via-branch" not in reply["tags"]["a"]
    assert (reply["tags"]["b"]["via-branch"], "label" in reply["tags"]["b"]) == ("z1", False)
    plain, _ = established()
    assert "metadata" not in plain.call("query")


def test_set_label_is_preferred_to_label() -> None:
    session, _ = established(label="desk", set_label="door")
    assert party(session, "a")["label"] == "door"


def test_party_is_shown_with_the_media_of_its_answered_dialogue() -> None:
    session = Session()
    session.offer(via_branch="z1")
    session.answer(via_branch="z1")
    session.offer(audio(extra="m=video 9002 RTP/AVP 97\r\n"), via_branch="z2")
    assert len(party(session, "a")["medias"]) == 1
    assert len(party(session, "a")["subscriptions"]) == 2


def test_party_without_an_answered_dialogue_is_shown_with_its_latest() -> None:
    session = Session()
    session.offer(via_branch="z1")
    session.offer(audio(extra="m=video 9002 RTP/AVP 97\r\n"), via_branch="z2")
    assert len(party(session, "a")["medias"]) == 2


def test_media_without_a_port_has_no_streams() -> None:
    session = Session()
    session.offer(audio(extra="m=video 0 RTP/AVP 97\r\n"))
    video = party(session, "a")["medias"][1]
    assert (video["streams"], video["flags"], video["egress SSRCs"]) == ([], [], [])


def test_packets_of_an_unlisted_payload_type_name_no_codec() -> None:
    session, towards_a = established()
    ssrc = SsrcCounters(7, 1, 172, 160, 1, 0, 0, 0, 0.0, payload_type=77)
    transport = session.relay.transports[session.relay.handle_at(PUBLIC.address, towards_a)]
    transport.rtp = StreamCounters(1, 172, 0, 0, 0, session.now, (ssrc,))
    media = party(session, "a")["medias"][0]
    assert "codec" not in media
    assert [one["SSRC"] for one in media["ingress SSRCs"]] == [7]
    assert media["streams"][0]["last packet"] == int(session.now + WALL_OFFSET)


def test_one_way_media_has_the_flag_of_that_way() -> None:
    session = Session()
    session.offer(audio(direction="sendonly"))
    session.answer(audio("192.0.2.77", 17000, direction="recvonly"))
    assert party(session, "a")["medias"][0]["flags"] == ["initialized", "recv"]
    assert party(session, "b")["medias"][0]["flags"] == ["initialized", "send"]


def test_fax_flows_both_ways_whatever_its_direction() -> None:
    session = Session()
    fax = audio().replace(b"m=audio 9000 RTP/AVP 8 0 101", b"m=image 9000 udptl t38") + b"a=inactive\r\n"
    session.offer(fax)
    assert party(session, "a")["medias"][0]["flags"] == ["initialized", "send", "recv"]


def test_party_that_has_not_spoken_is_not_filled() -> None:
    session = Session()
    session.offer()
    media = session.call("query")["tags"]["<untagged 2>"]["medias"][0]
    assert media["flags"] == ["initialized"]
    stream = media["streams"][0]
    assert "filled" not in stream["flags"]
    assert "endpoint" not in stream
    assert "advertised endpoint" not in stream
    assert stream["last packet"] == 0


def test_muxed_media_says_so_on_its_rtp_stream() -> None:
    session = Session()
    session.offer(audio(extra=MUX))
    towards_a = media_ports(session.answer(audio("192.0.2.77", 17000, extra=MUX)))[0]
    media = party(session, "a")["medias"][0]
    assert "rtcp-mux" in media["flags"]
    rtp, rtcp = media["streams"]
    assert rtp["flags"][:2] == ["RTP", "RTCP"]
    assert rtcp["flags"][:2] == ["RTCP", "filled"]
    assert rtp["local port"] == rtcp["local port"] == towards_a


def test_stream_flags_tell_how_its_source_is_believed() -> None:
    flags = frozenset({Flag.ASYMMETRIC, Flag.MEDIA_HANDOVER})
    session, towards_a = established(flags=flags, endpoint_learning=EndpointLearning.IMMEDIATE)
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("198.51.100.99", 5))
    media = party(session, "a")["medias"][0]
    assert "asymmetric" in media["flags"]
    stream = media["streams"][0]
    assert stream["flags"] == ["RTP", "filled", "confirmed", "media handover"]
    assert stream["endpoint"] == stream["advertised endpoint"], "asymmetric: sent to where its SDP says"
    assert "strict source address" in party(session, "b")["medias"][0]["streams"][0]["flags"]


def test_learnt_endpoint_stands_beside_the_advertised_one() -> None:
    session, towards_a = established()
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("2001:db8::99", 5))
    stream = party(session, "a")["medias"][0]["streams"][0]
    assert stream["endpoint"] == {"family": "IPv6", "address": "2001:db8::99", "port": 5}
    assert stream["advertised endpoint"] == {"family": "IPv4", "address": "192.0.2.21", "port": 9000}


def test_port_that_several_dialogues_share_is_counted_once() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.answer(to_tag="b1", sip_code=200)
    session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200)
    session.relay.receive(PUBLIC.address, towards_b, 5, session.now)
    handle = session.relay.handle_at(PUBLIC.address, towards_b + 1)
    session.relay.transports[handle].rtcp = replace(session.relay.transports[handle].rtcp, packets=2)
    totals = session.call("query")["totals"]
    assert (totals["RTP"]["packets"], totals["RTCP"]["packets"]) == (5, 2)


def rtp_stream(session: Session, tag: str = "a") -> Any:
    return party(session, tag)["medias"][0]["streams"][0]


def test_stream_that_the_kernel_forwards_is_kernelized() -> None:
    session, port = established()
    handle = session.relay.handle_at(PUBLIC.address, port)
    session.relay.verdicts[handle] = None
    session.relay.transports[handle].rtp = StreamCounters(
        12, 12 * 172, 0, 0, 0, session.now - 9, (), kernel_packets=10, kernel_bytes=1720, last_kernel=session.now - 2,
        kernel_ups=(0, 2, 0, 0, 0, 7, 0, 0), kernel_drops=(3, 0, 0, 0),
    )  # fmt: skip
    stream, rtcp = party(session, "a")["medias"][0]["streams"]
    assert "kernelized" in stream["flags"]
    assert (stream["path"], "path reason" in stream) == ("kernel", False)
    assert stream["last kernel packet"] == stream["last packet"] == int(session.now - 2 + WALL_OFFSET)
    assert stream["last user packet"] == int(session.now - 9 + WALL_OFFSET)
    assert (stream["kernel sent up"], stream["kernel dropped"]) == ({"rtcp": 2, "mtu": 7}, {"wrong source": 3})
    assert "kernel sent up" not in rtcp
    assert "kernelized" not in rtcp["flags"]
    assert (rtcp["path"], rtcp["path reason"]) == ("userspace", "RTCP")


def test_stream_that_the_kernel_does_not_forward_says_why() -> None:
    session, port = established()
    handle = session.relay.handle_at(PUBLIC.address, port)
    for verdict, text, hopeless in (
        (Verdict(FlowReason.NOT_LEARNT), "source not learnt yet", False),
        (Verdict(FlowReason.REFUSED, "ENOMEM"), "the kernel refused: ENOMEM", False),
        (Verdict(FlowReason.NEEDS_FAMILY_CHANGE), "needs a change of IP family", True),
    ):
        session.relay.verdicts[handle] = verdict
        stream = rtp_stream(session)
        assert (stream["path"], stream["path reason"]) == ("userspace", text)
        assert ("no kernel support" in stream["flags"]) is hopeless
        assert "kernelized" not in stream["flags"]
        assert "kernel dropped" not in stream
