"""Packets that come round: followed through calls, streams that lead nowhere, and ways too long to be true."""

from __future__ import annotations

from mediaproxy.calls.loops import comes_round
from mediaproxy.calls.media import Transport
from mediaproxy.net import Endpoint
from tests.support.sessions import PUBLIC, Session, audio, media_ports


def own(port: int) -> Endpoint:
    return Endpoint(PUBLIC.address, port)


def transport_at(session: Session, port: int) -> Transport:
    found = session.engine._sockets.owner_at(own(port))
    assert found is not None
    return found[2]


def test_foreign_endpoint_does_not_come_round() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    assert not comes_round(session.engine._sockets, transport_at(session, towards_b), Endpoint("192.0.2.77", 17000))


def test_own_port_whose_party_is_not_known_yet_leads_nowhere() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    session.offer(call_id="other")
    facing_other_offerer = 30004
    assert not comes_round(session.engine._sockets, transport_at(session, towards_b), own(facing_other_offerer)), (
        "its answerer has not spoken"
    )


def test_way_through_another_call_back_to_its_begin_comes_round() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    of_next_hop = media_ports(session.offer(audio(PUBLIC.address, towards_b), call_id="hop"))[0]
    towards_a = media_ports(session.answer())[0]
    # The next hop's answerer -> its offerer, which is the first call's answerer port -> A, by the transport facing A.
    assert comes_round(session.engine._sockets, transport_at(session, towards_a), own(of_next_hop))
    assert comes_round(session.engine._sockets, transport_at(session, towards_a + 1), own(of_next_hop + 1)), "RTCP"
    assert not comes_round(session.engine._sockets, transport_at(session, of_next_hop), own(of_next_hop + 50))


def test_way_of_more_hops_than_any_call_makes_counts_as_one_that_comes_round() -> None:
    session = Session()
    towards = media_ports(session.offer())[0]
    ends = []
    for number in range(16):
        towards = media_ports(session.offer(audio(PUBLIC.address, towards), call_id=f"hop{number}"))[0]
        ends.append(towards)
    stranger = transport_at(session, media_ports(session.offer(call_id="stranger"))[0])
    assert not comes_round(session.engine._sockets, stranger, own(ends[1]))
    assert comes_round(session.engine._sockets, stranger, own(ends[15]))
