"""The commands that end, report on and count calls; and what time alone brings about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.calls.events import EventKind
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.engine import EngineSettings
from mediaproxy.errors import RequestError
from mediaproxy.ng.words import Flag
from tests.support.sessions import PUBLIC, WALL_OFFSET, Session, audio, media_ports

WARNING = "Call-ID not found or tags didn't match"


def established(**timeouts: float) -> tuple[Session, int, int]:
    session = Session(settings=EngineSettings(timeouts=replace(Timeouts(), **timeouts)))
    towards_b = media_ports(session.offer())[0]
    towards_a = media_ports(session.answer())[0]
    return session, towards_a, towards_b


def closed_reasons(session: Session) -> list[object]:
    return [event.facts["reason"] for event in session.engine.take_events() if event.kind is EventKind.CLOSED]


@pytest.mark.parametrize("keys", [{"from_tag": "a"}, {"from_tag": "b"}, {}, {"from_tag": "a", "to_tag": "b"}])
def test_delete_by_any_tag_or_none_ends_the_call_after_its_delay(keys: dict[str, str]) -> None:
    session, _, _ = established(delete_delay=30.0)
    reply = session.call("delete", **keys)
    assert reply["result"] == "ok"
    assert "totals" in reply
    assert session.engine.calls == 1, "ports stay open for late packets"
    assert session.call("query")["result"] == "ok"
    session.pass_time(30.0)
    assert session.engine.calls == 0
    assert session.relay.open == []
    assert closed_reasons(session) == ["deleted"]


def test_delete_without_delay_is_at_once_also_as_a_second_delete() -> None:
    session, _, _ = established(delete_delay=30.0)
    session.call("delete", from_tag="a")
    session.call("delete", from_tag="a", delete_delay=0)
    assert session.engine.calls == 0
    assert session.relay.open == []


def test_delete_of_what_is_not_there_is_a_success_with_a_warning() -> None:
    session, _, _ = established()
    assert session.call("delete", call_id="other") == {"warning": WARNING, "result": "ok"}
    assert session.call("delete", from_tag="nobody") == {"warning": WARNING, "result": "ok"}
    with pytest.raises(RequestError, match="not found"):
        session.call("delete", call_id="other", flags=frozenset({Flag.FATAL}))
    assert session.engine.calls == 1


def test_fast_delete_reports_nothing() -> None:
    session, _, _ = established()
    assert session.call("delete", flags=frozenset({Flag.FAST})) == {"result": "ok"}


def test_offer_revives_a_call_in_its_delete_delay() -> None:
    session, _, towards_b = established(delete_delay=30.0)
    session.call("delete", from_tag="a")
    session.pass_time(10.0)
    assert media_ports(session.offer(to_tag="b")) == [towards_b]
    session.pass_time(31.0)
    assert session.engine.calls == 1


def test_delete_of_one_branch_leaves_the_others() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=5.0)))
    session.offer(via_branch="z1")
    kept = media_ports(session.offer(via_branch="z2"))
    session.call("delete", from_tag="a", via_branch="z1")
    session.pass_time(5.1)
    assert len(session.relay.open) == 4
    assert media_ports(session.offer(via_branch="z2")) == kept
    session.call("delete", from_tag="a", via_branch="z2", delete_delay=0)
    assert session.engine.calls == 0


def test_delete_by_a_branch_that_nobody_has_goes_by_the_tag() -> None:
    session, _, _ = established(delete_delay=0.0)
    session.call("delete", from_tag="a", via_branch="z9")
    assert session.engine.calls == 0


def test_to_tag_is_honoured_with_its_flag_only() -> None:
    session, _, _ = established(delete_delay=0.0)
    flags = frozenset({Flag.TO_TAG})
    assert "warning" in session.call("delete", from_tag="a", to_tag="nobody", flags=flags)
    assert session.engine.calls == 1
    assert "warning" not in session.call("delete", from_tag="a", to_tag="nobody")
    assert session.engine.calls == 0


def test_to_tag_of_a_callee_that_never_answered_is_matched_by_the_caller() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=0.0)))
    session.offer()
    session.call("delete", from_tag="a", to_tag="b", flags=frozenset({Flag.TO_TAG}))
    assert session.engine.calls == 0


def test_thousand_calls_leave_no_port_behind() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=0.0)))
    for number in range(1000):
        session.offer(call_id=f"c{number}")
        session.answer(call_id=f"c{number}")
        session.call("delete", call_id=f"c{number}", from_tag="a")
    assert session.engine.calls == 0
    assert session.relay.open == []
    interfaces = session.call("statistics")["statistics"]["interfaces"]
    assert [interface["ports"]["used"] for interface in interfaces] == [0, 0, 0]
    session.pass_time(100.0)


def test_query_has_the_tree_that_sip_proxies_read() -> None:
    session, towards_a, _ = established()
    session.relay.receive(PUBLIC.address, towards_a, 50, session.now, ssrc=4369)
    reply = session.call("query")
    assert reply["created"] == int(WALL_OFFSET + 1000.0)
    assert reply["SSRC"]["4369"]["packets"] == 50
    assert reply["totals"] == {
        "RTP": {"packets": 50, "bytes": 8600, "errors": 0},
        "RTCP": {"packets": 0, "bytes": 0, "errors": 0},
    }
    party = reply["tags"]["a"]
    assert party["subscriptions"] == [{"tag": "b", "type": "offer/answer"}]
    media = party["medias"][0]
    assert (media["index"], media["type"], media["protocol"], media["codec"]) == (1, "audio", "RTP/AVP", "PCMU/8000")
    assert media["flags"] == ["initialized", "send", "recv"]
    rtp, rtcp = media["streams"]
    assert rtp["local port"] == towards_a
    assert rtp["SSRC"] == 4369
    assert rtp["endpoint"] == {"family": "IPv4", "address": "192.0.2.21", "port": 9000}
    assert rtp["stats"] == {"packets": 50, "bytes": 8600, "errors": 0}
    assert rtp["flags"][:2] == ["RTP", "filled"]
    assert rtcp["local port"] == towards_a + 1
    assert reply["tags"]["b"]["medias"][0]["egress SSRCs"][0]["SSRC"] == 4369
    assert list(reply)[-1] == "result"


def test_query_filters_by_tag_and_names_unknown_calls() -> None:
    session, _, _ = established()
    session.offer(from_tag="x", via_branch="other")
    assert list(session.call("query", from_tag="a")["tags"]) == ["a", "b"]
    assert session.call("query", from_tag="nobody")["tags"] == {}
    assert set(session.call("query")["tags"]) == {"a", "b", "x", "<untagged 4>"}
    with pytest.raises(RequestError, match=r"^Unknown call-id$"):
        session.call("query", call_id="other")
    with pytest.raises(RequestError, match=r"^No call-id in message$"):
        session.call("query", call_id=None)


def test_list_is_limited() -> None:
    session = Session(interfaces=(replace(PUBLIC, port_max=30999),))
    for number in range(40):
        session.offer(call_id=f"c{number}")
    assert len(session.call("list")["calls"]) == 32
    assert session.call("list", limit=2)["calls"] == ["c0", "c1"]
    assert session.call("list", limit=0)["calls"] == []
    with pytest.raises(RequestError, match=r"^invalid limit, must be >= 0$"):
        session.call("list", limit=-1)


def test_statistics_counts_what_ended_and_how() -> None:
    session, towards_a, _ = established(delete_delay=0.0)
    session.relay.receive(PUBLIC.address, towards_a, 10, session.now)
    session.now += 8
    session.call("delete", from_tag="a")
    totals = session.call("statistics")["statistics"]["totalstatistics"]
    assert totals["managedsessions"] == totals["regularterminatedsessions"] == 1
    assert (totals["zerowaystreams"], totals["onewaystreams"]) == (0, 1)
    assert totals["avgcallduration"] == "8.000000"
    assert totals["relayedpackets"] == 10


def test_silent_call_times_out_and_one_live_stream_keeps_it() -> None:
    session, towards_a, _ = established(media=60.0)
    session.pass_time(50.0)
    session.relay.receive(PUBLIC.address, towards_a, 1, session.now)
    session.pass_time(59.0)
    assert session.engine.calls == 1
    session.pass_time(2.0)
    assert session.engine.calls == 0
    assert closed_reasons(session) == ["media timeout"]


def test_call_on_hold_lives_by_the_silent_timeout() -> None:
    session, _, _ = established(media=60.0, silent=600.0)
    session.offer(audio(direction="inactive"), to_tag="b")
    session.answer(audio("192.0.2.77", 17000, direction="inactive"))
    session.pass_time(500.0)
    assert session.engine.calls == 1
    session.pass_time(101.0)
    assert closed_reasons(session) == ["silent timeout"]


def test_unanswered_offer_ends_by_its_own_timeout() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(media=60.0, offer=180.0)))
    session.offer()
    session.pass_time(179.0)
    assert session.engine.calls == 1
    session.pass_time(2.0)
    assert closed_reasons(session) == ["offer timeout"]


def test_final_timeout_ends_any_call() -> None:
    session, towards_a, _ = established(final=100.0)
    for _ in range(4):
        session.relay.receive(PUBLIC.address, towards_a, 1, session.now)
        session.pass_time(24.0)
    assert session.engine.calls == 1
    session.pass_time(5.0)
    assert closed_reasons(session) == ["final timeout"]


def test_shutdown_closes_all_calls() -> None:
    session, _, _ = established()
    session.offer(call_id="second")
    session.engine.close_all(session.now)
    assert session.relay.open == []
    assert closed_reasons(session) == ["shutdown", "shutdown"]


def test_clock_change_moves_the_dates_of_new_reports_only() -> None:
    session, _, _ = established()
    session.engine.set_wall_offset(WALL_OFFSET + 3600)
    reply = session.call("query")
    assert reply["created"] == int(WALL_OFFSET + 1000.0)
    assert reply["last signal"] == int(WALL_OFFSET + 3600 + 1000.0)


def test_branches_deleted_at_different_times_end_at_their_own() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=30.0)))
    one = media_ports(session.offer(via_branch="z1"))[0]
    two = media_ports(session.offer(via_branch="z2"))[0]
    session.call("delete", from_tag="a", via_branch="z1")
    session.now += 10.0
    session.call("delete", from_tag="a", via_branch="z2")
    session.pass_time(20.5)
    assert session.engine.next_deadline() == 1040.0, "nothing is left that was due"
    with pytest.raises(KeyError):
        session.relay.handle_at(PUBLIC.address, one)
    assert session.relay.handle_at(PUBLIC.address, two)
    session.pass_time(10.0)
    assert session.engine.calls == 0


def test_delete_without_delay_of_one_branch_leaves_the_others_their_delay() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=30.0)))
    one = media_ports(session.offer(via_branch="z1"))[0]
    session.offer(via_branch="z2")
    session.call("delete", from_tag="a", via_branch="z1")
    session.call("delete", from_tag="a", via_branch="z2", delete_delay=0)
    assert session.relay.handle_at(PUBLIC.address, one)


def test_callees_bye_takes_the_branches_that_lost_along() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(delete_delay=0.0)))
    session.offer(via_branch="z1")
    session.offer(via_branch="z2")
    session.answer(via_branch="z1")
    session.call("delete", from_tag="b")
    assert session.engine.calls == 0


def test_late_answer_does_not_revive_a_deleted_call() -> None:
    session, _, _ = established(delete_delay=30.0)
    session.call("delete", from_tag="a")
    session.now += 5.0
    session.answer()
    session.pass_time(26.0)
    assert session.engine.calls == 0


def test_signalling_does_not_put_off_other_deadlines() -> None:
    session, _, _ = established(final=10.0)
    for _ in range(10):
        session.pass_time(2.0)
        if session.engine.calls:
            session.offer(to_tag="b")
    assert closed_reasons(session)[0] == "final timeout"


@pytest.mark.parametrize(("address", "direction"), [("192.0.2.21", "inactive"), ("0.0.0.0", None)])
def test_hold_by_one_side_is_enough_for_the_silent_timeout(address: str, direction: str | None) -> None:
    session, _, _ = established(media=60.0, silent=600.0)
    session.offer(audio(address, direction=direction), to_tag="b")
    session.answer(audio("192.0.2.77", 17000, direction="recvonly" if direction is None else None))
    session.pass_time(100.0)
    assert session.engine.calls == 1


def test_totals_do_not_go_back_when_mux_settles() -> None:
    session = Session()
    mux = "a=rtcp-mux\r\n"
    towards_b = media_ports(session.offer(audio(extra=mux)))[0]
    handle = session.relay.handle_at(PUBLIC.address, towards_b + 1)
    session.relay.transports[handle].rtcp = replace(session.relay.transports[handle].rtcp, packets=5)
    session.answer(audio("192.0.2.77", 17000, extra=mux))
    assert session.call("query")["totals"]["RTCP"]["packets"] == 5
