"""Random sessions against the real core: it keeps its books straight, whatever is asked for and in which order."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Final

import pytest

from mediaproxy.calls.call import Call
from mediaproxy.datapath import MAX_CLOCK_RATES, SourceEvent, SourcePolicy, TransportHandle
from mediaproxy.errors import RequestError
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.sdp import parse_sdp, read_facts
from tests.support.fake_relay import FakeRelay, FakeTransport
from tests.support.mutations import fuzz_count
from tests.support.random_sessions import Report, Setup, Step, Wait, describe_step, random_setup, random_step
from tests.support.sessions import PRIVATE, PUBLIC, PUBLIC6, Session

_SEEDS: Final = 20
"""Together 200 000 steps at ``FUZZ_SCALE=1``."""

_LENGTH: Final = 60
"""Steps of one session: enough for its calls to get entangled, few enough to find the culprit."""

_READING: Final = {"query", "list", "statistics", "ping"}
_MAX_TURNS: Final = 300


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(_SEEDS))
def test_random_session_keeps_the_books_straight(seed: int) -> None:
    random = Random(seed)
    left = fuzz_count(0.02)
    while left > 0:
        setup, steps = random_setup(random), [random_step(random) for _ in range(min(left, _LENGTH))]
        left -= len(steps)
        if _fails(setup, steps):
            steps = _shorten(setup, steps)
            print(setup, *map(describe_step, steps), sep="\n")
            _play(setup, steps)


def _fails(setup: Setup, steps: list[Step]) -> bool:
    try:
        _play(setup, steps)
    except Exception:  # noqa: BLE001 - whatever it is: the shortest session that ends so is played again, and shown
        return True
    return False


def _shorten(setup: Setup, steps: list[Step]) -> list[Step]:
    """Leave out what isn't needed to fail, until every step is."""
    place = len(steps)
    while place > 0:
        place -= 1
        without = steps[:place] + steps[place + 1 :]
        if _fails(setup, without):
            steps, place = without, len(without)
    return steps


def _play(setup: Setup, steps: list[Step]) -> None:
    """Play a session to its end; an ``AssertionError`` or anything else that comes out is a bug."""
    session = Session(
        interfaces=tuple(replace(one, port_max=one.port_min + 199) for one in (PUBLIC, PUBLIC6, PRIVATE)),
        relay=FakeRelay(busy=set(setup.busy), capacity=setup.capacity),
        settings=setup.settings,
    )
    for step in steps:
        match step:
            case Wait():
                _pass_time(session, step.seconds)
            case Report():
                _report(session, step)
            case NgRequest():
                _request(session, step)
        _check_books(session)
    _delete_all(session)


def _request(session: Session, request: NgRequest) -> None:
    before = _snapshot(session)
    try:
        reply = session.handle(request)
    except RequestError:
        assert _snapshot(session) == before, "a refused request changed something"
        return
    if request.command in _READING:
        assert _snapshot(session) == before, f"{request.command} changed something"
    if request.command in {"offer", "answer"}:
        _check_reply(reply, request)


def _snapshot(session: Session) -> tuple[bytes, list[TransportHandle], list[int]]:
    """Calls with all that hangs on them and their deadlines, open transports, free ports.

    As long as nothing changes pickles of the same objects are equal.
    """
    return pickle.dumps(session.engine._table), session.relay.open_handles, _free_ports(session)


def _free_ports(session: Session) -> list[int]:
    pools = session.engine._context.pools
    return [pools.of(interface).free for interface in session.interfaces]


def _check_reply(reply: NgReply, request: NgRequest) -> None:
    assert list(reply)[-1] == "result"
    body = reply["sdp"]
    assert isinstance(body, bytes)
    assert request.sdp is not None
    # The next instance on the way has to read it.
    sections = read_facts(parse_sdp(body)).medias
    assert len(sections) == len(read_facts(parse_sdp(request.sdp)).medias)


def _report(session: Session, report: Report) -> None:
    handles = session.relay.open_handles
    if handles:
        handle = handles[report.place % len(handles)]
        session.engine.source_seen(SourceEvent(report.kind, handle, report.packet_class, report.source, 7), session.now)
        session.relay.configure(session.engine.take_config_changes())


