from __future__ import annotations

import json

import bencodepy
import pytest

from mediaproxy.errors import LimitReachedError, RequestError, SdpSyntaxError, UnknownCallError
from mediaproxy.listeners.control import MAX_UDP_REPLY
from mediaproxy.listeners.events import ControlEventKind
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.stats.control import OTHER_COMMANDS, Drop
from tests.unit.listeners.fakes import Bench

PING = b"d7:command4:pinge"


def raising(error: Exception) -> Bench:
    """A dispatcher whose engine raises this."""

    def answer(_request: NgRequest) -> NgReply:
        raise error

    return Bench(answer)


def test_ping_is_answered_in_the_encoding_of_the_request() -> None:
    bench = Bench()
    assert bench.ask(PING, b"1") == b"d6:result4:ponge"
    assert bench.ask(b'{"command":"ping"}', b"2") == b'{"result":"pong"}'
    assert [request.command for request in bench.handler.requests] == ["ping", "ping"]
    assert bench.handler.requests[0].control_peer == "192.0.2.1"


@pytest.mark.parametrize("datagram", [b"", b" ", b"x", b" d7:command4:pinge", b"\xff" * 2000])
def test_datagram_without_a_cookie_is_dropped_and_counted(datagram: bytes) -> None:
    bench = Bench()
    assert bench.dispatcher.handle_datagram(datagram, "192.0.2.1", 1.0) is None
    assert bench.counters.drops[Drop.NO_COOKIE] == 1
    assert bench.handler.requests == []


def test_garbage_is_named_once_for_each_peer() -> None:
    bench = Bench()
    for peer in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        bench.dispatcher.handle_datagram(b"garbage", peer, 1.0)
    assert [event.facts["peer"] for event in bench.events_of(ControlEventKind.NOT_NG)] == ["192.0.2.1", "192.0.2.2"]
    assert bench.counters.drops[Drop.NO_COOKIE] == 3


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid data (no payload)"),
        (b"hello", "Invalid NG data format"),
        (b"d7:comma", "Could not decode bencode dictionary"),
        (b"d1:a1:be", 'Dictionary contains no key "command"'),
        (b"d7:commandi5ee", 'Dictionary contains no key "command"'),
    ],
)
def test_unreadable_request_gets_the_known_error_bencoded(payload: bytes, reason: str) -> None:
    bench = Bench()
    reply = bencodepy.decode(bench.ask(payload))
    assert reply[b"result"] == b"error"
    assert reply[b"error-reason"] == reason.encode()
    assert bench.handler.requests == []
    assert bench.counters.peers["192.0.2.1"].commands[OTHER_COMMANDS].errors == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"command":', "Failed to parse JSON document"),
        (b'{"a":1}', 'Dictionary contains no key "command"'),
        (b'{"command":5}', 'Dictionary contains no key "command"'),
    ],
)
def test_unreadable_json_gets_the_known_error_in_json(payload: bytes, reason: str) -> None:
    reply = json.loads(Bench().ask(payload) or b"")
    assert list(reply)[:2] == ["result", "error-reason"]
    assert (reply["result"], reply["error-reason"]) == ("error", reason)


def test_repeated_cookie_gets_the_same_bytes_without_a_second_execution() -> None:
    bench = Bench()
    first = bench.ask(PING)
    # Another body, another command, even another encoding: the cookie decides (reference A.2).
    assert bench.ask(b'{"command":"delete"}') == first
    assert len(bench.handler.requests) == 1
    assert bench.counters.retransmissions == 1
    assert bench.counters.peers["192.0.2.1"].commands["ping"].count == 1


def test_same_cookie_of_another_peer_is_another_request() -> None:
    bench = Bench()
    bench.ask(PING, peer="192.0.2.1")
    bench.ask(PING, peer="192.0.2.2")
    assert len(bench.handler.requests) == 2


def test_forgotten_cookie_is_a_new_request() -> None:
    bench = Bench()
    bench.ask(PING, now=100.0)
    bench.ask(PING, now=160.0)
    assert len(bench.handler.requests) == 2


def test_error_reply_is_cached_too() -> None:
    bench = raising(UnknownCallError("c"))
    first = bench.ask(PING)
    assert first == b"d6:result5:error12:error-reason15:Unknown call-ide"
    assert bench.ask(PING) == first
    assert len(bench.handler.requests) == 1


def test_detail_stands_beside_the_reason() -> None:
    bench = raising(SdpSyntaxError("line 1: no v="))
    assert bench.ask(b'{"command":"offer","call-id":"c1"}') == (
        b'{"result":"error","error-reason":"Failed to parse SDP","error-detail":"line 1: no v="}'
    )
    (event,) = bench.events_of(ControlEventKind.REQUEST_REFUSED)
    assert event.facts == {
        "call_id": "c1",
        "command": "offer",
        "peer": "192.0.2.1",
        "reason": "Failed to parse SDP",
        "detail": "line 1: no v=",
    }


def test_load_limit_is_a_result_only_for_clients_that_know_it() -> None:
    bench = raising(LimitReachedError("CPU usage limit exceeded"))
    assert bench.ask(b'{"command":"offer","supports":["load limit"]}', b"1") == (
        b'{"result":"load limit","message":"CPU usage limit exceeded"}'
    )
    assert bench.ask(b'{"command":"offer"}', b"2") == (
        b'{"result":"error","error-reason":"Parallel session limit reached","error-detail":"CPU usage limit exceeded"}'
    )


