"""What happens to the flows when the parties speak: a party moves under load, holds and resumes, hangs up."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from mediaproxy.datapath.flow import FlowReason
from mediaproxy.net import Endpoint
from tests.kernel.matrix.bed import LEFT, RIGHT, TOPOLOGIES, Bed
from tests.kernel.matrix.call import NOWHERE, Call, sdp_of
from tests.kernel.matrix.phone import Phone

RATE = 1000
"""Packets a second under load."""
BEFORE_AND_AFTER = 60
"""Packets before the party moves, and after it has."""
OVERTAKEN = 4
"""A stream that moves into the kernel may overtake what waits in the socket: once for each party that speaks."""


def count_overtaken(arrived: Sequence[bytes], sent: Sequence[bytes]) -> int:
    """How many times a packet arrived right after one that was sent later."""
    places = {packet: place for place, packet in enumerate(sent)}
    order = [places[packet] for packet in arrived]
    return sum(later < earlier for earlier, later in pairwise(order))


class Load:
    """Sends a party's RTP without a pause, in a thread."""

    def __init__(self, call: Call) -> None:
        self._party = call.a
        self._packets: list[bytes] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many were sent so far."""
        return len(self._packets)

    def wait_for(self, count: int) -> None:
        """Wait until so many more were sent."""
        goal = self.count + count
        while self.count < goal:
            self._thread.join(0.005)

    def stop(self) -> list[bytes]:
        """End it; all that was sent."""
        self._ended.set()
        self._thread.join()
        return self._packets

    def _send(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / RATE, time.monotonic())  # what was missed is not made up for in a burst
            packet = self._party.phone.next_rtp()
            self._party.send(packet)
            self._packets.append(packet)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_party_that_moves_under_load_gets_every_packet_here_or_there(bed: Bed, topology: str, family: int) -> None:
    sides = TOPOLOGIES[topology]
    with (
        Call(bed, sides, (family, family)) as call,
        Phone(bed.hosts[sides[1].host], sides[1].moved(family)) as there,
    ):
        call.settle()
        here = call.b.phone
        load = Load(call)
        try:
            load.wait_for(BEFORE_AND_AFTER)
            call.b.phone = there
            call.offer(call.b)
            call.answer(call.a)
            load.wait_for(BEFORE_AND_AFTER)
        finally:
            packets = load.stop()
        at_there = there.rtp.expect(BEFORE_AND_AFTER)
        at_here = here.rtp.take()
        # The relay's thread may have to be waited for; the kernel never.
        at_there += there.rtp.expect(len(packets) - len(at_here) - len(at_there))
        arrived = [arrival.data for arrival in at_here + at_there]
        assert min(len(at_here), len(at_there)) > BEFORE_AND_AFTER // 2
        assert sorted(arrived) == sorted(packets)
        assert count_overtaken(arrived, packets) <= OVERTAKEN
        assert {arrival.source for arrival in at_here + at_there} == {call.b.relay}
        call.settle()
        call.carried_by()


def test_held_party_is_sent_nothing_and_after_resuming_all_is_as_before(bed: Bed) -> None:
    with Call(bed, (LEFT, RIGHT)) as call:
        call.settle()
        nowhere = Endpoint(NOWHERE, call.a.phone.rtp.endpoint.port)
        call.offer(sdp=sdp_of(nowhere))
        call.answer()
        held = FlowReason.NO_DESTINATION if bed.backend.is_kernel else FlowReason.NO_BACKEND
        call.heard(call.b, call.a.speak(5))
        call.b.kept = call.b.speak(5)
        call.check_counters()
        assert call.a.phone.rtp.take() == []
        assert call.has_path(call.b, held)
        call.offer()
        call.answer()
        call.settle()
        call.carried_by()


def test_hold_by_direction_alone_changes_no_path(bed: Bed) -> None:
    with Call(bed, (LEFT, RIGHT)) as call:
        call.settle()
        call.offer(None, "a=sendonly")
        call.answer(None, "a=recvonly")
        call.settle()
        call.offer(None, "a=sendrecv")
        call.answer(None, "a=sendrecv")
        call.settle()
        call.carried_by()


def test_deleted_call_forwards_nothing_more(bed: Bed) -> None:
    with Call(bed, (LEFT, RIGHT)) as call:
        call.settle()
        load = Load(call)
        try:
            load.wait_for(BEFORE_AND_AFTER)
            call.delete()
            call.b.phone.rtp.take()  # what was on its way when the reply came
            load.wait_for(BEFORE_AND_AFTER)
        finally:
            load.stop()
        assert call.b.phone.rtp.take() == []
