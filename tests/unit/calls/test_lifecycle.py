"""Birth and death of calls: what is told and counted, and which deadlines are kept."""

from __future__ import annotations

from mediaproxy.calls.events import CallEvent, EventKind
from mediaproxy.calls.latching import WINDOW
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.datapath import SourcePolicy
from mediaproxy.engine import EngineSettings
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgReply
from tests.support.sessions import PUBLIC, Session, audio, media_ports

VIDEO = "m=video 9002 RTP/AVP 97\r\n"
NO_VIDEO = "m=video 0 RTP/AVP 97\r\n"


def session_with(**timeouts: float) -> Session:
    return Session(settings=EngineSettings(timeouts=Timeouts(**timeouts)))


def events_of(session: Session, kind: EventKind) -> list[CallEvent]:
    return [event for event in session.engine.take_events() if event.kind is kind]


def ways(session: Session) -> tuple[int, int]:
    """Streams that carried nothing, and in one direction only."""
    totals = session.engine._context.totals
    return totals.zero_way, totals.one_way


def test_signalling_wakes_the_call_when_the_learning_window_ends() -> None:
    session = session_with()
    session.offer()
    assert session.engine.next_deadline() == session.now + WINDOW


def test_deadline_that_comes_earlier_stays_when_somebody_signals() -> None:
    session = session_with(final=5.0)
    session.offer()
    session.pass_time(4.0)
    assert session.engine.next_deadline() == 1005.0
    session.answer()
    assert session.engine.next_deadline() == 1005.0


def test_call_is_looked_at_for_its_windows_then_for_its_timeouts() -> None:
    session = session_with(media=60.0)
    session.offer()
    session.now += 1.0
    session.answer()
    session.pass_time(WINDOW)
    assert session.engine.next_deadline() == 1061.0


def test_closing_tells_how_long_and_how_much() -> None:
    session = session_with(delete_delay=0.0)
    session.offer()
    towards_a = media_ports(session.answer())[0]
    session.relay.receive(PUBLIC.address, towards_a, 10, session.now)
    session.now += 2.5
    session.call("delete")
    (closed,) = events_of(session, EventKind.CLOSED)
    assert closed.call_id == "c"
    assert closed.facts == {
        "reason": "deleted", "duration": 2.5, "rtp_packets": 10, "rtp_bytes": 1720, "rtcp_packets": 0, "errors": 0,
    }  # fmt: skip


def test_scheduled_deletion_is_told_and_an_immediate_one_is_not() -> None:
    session = session_with(delete_delay=30.0)
    session.offer()
    session.call("delete")
    (scheduled,) = events_of(session, EventKind.DELETE_SCHEDULED)
    assert scheduled.facts == {"delay": 30.0, "dialogues": 1}
    session.call("delete", delete_delay=-1)
    assert events_of(session, EventKind.DELETE_SCHEDULED) == []
    assert session.engine.calls == 0


def test_ways_are_counted_for_each_media_that_was_agreed_on() -> None:
    session = session_with(delete_delay=0.0)
    session.offer(audio(extra=VIDEO))
    ports = media_ports(session.answer(audio("192.0.2.77", 17000, extra=VIDEO)))
    session.relay.receive(PUBLIC.address, ports[1], 1, session.now)
    session.call("delete")
    assert ways(session) == (1, 1)


def test_ways_of_a_rejected_media_are_not_counted() -> None:
    session = session_with(delete_delay=0.0)
    session.offer(audio(extra=VIDEO))
    session.answer(audio("192.0.2.77", 17000, extra=NO_VIDEO))
    session.call("delete")
    assert ways(session) == (1, 0)


def test_ways_of_a_branch_that_nobody_answered_are_not_counted() -> None:
    session = session_with(delete_delay=0.0)
    session.offer()
    session.call("delete")
    assert ways(session) == (0, 0)


def test_deleted_branch_counts_its_ways_when_its_ports_go() -> None:
    session = session_with(delete_delay=5.0)
    session.offer(via_branch="z1")
    session.answer(via_branch="z1")
    session.offer(via_branch="z2")
    session.call("delete", from_tag="a", via_branch="z1")
    assert ways(session) == (0, 0)
    session.pass_time(5.0)
    assert ways(session) == (1, 0)
    assert session.engine.calls == 1


def test_media_without_ports_has_no_window() -> None:
    session = session_with()
    session.offer(audio(extra=NO_VIDEO))
    session.pass_time(WINDOW)
    assert session.engine.calls == 1


def test_source_where_sdp_said_is_not_worth_telling() -> None:
    session = session_with()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    session.see(Endpoint(PUBLIC.address, towards_a), Endpoint("192.0.2.21", 9000))
    session.pass_time(WINDOW)
    assert events_of(session, EventKind.LEARNT) == []


def test_second_windows_end_is_waited_for_when_the_first_one_ended() -> None:
    session = session_with()
    first: NgReply = session.offer(via_branch="z1")
    session.now += 1.0
    session.offer(via_branch="z2")
    local = Endpoint(PUBLIC.address, media_ports(first)[0] - 2)
    session.see(local, Endpoint("198.51.100.99", 5))
    session.pass_time(WINDOW - 1.0)
    assert [event.facts["learnt"] for event in events_of(session, EventKind.LEARNT)] == ["198.51.100.99:5"]
    assert session.engine.next_deadline() == 1001.0 + WINDOW


def test_window_of_a_shared_port_ends_for_the_branch_that_it_serves() -> None:
    session = session_with()
    towards_b = media_ports(session.offer())[0]
    session.answer(to_tag="b1", sip_code=200)
    session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200)
    session.see(Endpoint(PUBLIC.address, towards_b), Endpoint("198.51.100.99", 5))
    session.pass_time(WINDOW)
    config = session.relay.transports[session.relay.handle_at(PUBLIC.address, towards_b)].config
    assert config is not None
    assert config.policy is SourcePolicy.LOCKED
