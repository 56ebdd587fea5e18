"""The static payload types (RFC 3551, tables 4 and 5), transcribed here a second time from the RFC's columns."""

from __future__ import annotations

import pytest

from mediaproxy.sdp.payload_types import STATIC_CODECS, STATIC_RTPMAPS, Codec

AUDIO = {
    0: "PCMU/8000",
    3: "GSM/8000",
    4: "G723/8000",
    5: "DVI4/8000",
    6: "DVI4/16000",
    7: "LPC/8000",
    8: "PCMA/8000",
    9: "G722/8000",
    10: "L16/44100/2",
    11: "L16/44100",
    12: "QCELP/8000",
    13: "CN/8000",
    14: "MPA/90000",
    15: "G728/8000",
    16: "DVI4/11025",
    17: "DVI4/22050",
    18: "G729/8000",
}
VIDEO = {25: "CelB", 26: "JPEG", 28: "nv", 31: "H261", 32: "MPV", 33: "MP2T", 34: "H263"}


def test_static_codecs_are_those_of_the_rfc() -> None:
    expected = AUDIO | {number: f"{name}/90000" for number, name in VIDEO.items()}
    assert {number: codec.encoding for number, codec in STATIC_CODECS.items()} == expected
    assert {number: f"a=rtpmap:{number} {encoding}" for number, encoding in expected.items()} == STATIC_RTPMAPS


@pytest.mark.parametrize(
    ("codec", "encoding"),
    [
        (Codec(111, "opus", 48000, 2), "opus/48000/2"),
        (Codec(8, "PCMA", 8000), "PCMA/8000"),
        (Codec(97, "", 0), ""),
    ],
)
def test_codec_encoding_leaves_out_one_channel(codec: Codec, encoding: str) -> None:
    assert codec.encoding == encoding
