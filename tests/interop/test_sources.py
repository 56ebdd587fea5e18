"""Who may send into a call: after learning, only the phone; and a stranger's attempt is counted and told once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.processes import wait_until
from tests.support.rtp_agent import RtpAgent
from tests.support.sip_lab import STRANGER, SipLab
from tests.support.sipp import sdp_endpoint

pytestmark = [needs_sip_lab, pytest.mark.usefixtures("each_path")]

_STRANGER_SSRC = 0x0BAD0BAD
_ATTEMPTS = 50


def _errors(reply: dict[str, Any]) -> int:
    return int(reply["totals"]["RTP"]["errors"])


def test_stranger_after_learning_gets_nothing_through_and_is_counted_and_logged_once() -> None:
    with SipLab(stranger=True) as lab:
        lab.start_all()
        at_caller, at_callee = lab.agents()
        caller, callee = lab.call("uac_agent", "uas_agent", pause_ms=5000)
        offer = callee.wait_message("received", "INVITE")
        answer = caller.wait_message("received", "200")
        at_callee.talk_to(sdp_endpoint(offer.sdp or ""))
        at_caller.talk_to(relay := sdp_endpoint(answer.sdp or ""))
        wait_until(lambda: len(at_callee.rtp()) > 20 and len(at_caller.rtp()) > 20, 3.0, "audio both ways")

        ng = lab.media_proxy.ng
        call_id = offer.header("Call-ID")
        before = _errors(ng.query(call_id))
        with RtpAgent(lab["stranger"], STRANGER, 7000, _STRANGER_SSRC) as stranger:
            stranger.talk_to(relay, (relay[0], relay[1] + 1))
            wait_until(lambda: stranger.sent >= _ATTEMPTS, 5.0, "the stranger's packets sent")
            stranger.talk_to(None)
            since = time.monotonic()
            wait_until(lambda: len(at_callee.rtp(since)) > 20 and len(at_caller.rtp(since)) > 20, 3.0, "audio goes on")
            assert [arrival for arrival in at_callee.rtp() if arrival.ssrc == _STRANGER_SSRC] == []
            assert stranger.rtp() == []  # and the callee's audio does not go to the stranger
            assert _errors(ng.query(call_id)) - before == stranger.sent
        told = [line for line in lab.media_proxy.process.log().splitlines() if f"{STRANGER}:7000" in line]
        assert len(told) == 1, told
        assert call_id in told[0]
        assert f"{lab.addresses.caller}:6000" in told[0]  # what was expected instead
        caller.finish()
        callee.finish()
        wait_until(lambda: ng.calls() == [], 3.0, "list empty")