def test_bug_costs_one_request_and_is_logged_with_its_traceback() -> None:
    bench = raising(KeyError("oops"))
    assert bench.ask(b'{"command":"offer","call-id":"c1"}') == b'{"result":"error","error-reason":"Internal error"}'
    assert bench.ask(b'{"command":"offer","call-id":"c1"}') is not None
    assert bench.counters.internal_errors == 1
    (event,) = bench.events_of(ControlEventKind.INTERNAL_ERROR)
    assert event.facts["call_id"] == "c1"
    assert "KeyError: 'oops'" in str(event.facts["traceback"])
    assert bench.counters.peers["192.0.2.1"].commands["offer"].errors == 1


def test_reply_that_cannot_be_encoded_is_a_bug_too() -> None:
    bench = Bench(lambda _request: {"result": "\ud800"})
    assert bench.ask(PING) == b"d6:result5:error12:error-reason14:Internal errore"
    assert bench.counters.internal_errors == 1


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("query", b'{"result":"error","error-reason":"Reply too large for UDP"}'),
        ("delete", b'{"warning":"Reply too large for UDP","result":"ok"}'),
    ],
)
def test_reply_too_large_for_udp_is_replaced(command: str, reply: bytes) -> None:
    bench = Bench(lambda _request: {"x": "x" * 65_500, "result": "ok"})
    assert bench.ask(b'{"command":"%b"}' % command.encode()) == reply
    assert bench.counters.oversized == 1
    assert len(bench.events_of(ControlEventKind.OVERSIZED_REPLY)) == 1


def test_largest_reply_that_fits_is_sent() -> None:
    frame = len(b"c d1:x65000:6:result2:oke")
    bench = Bench(lambda _request: {"x": "x" * (MAX_UDP_REPLY - frame), "result": "ok"})
    assert len(bench.ask(PING) or b"") + 2 == MAX_UDP_REPLY
    bench = Bench(lambda _request: {"x": "x" * (MAX_UDP_REPLY - frame + 1), "result": "ok"})
    assert b"Reply too large for UDP" in (bench.ask(PING) or b"")


def test_unknown_words_are_named_once_each() -> None:
    bench = Bench()
    for number in range(3):
        bench.ask(b'{"command":"ping","flags":["what","ever"],"extra":1}', b"%d" % number)
    named = [event.facts["option"] for event in bench.events_of(ControlEventKind.UNKNOWN_OPTION)]
    assert sorted(map(str, named)) == ["extra", "flags:ever", "flags:what"]


def test_unknown_words_that_are_remembered_are_bounded() -> None:
    bench = Bench()
    for number in range(3000):
        bench.ask(b'{"command":"ping","key%d":1}' % number, b"%d" % number)
    named = bench.events_of(ControlEventKind.UNKNOWN_OPTION)
    assert len(named) == 1025
    assert [event.facts.get("note") for event in named[-2:]] == [None, "further ones are not named"]
    bench.ask(b'{"command":"ping","key0":1}', b"later", now=100.0 + 3600)
    assert bench.events[-1].facts["option"] == "key0"
    assert len(bench.events_of(ControlEventKind.UNKNOWN_OPTION)) == 1026


def test_durations_and_errors_are_counted() -> None:
    bench = Bench()
    bench.ask(PING, b"1")
    bench.handler.answer = lambda _request: {"result": "error", "error-reason": "no"}
    bench.ask(PING, b"2")
    counter = bench.counters.peers["192.0.2.1"].commands["ping"]
    assert (counter.count, counter.errors, counter.seconds) == (2, 1, 0.5)


def test_request_error_without_a_request_names_the_peer() -> None:
    bench = raising(RequestError("unused"))
    bench.ask(b"nonsense")
    (event,) = bench.events_of(ControlEventKind.REQUEST_REFUSED)
    assert event.facts == {"peer": "192.0.2.1", "reason": "Invalid NG data format"}


def test_refusals_of_one_kind_are_told_ten_times_and_then_once_a_second() -> None:
    bench = Bench()
    for number in range(100_000):
        bench.ask(b"nonsense", b"%d" % number, now=100.0 + number / 20_000)
    told = bench.events_of(ControlEventKind.REQUEST_REFUSED)
    assert len(told) == 14
    assert all("suppressed" not in event.facts for event in told[:10])
    assert [event.facts["suppressed"] for event in told[10:]] == [19_990, 19_999, 19_999, 19_999]
    # Another peer, and another reason, are told all the same.
    bench.ask(b"nonsense", b"x", peer="192.0.2.2", now=105.0)
    bench.ask(b"{}", b"y", now=105.0)
    assert len(bench.events_of(ControlEventKind.REQUEST_REFUSED)) == 16


def test_long_texts_are_cut_in_the_log() -> None:
    def answer(request: NgRequest) -> NgReply:
        raise RequestError("no", request.command)

    bench = Bench(answer)
    bench.ask(b'{"command":"%b"}' % (b"x" * 50_000))
    (event,) = bench.events
    assert event.facts == {"command": "x" * 64, "peer": "192.0.2.1", "reason": "no", "detail": "x" * 1024}


def test_bugs_and_oversized_replies_are_bounded_in_the_log_too() -> None:
    broken, verbose = raising(KeyError("oops")), Bench(lambda _request: {"x": "x" * 65_500, "result": "ok"})
    for bench in (broken, verbose):
        for number in range(1000):
            bench.ask(PING, b"%d" % number)
        assert len(bench.events) == 10
    assert broken.counters.internal_errors == verbose.counters.oversized == 1000
