"""When a call ends by itself, judged from its state alone."""

from __future__ import annotations

import pytest

from mediaproxy.calls.call import Call, Dialogue, Monologue, Party
from mediaproxy.calls.media import Media, PortPair, Signalled, Transport
from mediaproxy.calls.timeouts import Timeouts, judge_call
from mediaproxy.datapath import TransportHandle
from mediaproxy.ng.words import EndpointLearning
from mediaproxy.sdp.plan import Direction
from mediaproxy.stats.totals import EndReason
from tests.support.sessions import PUBLIC

TIMEOUTS = Timeouts(media=60.0, silent=600.0, offer=180.0, final=0.0)
SAID = Signalled(None, None, held=False, strict=True, mode=EndpointLearning.OFF, asymmetric=False, handover=False)
HELD = Signalled(None, None, held=True, strict=True, mode=EndpointLearning.OFF, asymmetric=False, handover=False)


def media(direction: Direction | None = Direction.SENDRECV, said: Signalled = SAID) -> Media:
    one = Media(0, "audio", "RTP/AVP")
    one.relayed = one.filled = True
    one.direction, one.signalled = direction, said
    return one


def call_of(one: Media, other: Media, *, answered: bool = True) -> Call:
    call = Call("c", 0, 100.0, 0.0)
    dialogue = Dialogue(Party(Monologue("a", None, 0.0)), Party(Monologue("b", None, 0.0)))
    dialogue.first.medias.append(one)
    dialogue.second.medias.append(other)
    dialogue.answered = answered
    call.dialogues.append(dialogue)
    return call


def judge(call: Call, now: float, timeouts: Timeouts = TIMEOUTS, **seen: float) -> EndReason | float | None:
    """``seen``: ``t1=150.0`` is a packet on transport 1."""
    return judge_call(call, timeouts, lambda handle: seen.get(f"t{handle}"), now)


def limit_of(call: Call) -> EndReason:
    """The reason that such a call would end by."""
    reason = judge(call, 1e9)
    assert isinstance(reason, EndReason)
    return reason


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (media(), media(), EndReason.TIMEOUT),
        (media(Direction.SENDONLY), media(Direction.RECVONLY), EndReason.TIMEOUT),
        (media(Direction.RECVONLY), media(Direction.SENDRECV), EndReason.TIMEOUT),
        (media(Direction.SENDONLY), media(Direction.SENDONLY), EndReason.SILENT_TIMEOUT),
        (media(Direction.INACTIVE), media(), EndReason.SILENT_TIMEOUT),
        (media(said=HELD), media(), EndReason.SILENT_TIMEOUT),
        (media(), media(said=HELD), EndReason.SILENT_TIMEOUT),
    ],
)
def test_silence_is_judged_by_who_is_to_send_and_who_to_receive(one: Media, other: Media, expected: EndReason) -> None:
    assert limit_of(call_of(one, other)) is expected


@pytest.mark.parametrize("field", ["rejected", "filled", "relayed"])
def test_media_that_can_not_flow_is_not_waited_for(field: str) -> None:
    one, other = media(), media()
    for each in (one, other):
        setattr(each, field, field == "rejected")
    assert limit_of(call_of(one, other)) is EndReason.SILENT_TIMEOUT


def test_opaque_media_has_no_direction_and_is_waited_for() -> None:
    one, other = media(Direction.INACTIVE), media(None)
    one.opaque = other.opaque = True
    assert limit_of(call_of(one, other)) is EndReason.TIMEOUT


def test_next_look_is_when_the_limit_would_be_reached() -> None:
    call = call_of(media(), media())
    assert judge(call, 100.0) == 160.0
    assert judge(call, 159.9) == 160.0
    assert judge(call, 160.0) is EndReason.TIMEOUT


def test_packet_on_any_transport_keeps_the_call_alive() -> None:
    one, other = media(), media()
    pair = PortPair(PUBLIC, *(Transport(TransportHandle(number), PUBLIC, 30000 + number) for number in (1, 2)))
    one.take_pair(pair)
    call = call_of(one, other)
    assert judge(call, 150.0, t2=150.0) == 210.0, "RTCP"
    assert judge(call, 150.0, t1=140.0, t2=120.0) == 200.0
    assert judge(call, 150.0, t1=90.0) == 160.0, "older than the signalling"


def test_unanswered_call_is_judged_by_its_signalling_alone() -> None:
    one, other = media(), media()
    one.take_pair(PortPair(PUBLIC, *(Transport(TransportHandle(number), PUBLIC, 30000) for number in (1, 2))))
    call = call_of(one, other, answered=False)
    assert judge(call, 279.0, t1=278.0) == 280.0
    assert judge(call, 280.0, t1=279.0) is EndReason.OFFER_TIMEOUT


def test_one_answered_dialogue_is_enough() -> None:
    call = call_of(media(), media(), answered=False)
    call.dialogues += call_of(media(), media()).dialogues
    assert limit_of(call) is EndReason.TIMEOUT


def test_age_ends_a_call_whatever_it_does() -> None:
    call = call_of(media(), media())
    call.last_signal = 390.0
    timeouts = Timeouts(media=60.0, final=300.0)
    assert judge(call, 395.0, timeouts) == 400.0, "the earlier of the two"
    assert judge(call, 400.0, timeouts) is EndReason.FINAL_TIMEOUT


def test_call_without_any_limit_is_never_looked_at() -> None:
    assert judge(call_of(media(), media()), 1e9, Timeouts(media=0.0, silent=0.0, offer=0.0, final=0.0)) is None
