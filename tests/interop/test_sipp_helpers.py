"""The helpers around SIPp: what it writes is read right, and what it plays is G.711."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sipp import SipMessage, sdp_endpoint, ulaw, write_speech


@pytest.mark.parametrize(
    ("sample", "code"), [(0, 0xFF), (32767, 0x80), (-32768, 0x00), (1000, 0xCE), (-1000, 0x4E), (7903, 0xA0)]
)
def test_ulaw_known_samples(sample: int, code: int) -> None:
    assert ulaw(sample) == code


def test_speech_has_no_two_packets_alike(tmp_path: Path) -> None:
    data = write_speech(tmp_path, 5.2).read_bytes()
    packets = [data[start : start + 160] for start in range(0, len(data), 160)]
    assert len(packets) == 260
    assert len(set(packets)) == 260


_SDP = "v=0\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 0\n"


@pytest.mark.parametrize(
    ("sdp", "endpoint"),
    [
        (_SDP, ("192.0.2.1", 4000)),
        (_SDP + "c=IN IP4 192.0.2.2\n", ("192.0.2.2", 4000)),
        (_SDP.replace("IP4 192.0.2.1", "IP6 2001:db8::1"), ("2001:db8::1", 4000)),
    ],
    ids=["session c=", "media c=", "IPv6"],
)
def test_sdp_endpoint(sdp: str, endpoint: tuple[str, int]) -> None:
    assert sdp_endpoint(sdp) == endpoint


def test_sip_message_parts() -> None:
    message = SipMessage("sent", "INVITE sip:a@b SIP/2.0\nCall-ID: x@y\nContent-Type: application/sdp\n\n" + _SDP)
    assert message.start == "INVITE sip:a@b"
    assert message.header("call-id") == "x@y"
    assert message.header("Via") == ""
    assert message.sdp == _SDP
    assert SipMessage("received", "SIP/2.0 200 OK\nCall-ID: x\n\n").sdp is None
    assert SipMessage("received", "SIP/2.0 200 OK\nCall-ID: x\n\n").start == "200 OK"
