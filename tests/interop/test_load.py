"""Many calls at once, all with media, through Kamailio; and nothing is left of them afterwards.

``SOAK_SCALE`` is the fraction of the full figures (200 calls at a time, 20 new ones a second, for three minutes);
however small, all 200 are up at once.
"""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.media_lab import flows_in_bpf_map
from tests.support.processes import open_descriptors, wait_until
from tests.support.sip_lab import RTP_PORT, SipLab
from tests.support.sipp import write_speech
from tests.support.tshark import Capture, WirePacket, compare

pytestmark = needs_sip_lab

_RATE = 20.0
_SPEECH_SECONDS = 10.0
_AFTER_SPEECH_MS = 600
_CALLS_AT_ONCE = 200
_FULL_SECONDS = 180.0
_PACKETS_PER_CALL = 500

# SIPp numbers its SSRCs: the calls whose SSRC ends in these bits are captured, one in eight.
_SAMPLE_FILTER = "udp and (port 5060 or udp[19] & 7 = 3)"


def _by_ssrc(packets: list[WirePacket], address: str, *, sent: bool) -> dict[int, list[WirePacket]]:
    found: dict[int, list[WirePacket]] = defaultdict(list)
    for packet in packets:
        end = packet.source if sent else packet.destination
        if end[0] == address and packet.ssrc is not None:
            found[packet.ssrc].append(packet)
    return found


@pytest.mark.timeout(900)
def test_two_hundred_calls_at_once_with_media_leave_nothing_behind() -> None:
    scale = float(os.environ.get("SOAK_SCALE", "0.01"))
    calls = max(_CALLS_AT_ONCE + 10, round(_FULL_SECONDS * _RATE * scale))
    with SipLab(prefix="load") as lab:
        write_speech(lab.folder, _SPEECH_SECONDS)
        lab.start_all()
        ng, pid = lab.media_proxy.ng, lab.media_proxy.process.pid
        descriptors = open_descriptors(pid)
        captures = [
            Capture(lab, host, "eth0", snap=64, capture_filter=_SAMPLE_FILTER) for host in (lab.caller, lab.callee)
        ]
        for capture in captures:
            capture.wait_ready()
        seconds = calls / _RATE + _SPEECH_SECONDS
        caller, callee = lab.call(
            "uac_call", "uas_call", own_media=True, trace=False, calls=calls, rate=_RATE,
            pause_ms=round(_SPEECH_SECONDS * 1000) + _AFTER_SPEECH_MS, timeout=seconds + 30,
        )  # fmt: skip
        most = 0

        def two_hundred_up() -> bool:
            nonlocal most
            most = max(most, len(ng.calls()))
            return most >= _CALLS_AT_ONCE

        wait_until(two_hundred_up, seconds, f"{_CALLS_AT_ONCE} calls at once", interval=0.1)
        caller.finish(seconds + 40)
        callee.finish(30)
        for phone in (caller, callee):
            assert phone.count("Successful call") == calls
            assert phone.count("Failed call") == 0
        wait_until(lambda: ng.calls() == [], 5.0, "list empty")
        wait_until(lambda: open_descriptors(pid) == descriptors, 5.0, "as many descriptors as before")
        assert list(lab.kamailio_errors()) == []
        statistics = ng.request("statistics")["statistics"]
        kernel, totals = statistics["kernelpath"], statistics["totalstatistics"]
        assert kernel["flows"] == 0
        assert kernel["refusals"] == {}
        assert totals["relayedpackets"] == 2 * calls * _PACKETS_PER_CALL
        assert totals["relayedpacketerrors"] == 0
        assert not flows_in_bpf_map(lab)

        for capture in captures:
            capture.stop()
        at_caller, at_callee = (capture.packets([RTP_PORT]) for capture in captures)
        for name, sender, receiver in (
            ("caller to callee", (at_caller, lab.addresses.caller), (at_callee, lab.addresses.callee)),
            ("callee to caller", (at_callee, lab.addresses.callee), (at_caller, lab.addresses.caller)),
        ):
            sent, received = _by_ssrc(*sender, sent=True), _by_ssrc(*receiver, sent=False)
            assert len(sent) >= calls // 8 - 1, name
            passages = {ssrc: compare(packets, received.get(ssrc, [])) for ssrc, packets in sent.items()}
            assert {passage.sent for passage in passages.values()} == {_PACKETS_PER_CALL}, name
            harmed = {f"{ssrc:#x}": passage for ssrc, passage in passages.items() if not passage.perfect}
            assert harmed == {}, name
