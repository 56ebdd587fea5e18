"""Packets that come round: followed through calls, streams that lead nowhere, and ways too long to be true."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.calls.loops import comes_round
from mediaproxy.calls.media import Transport
from mediaproxy.errors import RefusedAddressError
from mediaproxy.net import Endpoint
from tests.support.sessions import PUBLIC, Session, audio, media_ports


def own(port: int) -> Endpoint:
    return Endpoint(PUBLIC.address, port)


def transport_at(session: Session, port: int) -> Transport:
    found = session.engine._sockets.transport_at(own(port))
    assert found is not None
    return found


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
    session = Session(interfaces=(replace(PUBLIC, port_max=30999),))
    towards = media_ports(session.offer())[0]
    hops = 0
    while hops < 16:
        towards = media_ports(session.offer(audio(PUBLIC.address, towards), call_id=f"hop{hops}"))[0]
        hops += 1
    refused = False
    while hops < 100 and not refused:
        try:
            towards = media_ports(session.offer(audio(PUBLIC.address, towards), call_id=f"hop{hops}"))[0]
        except RefusedAddressError:
            refused = True
        hops += 1
    assert refused


def test_sections_that_lead_into_each_other_are_refused_together() -> None:
    session = Session()
    video = "m=video {} RTP/AVP 97\r\nc=IN IP4 {}\r\n"
    one, two = media_ports(session.offer(audio(extra=video.format(9002, "192.0.2.21"))))
    session.answer(audio("192.0.2.77", 17000, extra=video.format(17002, "192.0.2.77")))
    with pytest.raises(RefusedAddressError, match="leads back to this call"):
        session.offer(audio(PUBLIC.address, two, extra=video.format(one, PUBLIC.address)), to_tag="b")


def test_guessed_port_that_the_offer_itself_opens_is_refused() -> None:
    session = Session()
    with pytest.raises(RefusedAddressError, match="leads back to this call"):
        session.offer(audio(PUBLIC.address, 30002))
    assert session.relay.open == []


def test_way_through_a_party_on_hold_is_a_way() -> None:
    session = Session()
    towards_y = media_ports(session.offer(audio("198.51.100.1"), call_id="y", from_tag="y1"))[0]
    facing_y1 = media_ports(session.answer(call_id="y", from_tag="y1"))[0]
    towards_x2 = media_ports(session.offer(call_id="x"))[0]
    session.answer(audio(PUBLIC.address, facing_y1), call_id="x")
    # Media of the first call reaches the second one's caller port, which learns to send there.
    session.see(own(facing_y1), own(towards_x2))
    session.offer(audio("0.0.0.0"), call_id="y", from_tag="y1", to_tag="b")
    with pytest.raises(RefusedAddressError, match="leads back to this call"):
        session.offer(audio(PUBLIC.address, towards_y), call_id="x", to_tag="b")


def test_way_through_the_branch_that_a_shared_port_does_not_serve_now_is_a_way() -> None:
    session = Session()
    shared = media_ports(session.offer())[0]
    session.answer(to_tag="b1", sip_code=200)
    session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200)
    towards_y2 = media_ports(session.offer(call_id="y"))[0]
    session.answer(call_id="y")
    session.offer(audio(PUBLIC.address, towards_y2), to_tag="b1")
    session.answer(audio("192.0.2.78", 18000), to_tag="b2")
    with pytest.raises(RefusedAddressError, match="leads back to this call"):
        session.offer(audio(PUBLIC.address, shared), call_id="y", to_tag="b")
