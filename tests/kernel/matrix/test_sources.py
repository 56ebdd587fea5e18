"""Whose packets are believed: phones behind a NAT, the learning window, strangers, and calls that take any source."""

from __future__ import annotations

import pytest

from mediaproxy.net import Endpoint
from tests.kernel.matrix.bed import LEFT, RIGHT, TOPOLOGIES, Bed
from tests.kernel.matrix.call import Call
from tests.kernel.matrix.phone import Phone
from tests.support.datagrams import datagrams_delivered
from tests.support.processes import wait_until

WINDOW = 5.0
"""Seconds until a learning window, of 3 seconds, is over for sure."""
PRIVATE = Endpoint("192.168.77.10", 6000)
PRIVATE_IP6 = Endpoint("fd77::10", 6000)
ATTEMPTS = 40
BURST = 120
SAMPLES = 10
"""More than the kernel lets up of a stranger's packets in the time of a test (4 a second)."""


def learnt(call: Call, party_tag: str, source: Endpoint) -> bool:
    """Whether media for a party goes to ``source``."""
    party = call.a if party_tag == "A" else call.b
    endpoint = call.streams(party)[0].get("endpoint", {})
    return bool((endpoint.get("address"), endpoint.get("port")) == (source.address, source.port))


def confirmed(call: Call) -> bool:
    """Whether the offerer's source is fixed."""
    return "confirmed" in call.streams(call.a)[0]["flags"]


@pytest.mark.parametrize("family", [4, 6])
def test_source_behind_a_nat_is_learnt_and_locked_when_the_window_is_over(bed: Bed, family: int) -> None:
    private = PRIVATE if family == 4 else PRIVATE_IP6
    with (
        Call(bed, (LEFT, RIGHT), (family, family), said=(private, None)) as call,
        Phone(bed.hosts["left"], LEFT.moved(family)) as moved,
    ):
        first = call.a.phone
        call.heard(call.b, call.a.speak())
        wait_until(lambda: learnt(call, "A", first.rtp.endpoint), 3.0, "the source is learnt")
        call.settle()
        assert not confirmed(call)
        # In the window it may still move: a NAT that has changed its mind.
        call.a.phone = moved
        call.heard(call.b, call.a.speak())
        wait_until(lambda: learnt(call, "A", moved.rtp.endpoint), 3.0, "the new source is learnt")
        call.settle()
        wait_until(lambda: confirmed(call), WINDOW, "the window is over")
        # After it, the one that was left is a stranger.
        for _ in range(ATTEMPTS):
            first.rtp.send(first.next_rtp(), call.a.relay)
        wait_until(lambda: call.errors(call.a) >= ATTEMPTS, 3.0, "the stranger's packets are counted")
        call.a.refused += ATTEMPTS
        call.settle()
        call.carried_by()
        assert first.rtp.take() == []
        assert learnt(call, "A", moved.rtp.endpoint)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_stranger_gets_nothing_through_and_is_counted_exactly_and_told_once(bed: Bed, topology: str) -> None:
    sides = TOPOLOGIES[topology]
    with (
        Call(bed, sides) as call,
        Phone(bed.hosts[sides[0].host], sides[0].stranger()) as stranger,
    ):
        call.settle()
        before = datagrams_delivered(bed.relay)
        for _ in range(ATTEMPTS):
            stranger.rtp.send(stranger.next_rtp(), call.a.relay)
            call.exchange(1)
        packets = [stranger.next_rtp() for _ in range(BURST)]
        for packet in packets:
            stranger.rtp.send(packet, call.a.relay)
        call.a.refused += ATTEMPTS + BURST
        wait_until(lambda: call.errors(call.a) >= call.a.refused, 3.0, "the stranger's packets are counted")
        if bed.backend.drops_strangers and not any(side.is_local for side in sides):
            queries = datagrams_delivered(bed.relay)  # with those of this very wait, so an upper bound
            assert queries - before < SAMPLES + ATTEMPTS + BURST
        call.carried_by()
        assert stranger.rtp.take() == []
        told = [line for line in bed.daemon.process.log().splitlines() if str(stranger.rtp.endpoint) in line]
        assert len(told) == 1, told
        assert call.call_id in told[0]
        assert str(call.a.phone.rtp.endpoint) in told[0]


def test_strangers_do_not_reach_the_socket_where_the_backend_drops_them(bed: Bed) -> None:
    with Call(bed, (LEFT, RIGHT)) as call, Phone(bed.hosts["left"], LEFT.stranger()) as stranger:
        call.settle()
        before = datagrams_delivered(bed.relay)
        for _ in range(BURST):
            stranger.rtp.send(stranger.next_rtp(), call.a.relay)
        heard = call.exchange(1)  # they were handled before these
        assert heard
        call.a.refused += BURST
        if bed.backend.drops_strangers:
            # A sample goes up, to be reported; that takes it longer than what is forwarded on the way.
            wait_until(lambda: datagrams_delivered(bed.relay) > before, 3.0, "a sample")
        delivered = datagrams_delivered(bed.relay) - before
        if bed.backend.drops_strangers:
            assert delivered <= SAMPLES
        else:
            assert delivered == BURST + (0 if bed.backend.is_kernel else 2)
        call.check_counters()


def test_call_that_takes_any_source_is_carried_by_the_kernel_too(bed: Bed) -> None:
    with (
        Call(bed, (LEFT, RIGHT), flags=["asymmetric"]) as call,
        Phone(bed.hosts["left"], LEFT.stranger()) as other,
    ):
        call.settle()
        before = datagrams_delivered(bed.relay)
        packets = [other.next_rtp() for _ in range(ATTEMPTS)]
        for packet in packets:
            other.rtp.send(packet, call.a.relay)
        call.heard(call.b, packets)
        by_socket = datagrams_delivered(bed.relay) - before
        assert by_socket == (0 if bed.backend.any_source else ATTEMPTS)
        call.a.sent += ATTEMPTS
        call.a.sent_bytes += sum(map(len, packets))
        call.carried_by()  # and what B says still goes to where A said that it is
