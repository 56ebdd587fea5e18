"""The payload types that need no a=rtpmap (RFC 3551, section 6, tables 4 and 5)."""

from __future__ import annotations

from typing import Final, NamedTuple


class Codec(NamedTuple):
    """What a payload type means within one m= section.

    ``name`` is empty and ``clock_rate`` (Hz, of the RTP timestamp) 0 for a dynamic payload type without a=rtpmap.
    """

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1

    @property
    def encoding(self) -> str:
        """As a=rtpmap spells it: ``opus/48000/2``; one channel is left out."""
        if not self.name:
            return ""
        return f"{self.name}/{self.clock_rate}" + (f"/{self.channels}" if self.channels != 1 else "")


STATIC_CODECS: Final = {
    codec.payload_type: codec
    for codec in (
        Codec(0, "PCMU", 8000),
        Codec(3, "GSM", 8000),
        Codec(4, "G723", 8000),
        Codec(5, "DVI4", 8000),
        Codec(6, "DVI4", 16000),
        Codec(7, "LPC", 8000),
        Codec(8, "PCMA", 8000),
        Codec(9, "G722", 8000),  # samples at 16 kHz; the clock is 8000 by an old mistake, section 4.5.2
        Codec(10, "L16", 44100, 2),
        Codec(11, "L16", 44100),
        Codec(12, "QCELP", 8000),
        Codec(13, "CN", 8000),
        Codec(14, "MPA", 90000),
        Codec(15, "G728", 8000),
        Codec(16, "DVI4", 11025),
        Codec(17, "DVI4", 22050),
        Codec(18, "G729", 8000),
        Codec(25, "CelB", 90000),
        Codec(26, "JPEG", 90000),
        Codec(28, "nv", 90000),
        Codec(31, "H261", 90000),
        Codec(32, "MPV", 90000),
        Codec(33, "MP2T", 90000),
        Codec(34, "H263", 90000),
    )
}
"""1, 2 and 19 were something once and are reserved now, the other numbers below 96 are unassigned: like dynamic ones,
they mean what an a=rtpmap says."""

STATIC_RTPMAPS: Final = {number: f"a=rtpmap:{number} {codec.encoding}" for number, codec in STATIC_CODECS.items()}
