"""Random changes of recorded requests: to their bytes, and to what they say.

The former mostly try the decoders; the latter are requests that can be read, and reach what lies behind.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random
from typing import Final

from mediaproxy.ng import bencode
from mediaproxy.ng.message import Dictionary, NgValue
from tests.support.ng_requests import RecordedRequest, recorded_requests

FULL_COUNT: Final = 10_000
"""Mutations of each recorded request at ``FUZZ_SCALE=1``."""

_BYTES: Final = (b"", b"d", b"l", b"i", b"e", b":", b"0:", b"i0e", b"-", b"\x00", b"\xff", b" ", b"\r\n", b"9" * 12)
_VALUES: Final[Sequence[NgValue]] = (
    b"",
    b"a",
    b"\xff\x00",
    b"x" * 5000,
    0,
    -1,
    2**63 - 1,
    [],
    [b"IP6", b"::1"],
    [b"internal", b"external"],
    [b"origin", b"session-connection", b"zero-address"],
    Dictionary(),
    Dictionary([(b"strip", [b"all"])]),
)
_COMMANDS: Final = (b"offer", b"answer", b"delete", b"query", b"list", b"statistics", b"ping")
_LINES: Final = (
    b"",
    b"v=0",
    b"m=",
    b"m=audio 0 RTP/AVP 0",
    b"m=audio 65535 RTP/AVP 0 8 101",
    b"m=audio 99999 RTP/AVP 0",
    b"m=audio 6000/2 RTP/AVP 0",
    b"m=video 7000 RTP/SAVPF 96",
    b"m=image 6000 udptl t38",
    b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    b"c=IN IP4 0.0.0.0",
    b"c=IN IP4 239.1.2.3/127",
    b"c=IN IP4 255.255.255.255",
    b"c=IN IP6 ::",
    b"c=IN IP6 2001:db8::1",
    b"c=IN IP4 host.example",
    b"o=- 1 1 IN IP4",
    b"o=- 18446744073709551616 x IN IP4 10.0.0.1",
    b"a=rtcp:1",
    b"a=rtcp:99999 IN IP4 10.0.0.1",
    b"a=rtcp-mux",
    b"a=inactive",
    b"a=sendonly",
    b"a=group:BUNDLE 0 1",
    b"a=rtpmap:0",
    b"a=mid:",
    b"a=\xff",
    b"=",
    b"x",
)


def fuzz_count(share: float = 0.02) -> int:
    """How many mutations of each request to try: the share of ``FULL_COUNT`` that ``FUZZ_SCALE`` says, if it is set."""
    return max(1, round(FULL_COUNT * float(os.environ.get("FUZZ_SCALE", share))))


class Mutator:
    """Makes mutations, the same ones for the same seed.

    Args:
        requests: what to mutate, and to splice together.
    """

    def __init__(self, seed: int, requests: Sequence[RecordedRequest] | None = None) -> None:
        self._random = Random(seed)
        self._requests = recorded_requests() if requests is None else requests

    def mutate(self, payload: bytes) -> bytes:
        """One mutation of a payload."""
        if payload[:1] == b"d" and self._random.random() < 0.6:
            return self._change_meaning(payload)
        return self.change_bytes(payload)

    def change_bytes(self, payload: bytes) -> bytes:
        """One mutation of any bytes, whatever they mean."""
        random = self._random
        for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
            begin = random.randrange(len(payload) + 1)
            end = min(len(payload), begin + random.choice((0, 1, 1, 2, 7, 40)))
            kind = random.randrange(6)
            if kind == 0:
                piece = random.choice(_BYTES)
            elif kind == 1:
                piece = random.randbytes(random.choice((1, 1, 2, 5)))
            elif kind == 2:
                piece = payload[begin:end] * random.choice((2, 2, 3, 30))
            elif kind == 3:
                other = random.choice(self._requests).payload
                start = random.randrange(len(other))
                piece = other[start : start + random.choice((1, 5, 30, 200))]
            elif kind == 4:
                end, piece = len(payload), b""
            else:
                piece = bytes(byte ^ (1 << random.randrange(8)) for byte in payload[begin:end])
            payload = payload[:begin] + piece + payload[end:]
            if len(payload) > 60_000:
                break
        return payload

    def _change_meaning(self, payload: bytes) -> bytes:
        random = self._random
        pairs = bencode.decode(payload)
        for _ in range(random.choice((1, 1, 2, 3))):
            place = random.randrange(len(pairs)) if pairs else 0
            kind = random.randrange(7)
            if kind == 0 and pairs:
                del pairs[place]
            elif kind == 1:
                other = bencode.decode(self._bencoded())
                pairs.insert(place, random.choice(other))
            elif kind == 2 and pairs:
                pairs[place] = (pairs[place][0], random.choice(_VALUES))
            elif kind == 3 and pairs:
                pairs[place] = (random.choice(pairs)[0], pairs[place][1])
            elif kind == 4:
                pairs.insert(0, (b"command", random.choice(_COMMANDS)))
            else:
                pairs = Dictionary((key, self._change_body(value) if key == b"sdp" else value) for key, value in pairs)
        return encode_request(pairs)

    def _change_body(self, value: NgValue) -> NgValue:
        if not isinstance(value, bytes):
            return value
        random = self._random
        if random.random() < 0.3:
            return self.change_bytes(value)
        lines = value.split(b"\r\n")
        place = random.randrange(len(lines))
        kind = random.randrange(4)
        if kind == 0:
            lines.insert(place, random.choice(_LINES))
        elif kind == 1:
            lines[place] = random.choice(_LINES)
        elif kind == 2:
            del lines[place]
        else:
            lines[place:place] = lines[place : place + 3] * random.choice((1, 2, 40))
        return b"\r\n".join(lines)

    def _bencoded(self) -> bytes:
        while True:
            payload = self._random.choice(self._requests).payload
            if payload[:1] == b"d":
                return payload


def encode_request(value: NgValue) -> bytes:
    """Bencode what was decoded, duplicates and order included."""
    if isinstance(value, Dictionary):
        return b"d" + b"".join(encode_request(key) + encode_request(item) for key, item in value) + b"e"
    if isinstance(value, list):
        return b"l" + b"".join(encode_request(item) for item in value) + b"e"  # type: ignore[arg-type]  # no Dictionary
    return bencode.encode(b"" if value is None else value)