def _pass_time(session: Session, seconds: float) -> None:
    end = session.now + seconds
    for _ in range(_MAX_TURNS):
        deadline = session.engine.next_deadline()
        if deadline is None or deadline > end:
            session.now = end
            return
        session.now = max(session.now, deadline)
        session.engine.expire(session.now)
        session.relay.configure(session.engine.take_config_changes())
        deadline = session.engine.next_deadline()
        assert deadline is None or deadline > session.now, "a deadline that has come is left behind"
    pytest.fail("time does not pass")


def _check_books(session: Session) -> None:
    """What must hold between any two steps."""
    calls = list(session.engine._table.values())
    used = Counter(handle for call in calls for handle in _transports(call))
    assert set(used.values()) <= {1}, "two pairs hold one transport"
    assert set(used) == set(session.relay.open_handles), "open transports and those of the calls differ"
    assert set(used) == set(session.engine._sockets._owners)
    for call in calls:
        _check_call(call)
        _check_routes(call, session.relay)
    _check_circles(session.relay)


def _transports(call: Call) -> set[TransportHandle]:
    pairs = {media.pair for media in call.medias() if media.pair is not None}
    return {transport.handle for pair in pairs for transport in (pair.rtp, pair.rtcp)}


def _check_call(call: Call) -> None:
    assert call.dialogues
    assert call.wake_at is not None, "nothing will ever end this call"
    tags = [monologue.tag for monologue in call.monologues if monologue.tag is not None]
    assert len(tags) == len(set(tags)), "two parties have one tag"
    parties = [party for dialogue in call.dialogues for party in (dialogue.first, dialogue.second)]
    assert {party.monologue for party in parties} == set(call.monologues)
    for dialogue in call.dialogues:
        assert len(dialogue.first.medias) == len(dialogue.second.medias)
    for media in call.medias():
        assert media.pair is None or media in media.pair.users


def _check_routes(call: Call, relay: FakeRelay) -> None:
    """The relay was told of every change, within its limits and about open transports."""
    open_handles = set(relay.open_handles)
    for config in (one for media in call.medias() for one in media.configs(call.tos)):
        assert relay.transports[config.handle].config == config, "the relay was not told"
        assert set(config.rtp_sinks + config.rtcp_sinks) <= open_handles, "a sink is closed"
        assert len(config.clock_rates) <= MAX_CLOCK_RATES
        assert config.tos is None or 0 <= config.tos <= 255


def _check_circles(relay: FakeRelay) -> None:
    """No packet can come back to the port where it arrived: it would go round for ever."""
    onward = {handle: _reached_from(relay, handle) for handle in relay.open_handles}
    for start, first in onward.items():
        passed: set[TransportHandle] = set()
        pending = set(first)
        while pending:
            handle = pending.pop()
            assert handle != start, f"port {relay.transports[start].port} is in a circle"
            passed.add(handle)
            pending |= onward[handle] - passed


def _reached_from(relay: FakeRelay, handle: TransportHandle) -> set[TransportHandle]:
    """Our own transports that get what arrives at this one."""
    config = relay.transports[handle].config
    if config is None or config.policy is SourcePolicy.CLOSED:
        return set()
    reached = set()
    for sink in {*config.rtp_sinks, *config.rtcp_sinks}:
        sender = relay.transports[sink]
        remote = None if sender.config is None else sender.config.remote
        target = None if remote is None else relay.find(remote.address, remote.port)
        if target is not None and _accepts(relay.transports[target], Endpoint(sender.address, sender.port)):
            reached.add(target)
    return reached


def _accepts(transport: FakeTransport, source: Endpoint) -> bool:
    config = transport.config
    if config is None or config.policy is SourcePolicy.CLOSED:
        return False
    return config.policy is not SourcePolicy.LOCKED or config.expected == source


def _delete_all(session: Session) -> None:
    for call_id in list(session.engine._table):
        session.call("delete", call_id=call_id, delete_delay=0)
    assert session.engine.calls == 0
    assert session.relay.open == []
    assert session.engine._sockets._owners == {}
    assert session.engine._sockets._bound == {}
    pools = session.engine._context.pools
    assert _free_ports(session) == [pools.of(interface).size for interface in session.interfaces]
    for interface in session.interfaces:
        pool = pools.of(interface)
        assert len({port for port, _ in pool._free}) == pool.size, "a port is in the pool twice"
