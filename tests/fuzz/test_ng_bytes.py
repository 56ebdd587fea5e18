"""Any bytes on the ng port: an answer that can be read, or a counted drop; never a traceback."""

from __future__ import annotations

import json

import bencodepy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.errors import RequestError
from mediaproxy.ng.message import NgReply, NgRequest
from tests.support.mutations import Mutator, fuzz_count
from tests.support.ng_requests import RecordedRequest, recorded_requests
from tests.unit.listeners.fakes import Bench


def echo(request: NgRequest) -> NgReply:
    """Says what it was asked: whatever can come in must be able to go out."""
    if request.command not in {"offer", "answer", "query", "ping"}:
        raise RequestError("Unrecognized command", request.command)
    return {
        "sdp": request.sdp or b"",
        "tags": {request.from_tag or "": [request.to_tag or "", request.call_id or ""], "unknown": [*request.unknown]},
        "limit": request.limit,
        "result": "ok",
    }


def check(bench: Bench, datagram: bytes) -> None:
    drops = sum(bench.counters.drops.values())
    reply = bench.dispatcher.handle_datagram(datagram, "192.0.2.1", 1.0)
    assert bench.counters.internal_errors == 0, [event.facts for event in bench.events[-1:]]
    if reply is None:
        assert sum(bench.counters.drops.values()) == drops + 1
        return
    cookie, _, payload = reply.partition(b" ")
    assert datagram.startswith(cookie + b" ")
    decoded = json.loads(payload) if payload[:1] == b"{" else bencodepy.decode(payload)
    assert "result" in decoded or b"result" in decoded


@given(
    st.binary(max_size=500) | st.tuples(st.sampled_from([b"c d", b"c {", b"c "]), st.binary(max_size=500)).map(b"".join)
)
def test_any_bytes_are_answered_or_dropped(datagram: bytes) -> None:
    check(Bench(echo), datagram)


@pytest.mark.parametrize("request_", recorded_requests(), ids=lambda request: request.name)
def test_mutated_requests_are_answered_or_dropped(request_: RecordedRequest) -> None:
    bench = Bench(echo)
    mutator = Mutator(seed=1)
    check(bench, request_.datagram)
    for number in range(fuzz_count()):
        check(bench, b"%d " % number + mutator.mutate(request_.payload))
        bench.events.clear()
    # The datagram as a whole, its cookie included.
    for _ in range(fuzz_count() // 10):
        check(bench, mutator.change_bytes(request_.datagram))
