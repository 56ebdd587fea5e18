"""Calls through Kamailio with the example configuration: SIPp signals, RTP agents speak and listen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.needs import FAILED, needs_sip_lab
from tests.support.processes import wait_until
from tests.support.rtp_agent import Arrival, RtpAgent
from tests.support.sip_lab import BEHIND_NAT, IP4, IP6, RTP_PORT, SipLab
from tests.support.sipp import Sipp, sdp_endpoint

pytestmark = [needs_sip_lab, pytest.mark.usefixtures("each_path")]

_ENOUGH = 20
"""Packets (0.4 s of speech) that show that audio passes."""


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[SipLab]:
    """The IPv4 lab, everything started."""
    with SipLab() as lab:
        lab.start_all()
        yield lab
        lab.keep_logs = request.node.stash.get(FAILED, False)


def _endpoint(phone: Sipp, start: str, nth: int = 0) -> tuple[str, int]:
    """Where the SDP of a message that the phone received wants media."""
    message = phone.wait_message("received", start, nth)
    assert message.sdp is not None, message.text
    return sdp_endpoint(message.sdp)


def _heard(agent: RtpAgent, other: RtpAgent, since: float) -> list[Arrival]:
    return [arrival for arrival in agent.rtp(since) if len(arrival.data) == 172 and arrival.ssrc == other.ssrc]


def _assert_both_hear(one: RtpAgent, other: RtpAgent) -> None:
    since = time.monotonic()
    for listener, speaker in ((one, other), (other, one)):
        wait_until(
            lambda listener=listener, speaker=speaker: len(_heard(listener, speaker, since)) >= _ENOUGH,  # type: ignore[misc]
            3.0,
            f"{listener.address} hears {speaker.address}",
        )


def _assert_forgotten(lab: SipLab) -> None:
    """No call is left, and Kamailio had nothing to complain about."""
    wait_until(lambda: lab.media_proxy.ng.calls() == [], 3.0, "list empty")
    assert list(lab.kamailio_errors()) == []


@pytest.mark.parametrize("addresses", [IP4, IP6, BEHIND_NAT], ids=["IPv4", "IPv6", "NAT"])
def test_call_audio_and_rtcp_pass_both_ways(addresses: Any) -> None:
    with SipLab(addresses) as lab:
        lab.start_all()
        at_caller, at_callee = lab.agents()
        caller, callee = lab.call("uac_agent", "uas_agent", pause_ms=2500)
        at_callee.talk_to(_endpoint(callee, "INVITE"))
        to_proxy = _endpoint(caller, "200")
        at_caller.talk_to(to_proxy)
        assert to_proxy[0] == addresses.external
        assert _endpoint(callee, "INVITE")[0] == addresses.internal
        _assert_both_hear(at_caller, at_callee)
        wait_until(lambda: at_caller.rtcp() and at_callee.rtcp(), 3.0, "RTCP both ways")
        # Symmetric: what the phone hears comes from the port that it sends to (otherwise NAT eats it).
        assert {arrival.source for arrival in at_caller.rtp()} == {to_proxy}
        caller.finish()
        callee.finish()
        _assert_forgotten(lab)


def test_hold_and_resume_keep_ports_and_restore_audio(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_hold", "uas_hold", pause_ms=1200)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_caller.talk_to(_endpoint(caller, "200"))
    _assert_both_hear(at_caller, at_callee)

    hold = callee.wait_message("received", "INVITE", 1)
    assert hold.sdp is not None
    assert "a=sendonly" in hold.sdp
    assert "a=recvonly" in (caller.wait_message("received", "200", 1).sdp or "")
    since = time.monotonic()
    wait_until(lambda: len(_heard(at_callee, at_caller, since)) >= _ENOUGH, 3.0, "music on hold")

    resumed = caller.wait_message("received", "200", 2)
    assert "a=sendrecv" in (resumed.sdp or "")
    _assert_both_hear(at_caller, at_callee)
    assert len({_endpoint(callee, "INVITE", nth) for nth in range(3)}) == 1
    assert len({_endpoint(caller, "200", nth) for nth in range(3)}) == 1
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_callee_reinvite_keeps_ports_and_audio(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_reinvited", "uas_reinvite", pause_ms=1200)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_caller.talk_to(_endpoint(caller, "200"))
    _assert_both_hear(at_caller, at_callee)
    assert _endpoint(caller, "INVITE") == _endpoint(caller, "200")
    assert _endpoint(callee, "200") == _endpoint(callee, "INVITE")
    _assert_both_hear(at_caller, at_callee)
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_cancel_after_early_media_removes_the_call(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_cancel", "uas_cancel", pause_ms=1200)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_caller.talk_to(_endpoint(caller, "180"))
    _assert_both_hear(at_caller, at_callee)
    assert len(lab.media_proxy.ng.calls()) == 1
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_early_media_is_heard_before_the_answer(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_agent", "uas_early", uac_pause_ms=1000, uas_pause_ms=1500)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    early = _endpoint(caller, "183")
    wait_until(lambda: len(_heard(at_caller, at_callee, 0.0)) >= _ENOUGH, 3.0, "early media")
    assert caller.find("received", "200") is None
    assert _endpoint(caller, "200") == early
    at_caller.talk_to(early)
    _assert_both_hear(at_caller, at_callee)
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_late_offer_in_the_200_is_answered_in_the_ack(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_late", "uas_agent", pause_ms=1500)
    to_external = _endpoint(caller, "200")
    to_internal = _endpoint(callee, "ACK")
    assert to_external[0] == lab.addresses.external
    assert to_internal[0] == lab.addresses.internal
    at_caller.talk_to(to_external)
    at_callee.talk_to(to_internal)
    _assert_both_hear(at_caller, at_callee)
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_fax_reinvite_to_t38_relays_udptl_unchanged(lab: SipLab) -> None:
    at_caller, at_callee = lab.agents()
    caller, callee = lab.call("uac_t38", "uas_t38", pause_ms=1200)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_caller.talk_to(_endpoint(caller, "200"))
    _assert_both_hear(at_caller, at_callee)

    image = callee.wait_message("received", "INVITE", 1)
    assert "m=image" in (image.sdp or "")
    assert "udptl t38" in (image.sdp or "")
    answer = caller.wait_message("received", "200", 1)
    assert "m=image" in (answer.sdp or "")
    # UDPTL (ITU-T T.38, annex D): a 16-bit sequence number first, so nothing that resembles RTP or RTCP.
    fax_of = {at_caller: b"\0\1\6\1\0\0" + b"caller fax", at_callee: b"\0\1\6\1\0\0" + b"callee fax"}
    at_callee.talk_to(sdp_endpoint(image.sdp or ""))
    at_caller.talk_to(sdp_endpoint(answer.sdp or ""))
    for agent, data in fax_of.items():
        agent.send_datagrams(data)
    for listener, speaker in ((at_caller, at_callee), (at_callee, at_caller)):
        wait_until(
            lambda listener=listener, speaker=speaker: (
                sum(a.data == fax_of[speaker] for a in listener.rtp()) >= _ENOUGH
            ),  # type: ignore[misc]
            3.0,
            f"{listener.address} gets the fax",
        )
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_forked_call_early_media_of_both_branches_then_audio_with_the_one_that_answers(lab: SipLab) -> None:
    lab.register_callee(5070)
    at_caller, at_callee = lab.agents()
    other_port = RTP_PORT + 100
    at_other = RtpAgent(lab.callee, lab.addresses.callee, other_port, 0x0CA11EF0)
    lab.on_exit(at_other.close)
    ringing = Sipp(lab, lab.callee, "uas_cancel", lab.addresses.callee, sip_port=5070, rtp_port=other_port)
    caller, callee = lab.call("uac_agent", "uas_early", uac_pause_ms=1500, uas_pause_ms=1500)
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_other.talk_to(_endpoint(ringing, "INVITE"))
    assert _endpoint(callee, "INVITE") != _endpoint(ringing, "INVITE")
    for speaker in (at_callee, at_other):
        wait_until(lambda speaker=speaker: len(_heard(at_caller, speaker, 0.0)) >= _ENOUGH, 3.0, "early media")  # type: ignore[misc]
    assert caller.find("received", "200") is None
    at_caller.talk_to(_endpoint(caller, "200"))
    _assert_both_hear(at_caller, at_callee)
    ringing.finish()
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)


def test_forked_call_one_phone_busy_the_other_has_audio(lab: SipLab) -> None:
    lab.register_callee(5070)
    at_caller, at_callee = lab.agents()
    busy = Sipp(lab, lab.callee, "uas_busy", lab.addresses.callee, sip_port=5070, rtp_port=RTP_PORT + 100)
    caller, callee = lab.call("uac_agent", "uas_agent", pause_ms=1500)
    busy.finish()
    at_callee.talk_to(_endpoint(callee, "INVITE"))
    at_caller.talk_to(_endpoint(caller, "200"))
    _assert_both_hear(at_caller, at_callee)
    caller.finish()
    callee.finish()
    _assert_forgotten(lab)
