"""The session rules: warnings, families, and who uses which port."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.calls.offer_answer import SessionSettings
from mediaproxy.engine import EngineSettings
from mediaproxy.errors import RefusedAddressError
from mediaproxy.net import AddressFamily, Endpoint
from mediaproxy.ng.words import Flag
from tests.support.sessions import PRIVATE, PUBLIC, PUBLIC6, Session, audio, media_ports, sdp_lines

ICE = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"


def remote_of(session: Session, port: int) -> Endpoint | None:
    config = session.relay.transports[session.relay.handle_at(PUBLIC.address, port)].config
    assert config is not None
    return config.remote


def connection_of(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("c="))


@pytest.mark.parametrize(
    ("ice", "warning"),
    [
        (frozenset(), "media 1: ICE is not supported and was removed"),
        (frozenset({"remove"}), None),
        (
            frozenset({"force"}),
            "media 1: ICE is not supported and was removed; ICE=force is not supported and was ignored",
        ),
    ],
)
def test_ice_is_removed_and_that_is_told_unless_it_was_asked_for(ice: frozenset[str], warning: str | None) -> None:
    reply = Session().offer(audio(extra=ICE), ice=ice)
    assert reply.get("warning") == warning
    assert not any(line.startswith("a=ice") for line in sdp_lines(reply))


def test_rejected_section_with_ice_is_not_worth_a_warning() -> None:
    assert "warning" not in Session().offer(audio(extra=f"m=video 0 RTP/AVP 97\r\n{ICE}"))


def test_profile_that_can_not_be_translated_is_told_to_the_offerer_only() -> None:
    session = Session()
    assert "warning" in session.offer(transport_protocol="RTP/SAVPF")
    assert "warning" not in session.answer(transport_protocol="RTP/SAVPF")


@pytest.mark.parametrize(
    ("attribute", "remote"),
    [
        ("", Endpoint("192.0.2.21", 9001)),
        ("a=rtcp:9055", Endpoint("192.0.2.21", 9055)),
        ("a=rtcp:9055 IN IP4 192.0.2.99", Endpoint("192.0.2.99", 9055)),
        ("a=rtcp:9055 IN IP4 0.0.0.0", None),
    ],
)
def test_rtcp_goes_where_the_sdp_says_or_nowhere(attribute: str, remote: Endpoint | None) -> None:
    session = Session()
    session.offer(audio(extra=f"{attribute}\r\n" if attribute else ""))
    towards_a = media_ports(session.answer())[0]
    assert remote_of(session, towards_a + 1) == remote


def test_rtp_on_the_last_port_leaves_no_port_for_rtcp() -> None:
    session = Session()
    session.offer(audio(port=65535))
    assert remote_of(session, media_ports(session.answer())[0] + 1) is None


@pytest.mark.parametrize(
    ("flags", "address"), [(frozenset(), "198.51.100.77"), (frozenset({Flag.TRUST_ADDRESS}), "192.0.2.21")]
)
def test_configured_belief_in_the_sip_source_yields_to_trust_address(flags: frozenset[Flag], address: str) -> None:
    session = Session(settings=EngineSettings(session=SessionSettings(sip_source=True)))
    session.offer(audio(extra="a=rtcp:9055 IN IP4 192.0.2.21\r\n"), received_from="198.51.100.77", flags=flags)
    towards_a = media_ports(session.answer(received_from="192.0.2.77"))[0]
    assert remote_of(session, towards_a) == Endpoint(address, 9000)
    assert remote_of(session, towards_a + 1) == Endpoint(address, 9055)


def test_rejected_section_is_not_judged_by_its_address() -> None:
    session = Session()
    body = audio("224.0.0.1", extra="m=video 9002 RTP/AVP 97\r\nc=IN IP4 192.0.2.21\r\n")
    assert session.offer(body.replace(b"m=audio 9000", b"m=audio 0"))["result"] == "ok"
    with pytest.raises(RefusedAddressError):
        session.offer(body, to_tag="b")


def test_party_is_faced_in_the_family_that_was_asked_for_it_whatever_its_own() -> None:
    session = Session()
    session.offer(address_family=AddressFamily.IP6)
    session.answer(audio("2001:db8:bb::77", 17000))
    # B now speaks IPv4; A's re-INVITE still shows it IPv6, as was asked.
    session.offer(audio("192.0.2.77", 17000), from_tag="b", to_tag="a")
    session.answer(from_tag="b", to_tag="a")
    assert connection_of(sdp_lines(session.offer(to_tag="b"))) == f"c=IN IP6 {PUBLIC6.advertised}"


def test_offer_that_names_no_address_at_all_is_answered_in_ipv4() -> None:
    session = Session()
    reply = session.offer(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n")
    assert "c=IN IP4 0.0.0.0" in sdp_lines(reply)
    assert session.relay.open == []


def test_section_that_comes_in_a_reoffer_gets_ports_of_its_own() -> None:
    session = Session()
    first = media_ports(session.offer())
    session.answer()
    both = media_ports(session.offer(audio(extra="m=video 9002 RTP/AVP 97\r\n"), to_tag="b"))
    assert both[0] == first[0]
    assert len(session.relay.open) == 8


def test_shorter_reoffer_keeps_the_ports_of_what_it_leaves_out() -> None:
    session = Session()
    session.offer(audio(extra="m=video 9002 RTP/AVP 97\r\n"))
    session.answer(audio("192.0.2.77", 17000, extra="m=video 17002 RTP/AVP 97\r\n"))
    assert len(media_ports(session.offer(to_tag="b"))) == 1
    assert len(session.relay.open) == 8


def test_endpoint_in_our_own_range_is_fine_where_it_leads_out_again() -> None:
    session = Session()
    session.offer(call_id="first")
    towards = media_ports(session.answer(call_id="first"))[0]
    session.offer()
    session.answer()
    # The party of one call is reached through another one.
    session.offer(audio(PUBLIC.address, towards), to_tag="b")


def test_loop_check_skips_what_has_no_port() -> None:
    session = Session()
    session.offer(audio(extra="m=video 0 RTP/AVP 97\r\n"))
    session.answer(audio("192.0.2.77", 17000, extra="m=video 0 RTP/AVP 97\r\n"))
    both = audio(extra="m=video 9002 RTP/AVP 97\r\n")
    assert len(media_ports(session.offer(both, to_tag="b"))) == 2


def test_default_tos_is_the_configured_one_and_minus_one_leaves_the_sockets_alone() -> None:
    session = Session(settings=EngineSettings(session=replace(SessionSettings(), tos=184)))
    towards_b = media_ports(session.offer())[0]
    transport = session.relay.transports[session.relay.handle_at(PUBLIC.address, towards_b)]
    assert transport.config is not None
    assert transport.config.tos == 184
    session.offer(tos=-1)
    assert transport.config.tos is None


def test_changed_tos_reaches_the_other_branches_too() -> None:
    session = Session()
    one = media_ports(session.offer(via_branch="z1"))[0]
    session.offer(via_branch="z2", tos=96)
    config = session.relay.transports[session.relay.handle_at(PUBLIC.address, one)].config
    assert config is not None
    assert config.tos == 96


def test_reoffer_without_interface_words_goes_by_those_of_the_first() -> None:
    session = Session()
    session.offer(from_interface="priv", to_interface="pub")
    session.answer()
    towards_a = media_ports(session.offer(audio("192.0.2.77", 17000), from_tag="b", to_tag="a"))[0]
    assert session.relay.handle_at(PRIVATE.address, towards_a)


def test_branch_that_leaves_a_shared_port_leaves_it_to_the_other_branch() -> None:
    session = Session()
    towards_b = media_ports(session.offer())[0]
    first = media_ports(session.answer(to_tag="b1", sip_code=200))[0]
    session.answer(audio("192.0.2.78", 18000), to_tag="b2", sip_code=200)
    assert remote_of(session, towards_b) == Endpoint("192.0.2.78", 18000)
    session.offer(to_tag="b2", to_interface="priv")
    assert remote_of(session, towards_b) == Endpoint("192.0.2.77", 17000)
    config = session.relay.transports[session.relay.handle_at(PUBLIC.address, towards_b)].config
    assert config is not None
    assert config.rtp_sinks == (session.relay.handle_at(PUBLIC.address, first),)
