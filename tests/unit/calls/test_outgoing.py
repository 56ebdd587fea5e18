"""What the outgoing SDP says that no golden exchange shows: the ``replace`` words and their memory."""

from __future__ import annotations

import pytest

from mediaproxy.ng.message import NgReply
from mediaproxy.ng.words import Flag, Replace
from tests.support.sessions import PUBLIC, Session, audio, media_ports, sdp_lines


def origin_of(reply: NgReply) -> list[str]:
    return next(line for line in sdp_lines(reply) if line.startswith("o="))[2:].split()


def reoffer(session: Session, body: bytes, *words: Replace) -> NgReply:
    return session.offer(body, to_tag="b", replace=frozenset(words))


def begin(body: bytes, *words: Replace) -> tuple[Session, NgReply]:
    session = Session()
    reply = session.offer(body, replace=frozenset(words))
    session.answer()
    return session, reply


def test_origin_full_shows_the_first_origin_with_our_address() -> None:
    session, _ = begin(audio(origin="anna 5 10"), Replace.ORIGIN_FULL)
    again = reoffer(session, audio(origin="phone 6 77"), Replace.ORIGIN_FULL)
    assert origin_of(again) == ["anna", "5", "10", "IN", "IP4", PUBLIC.advertised]


def test_username_stays_the_first_and_the_rest_passes() -> None:
    session, _ = begin(audio(origin="anna 5 10"), Replace.USERNAME)
    again = reoffer(session, audio(origin="phone 6 77"), Replace.USERNAME)
    assert origin_of(again) == ["anna", "6", "77", "IN", "IP4", "192.0.2.21"]


def test_session_name_stays_the_first() -> None:
    session, _ = begin(audio(), Replace.SESSION_NAME)
    again = reoffer(session, audio(origin="phone 6 77").replace(b"s=desk", b"s=other"), Replace.SESSION_NAME)
    assert "s=desk" in sdp_lines(again)
    assert origin_of(again)[:3] == ["phone", "6", "77"]


def test_forced_increment_counts_every_time() -> None:
    word = Replace.FORCE_INCREMENT_SDP_VERSION
    session, first = begin(audio(origin="anna 5 10"), word)
    versions = [origin_of(reoffer(session, audio(origin="anna 5 10"), word))[2] for _ in range(3)]
    assert (origin_of(first)[2], versions) == ("10", ["11", "12", "13"])


@pytest.mark.parametrize(("version", "shown"), [("x", "0"), ("²", "0"), ("9" * 20, "9" * 20), ("9" * 21, "0")])
def test_version_is_counted_on_from_numbers_only(version: str, shown: str) -> None:
    body = audio(origin="anna 5 10").replace(b" 10 ", f" {version} ".encode())
    assert origin_of(begin(body, Replace.SDP_VERSION)[1])[2] == shown


def test_sdp_without_origin_gets_none() -> None:
    body = audio().replace(b"o=anna 8000 8000 IN IP4 192.0.2.21\r\n", b"")
    session, first = begin(body, Replace.ORIGIN, Replace.SDP_VERSION)
    assert not any(line.startswith("o=") for line in sdp_lines(first))
    again = reoffer(session, audio(origin="anna 5 10"), Replace.SDP_VERSION)
    assert origin_of(again)[2] == "10", "there is nothing to count on from"


def test_answers_are_counted_apart_from_offers() -> None:
    session, _ = begin(audio(origin="anna 5 10"), Replace.SDP_VERSION)
    words = frozenset({Replace.SDP_VERSION})
    answered = session.answer(audio("192.0.2.77", 17000, origin="bob 1 500"), replace=words)
    assert origin_of(answered)[2] == "500"


def test_section_that_is_not_relayed_keeps_its_port_and_address() -> None:
    chat = "m=message 7777 TCP/MSRP *\r\na=path:msrp://192.0.2.21:7777/x;tcp\r\n"
    session = Session()
    reply = session.offer(audio(extra=chat))
    assert "m=message 7777 TCP/MSRP *" in sdp_lines(reply)
    assert sdp_lines(reply).count("c=IN IP4 192.0.2.21") == 1
    assert len(session.relay.open) == 4


def test_ptime_of_the_offerer_goes_back_to_it_if_the_answerer_names_none() -> None:
    session = Session()
    session.offer(audio(extra="a=ptime:30\r\n"))
    assert "a=ptime:30" in sdp_lines(session.answer())
    assert "a=ptime:20" in sdp_lines(session.answer(audio("192.0.2.77", 17000, extra="a=ptime:20\r\n")))


def test_answer_is_given_the_mid_of_the_offer() -> None:
    session = Session()
    offered = session.offer(audio(extra="a=mid:sound\r\n"))
    assert "a=mid:sound" in sdp_lines(offered)
    assert "a=mid:sound" in sdp_lines(session.answer(audio("192.0.2.77", 17000, extra="a=mid:other\r\n")))


def test_rtcp_attribute_can_be_left_out_or_written_in_full() -> None:
    session = Session()
    bare = session.offer(flags=frozenset({Flag.NO_RTCP_ATTRIBUTE}))
    assert not any(line.startswith("a=rtcp:") for line in sdp_lines(bare))
    full = session.offer(flags=frozenset({Flag.FULL_RTCP_ATTRIBUTE}))
    assert f"a=rtcp:{media_ports(full)[0] + 1} IN IP4 {PUBLIC.advertised}" in sdp_lines(full)


def test_answer_to_nothing_that_was_offered_keeps_its_formats() -> None:
    session = Session()
    session.offer(audio(formats="8"))
    lines = sdp_lines(session.answer(audio("192.0.2.77", 17000, formats="18 9")))
    assert any(line.endswith(" RTP/AVP 18 9") for line in lines)
