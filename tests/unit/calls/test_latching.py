"""The latch: its table is complete, and each mode believes whom the reference says."""

from __future__ import annotations

import itertools

import pytest

from mediaproxy.calls.latching import TRANSITIONS, WINDOW, Latch, LatchEvent, Latching, Rank, rank_source
from mediaproxy.net import Endpoint
from mediaproxy.ng.words import EndpointLearning

SIGNALLED = Endpoint("10.0.0.5", 4000)
SAME_ADDRESS = Endpoint("10.0.0.5", 4444)
SAME_PORT = Endpoint("198.51.100.9", 4000)
ELSEWHERE = Endpoint("198.51.100.7", 6666)


def signalled(mode: EndpointLearning = EndpointLearning.HEURISTIC, **changes: object) -> Latching:
    latch = Latching()
    arguments = {"held": False, "mode": mode, "asymmetric": False, "handover": False, "now": 100.0} | changes
    latch.signal(SIGNALLED, **arguments)
    return latch


def see(latch: Latching, source: Endpoint, now: float) -> bool:
    return latch.see(source, now)


def test_table_has_an_entry_for_every_state_and_event() -> None:
    assert set(TRANSITIONS) == set(itertools.product(Latch, LatchEvent))


@pytest.mark.parametrize(
    ("source", "rank"),
    [
        (SIGNALLED, Rank.EXACT),
        (SAME_ADDRESS, Rank.SAME_ADDRESS),
        (SAME_PORT, Rank.SAME_PORT),
        (ELSEWHERE, Rank.ANY),
    ],
)
def test_rank_orders_sources_by_how_much_they_resemble_the_sdp(source: Endpoint, rank: Rank) -> None:
    assert rank_source(source, SIGNALLED) is rank
    assert rank_source(source, None) is Rank.ANY


def test_nothing_is_learnt_before_the_party_has_spoken() -> None:
    latch = Latching()
    assert not see(latch, ELSEWHERE, 1.0)
    assert latch.state is Latch.UNKNOWN
    assert latch.destination is None


def test_heuristic_confirms_the_signalled_endpoint_at_once() -> None:
    latch = signalled()
    assert see(latch, SIGNALLED, 100.1)
    assert latch.state is Latch.CONFIRMED
    assert latch.destination == SIGNALLED


def test_heuristic_prefers_the_better_source_whatever_the_order() -> None:
    for order in itertools.permutations([SAME_ADDRESS, SAME_PORT, ELSEWHERE]):
        latch = signalled()
        for source in order:
            see(latch, source, 100.5)
        assert latch.destination == SAME_ADDRESS
        assert latch.end_window(100.0 + WINDOW)
        assert latch.state is Latch.CONFIRMED
        assert latch.learnt == SAME_ADDRESS


def test_delayed_follows_the_latest_source_until_the_window_ends() -> None:
    latch = signalled(EndpointLearning.DELAYED)
    for source in (SIGNALLED, ELSEWHERE, SAME_ADDRESS, ELSEWHERE):
        see(latch, source, 101.0)
    assert latch.state is Latch.LEARNING
    assert latch.destination == ELSEWHERE
    assert latch.end_window(103.0)
    assert not see(latch, SIGNALLED, 103.1)
    assert latch.destination == ELSEWHERE


def test_immediate_believes_the_first_source() -> None:
    latch = signalled(EndpointLearning.IMMEDIATE)
    assert see(latch, ELSEWHERE, 100.1)
    assert latch.state is Latch.CONFIRMED
    assert not see(latch, SIGNALLED, 100.2)
    assert latch.destination == ELSEWHERE


def test_off_believes_sdp_alone() -> None:
    latch = signalled(EndpointLearning.OFF)
    assert latch.state is Latch.CONFIRMED
    assert not see(latch, ELSEWHERE, 100.1)
    latch.reopen(101.0)
    assert latch.expected == latch.destination == SIGNALLED


def test_asymmetric_keeps_sending_to_the_sdp_address() -> None:
    latch = signalled(asymmetric=True)
    see(latch, ELSEWHERE, 100.1)
    assert latch.destination == SIGNALLED


def test_first_source_after_the_window_decides() -> None:
    latch = signalled(EndpointLearning.DELAYED)
    assert not latch.end_window(103.0)
    assert see(latch, ELSEWHERE, 110.0)
    assert latch.state is Latch.CONFIRMED


def test_window_does_not_end_early() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 100.1)
    assert not latch.end_window(102.9)


