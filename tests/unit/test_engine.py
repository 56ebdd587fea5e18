"""The core's face: what goes in, what comes out, and that both are handed over once."""

from __future__ import annotations

import pytest

from mediaproxy.calls.events import EventKind
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.datapath import (
    FlowReason,
    PacketClass,
    SourceEventKind,
    SourcePolicy,
    TransportConfig,
    TransportHandle,
    Verdict,
)
from mediaproxy.datapath.kernel_path import PathChange
from mediaproxy.engine import EngineSettings
from mediaproxy.errors import RequestError
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import EndpointLearning
from tests.support.sessions import PUBLIC, Session, audio, media_ports

A, STRANGER = Endpoint("192.0.2.21", 9000), Endpoint("203.0.113.66", 1)


def established(**offer_keys: object) -> tuple[Session, Endpoint]:
    """A call, and where the offerer sends its media."""
    session = Session()
    session.offer(**offer_keys)
    return session, Endpoint(PUBLIC.address, media_ports(session.answer())[0])


def config_at(session: Session, local: Endpoint) -> TransportConfig:
    config = session.relay.transports[session.relay.handle_at(local.address, local.port)].config
    assert config is not None
    return config


def test_ping_is_answered_by_pong() -> None:
    assert Session().call("ping", call_id=None) == {"result": "pong"}


@pytest.mark.parametrize("command", ["", "Offer", "start recording"])
def test_command_that_is_not_ours_is_refused(command: str) -> None:
    with pytest.raises(RequestError, match=r"^Unrecognized command$"):
        Session().call(command)


def test_changes_and_events_are_taken_once() -> None:
    session = Session()
    session.engine.handle(NgRequest("offer", sdp=audio(), call_id="c", from_tag="a"), session.now)
    assert len(session.engine.take_config_changes()) == 4
    assert session.engine.take_config_changes() == []
    assert [event.kind for event in session.engine.take_events()] == [EventKind.CREATED, EventKind.OFFERED]
    assert session.engine.take_events() == []


def test_warning_of_a_reply_is_an_event_too() -> None:
    session = Session()
    session.offer(to_interface="dmz")
    (warning,) = (event for event in session.engine.take_events() if event.kind is EventKind.WARNING)
    assert warning.facts == {"text": "interface dmz is not configured, using pub"}


def test_no_new_call_is_accepted_with_a_limit_of_zero() -> None:
    session = Session(settings=EngineSettings(max_sessions=0))
    with pytest.raises(RequestError, match=r"^Parallel session limit reached$"):
        session.offer()


def test_calls_are_spread_over_groups() -> None:
    session = Session()
    for number in range(3):
        session.offer(call_id=f"c{number}")
    assert [call.group for call in session.engine._table.values()] == [0, 1, 2]


def test_deadline_is_that_of_the_earliest_call() -> None:
    session = Session()
    assert session.engine.next_deadline() is None
    session.offer()
    session.now += 1.0
    session.offer(call_id="later")
    assert session.engine.next_deadline() == 1003.0


def test_burst_of_deadlines_is_worked_off_in_turns() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(offer=10.0)))
    rejected = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n"
    for number in range(300):
        session.offer(rejected, call_id=f"c{number}")
    session.now += 10.0
    session.engine.expire(session.now)
    assert session.engine.calls == 300 - 256
    assert session.engine.next_deadline() is not None
    session.engine.expire(session.now)
    assert session.engine.calls == 0
    assert session.engine.next_deadline() is None


def test_turn_without_time_ends_one_call_and_leaves_the_others_to_the_next() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(offer=10.0)))
    for number in range(3):
        session.offer(call_id=f"c{number}")
    session.now += 10.0
    session.engine.expire(session.now, lambda: False)
    assert session.engine.calls == 2
    deadline = session.engine.next_deadline()
    assert deadline is not None
    assert deadline <= session.now
    session.engine.expire(session.now)
    assert session.engine.calls == 0


def test_expire_before_the_deadline_does_nothing() -> None:
    session, local = established()
    session.engine.expire(session.now)
    assert session.engine.take_config_changes() == []
    assert config_at(session, local).policy is SourcePolicy.OPEN


def test_source_that_media_must_not_be_sent_to_is_not_learnt() -> None:
    session, local = established()
    session.see(local, Endpoint("224.0.0.1", 9000))
    assert config_at(session, local).remote == A


def test_source_that_leads_back_is_not_learnt() -> None:
    session, local = established()
    towards_b = 30002
    session.see(local, Endpoint(PUBLIC.address, towards_b))
    assert config_at(session, local).remote == A


def test_packet_of_no_known_class_says_nothing_about_a_party_that_speaks_rtp() -> None:
    session, local = established()
    session.see(local, STRANGER, packet_class=PacketClass.OTHER)
    assert config_at(session, local).remote == A
    session.see(local, STRANGER, packet_class=PacketClass.STUN)
    assert config_at(session, local).remote == STRANGER, "a sign of life is sent to"


def test_report_that_changes_nothing_tells_the_relay_nothing() -> None:
    session, local = established()
    session.see(local, A)
    config = config_at(session, local)
    session.see(local, A)
    assert config_at(session, local) is config


def test_late_report_of_a_refused_source_is_no_news_while_listening() -> None:
    session, local = established()
    session.engine.take_events()
    session.see(local, STRANGER, SourceEventKind.REFUSED)
    assert session.engine.take_events() == []


def test_immediate_learning_is_told_at_once() -> None:
    session, local = established(endpoint_learning=EndpointLearning.IMMEDIATE)
    session.engine.take_events()
    session.see(local, STRANGER)
    (learnt,) = session.engine.take_events()
    assert (learnt.kind, learnt.facts["learnt"]) == (EventKind.LEARNT, str(STRANGER))


def test_change_of_path_becomes_an_event_of_the_call() -> None:
    session, local = established()
    handle = session.relay.handle_at(local.address, local.port)
    rtcp = session.relay.handle_at(local.address, local.port + 1)
    session.engine.take_events()
    for change in (
        PathChange(handle, None),
        PathChange(handle, Verdict(FlowReason.REFUSED, "ENOMEM")),
        PathChange(handle, Verdict(FlowReason.NOT_LEARNT)),
        PathChange(rtcp, Verdict(FlowReason.RTCP)),
        PathChange(TransportHandle(999), None),
    ):
        session.engine.path_changed(change)
    where = {"media": 1, "port": local.port}
    assert [(event.kind, event.facts) for event in session.engine.take_events()] == [
        (EventKind.PATH, where | {"path": "kernel"}),
        (EventKind.PATH, where | {"path": "userspace", "reason": "the kernel refused: ENOMEM"}),
        (EventKind.PATH_DETAIL, where | {"path": "userspace", "reason": "source not learnt yet"}),
    ]
