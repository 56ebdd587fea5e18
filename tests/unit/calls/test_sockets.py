"""Port pairs: all of a request's pairs or none, and whose they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.calls.call import Call
from mediaproxy.calls.media import Media, PortPair
from mediaproxy.calls.sockets import Sockets
from mediaproxy.datapath import TransportHandle
from mediaproxy.errors import OutOfPortsError
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.net import Endpoint
from mediaproxy.ports import PortPools
from tests.support.fake_relay import FakeRelay

NATTED = Interface("pub", "10.0.0.10", "203.0.113.10", 30000, 30005)
SECOND = Interface("pub", "10.0.0.11", "10.0.0.11", 30000, 30003)


class Desk:
    """Sockets with all that they need."""

    def __init__(self) -> None:
        self.relay = FakeRelay()
        self.pools = PortPools(Interfaces([NATTED, SECOND]), 60.0, lambda ports: None)
        self.sockets = Sockets(self.pools, self.relay)
        self.call = Call("c", 3, 0.0, 0.0)

    def open(self, *interfaces: Interface) -> PortPair:
        pair = self.sockets.open_pair(interfaces or (NATTED,), self.call, 1.0)
        pair.serve(Media(0, "audio", "RTP/AVP"))
        return pair


def test_pair_is_found_by_handle_and_by_local_and_advertised_endpoint() -> None:
    desk = Desk()
    pair = desk.open()
    owner = (desk.call, pair.users[0])
    assert desk.sockets.owner(pair.rtp.handle) == (*owner, pair.rtp)
    assert desk.sockets.owner(pair.rtcp.handle) == (*owner, pair.rtcp)
    assert desk.sockets.transport_at(Endpoint("10.0.0.10", 30000)) is pair.rtp
    assert desk.sockets.transport_at(Endpoint("203.0.113.10", 30001)) is pair.rtcp
    assert desk.sockets.transport_at(Endpoint("203.0.113.10", 30002)) is None


def test_closed_pair_is_nobodys_and_what_it_counted_stays_with_the_call() -> None:
    desk = Desk()
    pair = desk.open()
    desk.relay.receive("10.0.0.10", 30000, 5, 1.0)
    handle = pair.rtcp.handle
    desk.relay.transports[handle].rtcp = replace(desk.relay.transports[handle].rtcp, packets=2, errors=1)
    desk.sockets.close_pairs(desk.call, [pair], 2.0)
    assert desk.sockets.owner(pair.rtp.handle) is None
    assert desk.sockets.transport_at(Endpoint("203.0.113.10", 30000)) is None
    assert desk.relay.open == []
    assert (desk.call.closed_rtp.packets, desk.call.closed_rtcp.packets, desk.call.closed_rtcp.errors) == (5, 2, 1)
    assert desk.pools.of(NATTED).free == 3


def test_handle_that_was_never_opened_has_no_owner() -> None:
    assert Desk().sockets.owner(TransportHandle(99)) is None


def test_next_interface_serves_when_all_pairs_of_the_first_are_bound_by_others() -> None:
    desk = Desk()
    desk.relay.busy.update(("10.0.0.10", port) for port in (30000, 30002, 30004))
    pair = desk.open(NATTED, SECOND)
    assert (pair.interface, pair.rtp.port) == (SECOND, 30000)
    assert desk.pools.of(NATTED).busy == 3
    assert desk.pools.of(NATTED).free == 3, "they may come free"


def test_used_up_interfaces_are_named_with_their_range() -> None:
    desk = Desk()
    for _ in range(5):
        desk.open(NATTED, SECOND)
    with pytest.raises(OutOfPortsError) as refused:
        desk.open(NATTED, SECOND)
    assert refused.value.detail == (
        "interface pub (10.0.0.10, 10.0.0.11): no free pair in 30000-30005; widen its port range"
    )


def test_committed_pairs_stay_and_others_are_closed() -> None:
    desk = Desk()
    with desk.sockets.reserve(desk.call, 1.0) as reservation:
        reservation.open_pair([NATTED])
        reservation.commit()
    assert len(desk.relay.open) == 2
    with desk.sockets.reserve(desk.call, 1.0) as reservation:
        reservation.open_pair([NATTED])
    assert len(desk.relay.open) == 2


def test_failed_request_gives_all_its_pairs_back() -> None:
    desk = Desk()

    def ask_for(pairs: int) -> None:
        with desk.sockets.reserve(desk.call, 1.0) as reservation:
            for _ in range(pairs):
                reservation.open_pair([NATTED])

    with pytest.raises(OutOfPortsError):
        ask_for(4)
    assert desk.relay.open == []
    assert desk.pools.of(NATTED).free == 3


def test_pair_that_another_media_uses_outlives_the_first() -> None:
    desk = Desk()
    pair = desk.open()
    one, other = pair.users[0], Media(0, "audio", "RTP/AVP")
    one.take_pair(pair)
    other.take_pair(pair)
    pair.serve(other)
    desk.sockets.close_medias(desk.call, [other, Media(1, "video", "RTP/AVP")], 2.0)
    assert desk.sockets.owner(pair.rtp.handle) == (desk.call, one, pair.rtp)
    desk.sockets.close_medias(desk.call, [one], 2.0)
    assert desk.relay.open == []