@pytest.mark.parametrize("mode", [EndpointLearning.IMMEDIATE, EndpointLearning.HEURISTIC, EndpointLearning.DELAYED])
def test_sign_of_life_is_sent_to_but_never_locked_on(mode: EndpointLearning) -> None:
    latch = signalled(mode)
    assert latch.see(ELSEWHERE, 100.1, is_media=False)
    assert latch.destination == ELSEWHERE
    assert latch.expected is None
    assert not latch.end_window(103.0)
    assert not latch.see(ELSEWHERE, 110.0, is_media=False)
    assert latch.state is Latch.LEARNING
    assert see(latch, SIGNALLED, 110.1)
    assert latch.state is Latch.CONFIRMED
    assert latch.destination == SIGNALLED
    assert not latch.see(ELSEWHERE, 110.2, is_media=False)


def test_sign_of_life_does_not_displace_media() -> None:
    latch = signalled()
    see(latch, SAME_ADDRESS, 100.1)
    assert not latch.see(ELSEWHERE, 100.2, is_media=False)
    assert latch.destination == SAME_ADDRESS


def test_signalled_endpoint_takes_its_stream_back_from_a_quicker_stranger() -> None:
    latch = signalled(EndpointLearning.IMMEDIATE)
    see(latch, ELSEWHERE, 100.1)
    assert not latch.refuse(SAME_PORT)
    assert latch.refuse(SIGNALLED)
    assert latch.destination == latch.expected == SIGNALLED
    assert not latch.refuse(SIGNALLED)


def test_confirmed_source_is_decisive_after_a_session_refresh() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 100.1)
    latch.end_window(103.0)
    latch.reopen(200.0)
    see(latch, SAME_PORT, 200.1)  # a stranger is quicker
    assert see(latch, ELSEWHERE, 200.2)
    assert latch.state is Latch.CONFIRMED
    assert latch.destination == ELSEWHERE


def test_late_packet_from_where_the_party_was_does_not_hold_it_there() -> None:
    latch = signalled(EndpointLearning.IMMEDIATE)
    see(latch, SIGNALLED, 100.1)
    moved = Endpoint("10.0.0.5", 5000)
    latch.signal(moved, held=False, mode=EndpointLearning.IMMEDIATE, asymmetric=False, handover=False, now=150.0)
    assert not see(latch, SIGNALLED, 150.1)
    assert latch.destination == moved
    assert latch.end_window(153.0), "if it never moved, it is heard again"
    assert see(latch, SIGNALLED, 153.1)


def test_session_refresh_keeps_the_learnt_destination_until_the_party_shows_itself() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 100.1)
    latch.end_window(103.0)
    latch.signal(SIGNALLED, held=False, mode=EndpointLearning.HEURISTIC, asymmetric=False, handover=False, now=200.0)
    assert latch.destination == ELSEWHERE
    assert latch.expected is None, "the source has to be reported again"
    rebound = Endpoint("198.51.100.7", 7777)
    see(latch, rebound, 200.1)
    assert latch.destination == rebound


def test_party_silent_through_a_window_stays_where_it_was() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 100.1)
    latch.end_window(103.0)
    latch.reopen(200.0)
    assert latch.end_window(203.0)
    assert latch.expected == ELSEWHERE


def test_new_endpoint_in_sdp_is_believed_at_once() -> None:
    latch = signalled()
    see(latch, SIGNALLED, 100.1)
    moved = Endpoint("10.0.0.6", 5000)
    latch.signal(moved, held=False, mode=EndpointLearning.HEURISTIC, asymmetric=False, handover=False, now=150.0)
    assert latch.destination == moved
    assert latch.state is Latch.LEARNING


def test_hold_sends_nothing_and_resume_goes_back_to_the_learnt_source() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 100.1)
    latch.signal(None, held=True, mode=EndpointLearning.HEURISTIC, asymmetric=False, handover=False, now=110.0)
    assert latch.destination is None
    latch.signal(SIGNALLED, held=False, mode=EndpointLearning.HEURISTIC, asymmetric=False, handover=False, now=120.0)
    assert latch.destination == ELSEWHERE


def test_handover_follows_a_changed_source_after_confirmation() -> None:
    latch = signalled(handover=True)
    see(latch, SIGNALLED, 100.1)
    assert see(latch, ELSEWHERE, 160.0)
    assert latch.destination == ELSEWHERE
    assert not see(latch, ELSEWHERE, 160.1)


def test_reopened_window_of_a_silent_port_is_not_claimed_by_an_early_stranger() -> None:
    latch = signalled()
    see(latch, ELSEWHERE, 130.0)  # a stranger, long after the offer's window, while the phone rings
    latch.reopen(131.0)  # the answer
    assert see(latch, SIGNALLED, 131.2)
    assert latch.destination == SIGNALLED


def test_source_of_a_sign_of_life_is_expected_once_it_sends_media() -> None:
    latch = signalled()
    assert latch.see(ELSEWHERE, 100.1, is_media=False)
    assert latch.expected is None
    assert latch.see(ELSEWHERE, 100.2), "the relay has to know"
    assert latch.expected == ELSEWHERE
