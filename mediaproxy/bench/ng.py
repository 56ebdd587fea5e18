"""Sets up and ends the calls that carry media: plain calls as Kamailio would ask for them, one at a time.

Written for the benchmark because it must not share code with what it measures.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Final

from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow
from mediaproxy.net import Endpoint

NG_ADDRESS: Final = "127.0.0.1"
NG_PORT: Final = 22223
RESEND_SECONDS: Final = 1.0
TRIES: Final = 5
_CONNECTION: Final = re.compile(rb"c=IN IP4 ([0-9.]+)\r\n")
_AUDIO: Final = re.compile(rb"m=audio ([0-9]+) ")


@dataclass(frozen=True, slots=True)
class MediaCall:
    """One call that is up: where its agents are, and the relay's endpoints that face them (address, port)."""

    call_id: str
    from_tag: str
    caller: tuple[str, int]
    callee: tuple[str, int]
    facing_caller: tuple[str, int]
    facing_callee: tuple[str, int]

    @property
    def flows(self) -> tuple[MediaFlow, MediaFlow]:
        """Its media: each agent sends from the endpoint that its SDP named."""
        caller, callee = Endpoint(*self.caller), Endpoint(*self.callee)
        return (
            MediaFlow(0, caller, Endpoint(*self.facing_caller), callee),
            MediaFlow(1, callee, Endpoint(*self.facing_callee), caller),
        )


def _string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return b"%d:%s" % (len(raw), raw)


def _list(*values: str) -> bytes:
    return b"l" + b"".join(_string(value) for value in values) + b"e"


def plain_sdp(user: str, address: str, port: int) -> bytes:
    """The body of SIPp's plain call: one PCMA audio section with telephone events."""
    lines = (
        "v=0",
        f"o={user} 53655765 2353687637 IN IP4 {address}",
        "s=-",
        f"c=IN IP4 {address}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 8 101",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
        "a=sendrecv",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def _relay_endpoint(reply: bytes) -> tuple[str, int]:
    address, port = _CONNECTION.search(reply), _AUDIO.search(reply)
    if address is None or port is None:
        raise BenchError(f"no audio endpoint in the reply: {reply[:300]!r}")
    return address[1].decode(), int(port[1])


class NgClient:
    """One socket to the daemon under test, inside the relay's namespace."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._count = 0
        with lab.relay.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((NG_ADDRESS, NG_PORT))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, body: bytes, seconds: float = RESEND_SECONDS, tries: int = TRIES) -> bytes:
        """Send one bencoded dictionary and return the reply's body.

        Raises:
            BenchError: no reply came, although the request was resent with the same cookie.
        """
        self._count += 1
        cookie = b"bench_%d" % self._count
        self._socket.settimeout(seconds)
        for _ in range(tries):
            try:
                self._socket.send(cookie + b" " + body)
                while True:
                    reply = self._socket.recv(65535)
                    if reply.startswith(cookie + b" "):
                        return reply[len(cookie) + 1 :]
            except (TimeoutError, ConnectionRefusedError):
                continue
        raise BenchError(f"no reply to {body[-40:]!r}")

    def _command(self, body: bytes) -> bytes:
        reply = self.ask(body)
        if b"6:result2:ok" not in reply:
            raise BenchError(f"refused: {reply[:300].decode(errors='replace')}")
        return reply

    def set_up(self, number: int, legs: int, prefix: str = "media") -> MediaCall:
        """Offer and answer call ``number``; the agents have a port of their own in each call.

        Raises:
            BenchError: refused, or no reply.
        """
        lab = self._lab
        caller = (lab.agent_address(0), 2000 + 2 * (number % 30000))
        callee = (lab.agent_address(1), 2000 + 2 * (number % 30000))
        call_id, from_tag = f"{prefix}-{number}@{caller[0]}", f"{number}SIPpTag1"
        leg = number % legs
        common = _string("call-id") + _string(call_id) + _string("received-from")
        replace = _string("replace") + _list("origin", "session-connection")
        answer_facing_callee = self._command(
            b"d" + _string("sdp") + _string(plain_sdp("caller", *caller)) + _string("direction")
            + _list(f"a{leg}", f"b{leg}") + replace + _string("transport-protocol") + _string("RTP/AVP") + common
            + _list("IP4", caller[0]) + _string("from-tag") + _string(from_tag) + _string("command") + _string("offer")
            + b"e"
        )  # fmt: skip
        answer_facing_caller = self._command(
            b"d" + _string("sdp") + _string(plain_sdp("callee", *callee)) + replace + common + _list("IP4", callee[0])
            + _string("from-tag") + _string(from_tag) + _string("to-tag") + _string(f"{number}B1")
            + _string("command") + _string("answer") + b"e"
        )  # fmt: skip
        return MediaCall(
            call_id,
            from_tag,
            caller,
            callee,
            facing_caller=_relay_endpoint(answer_facing_caller),
            facing_callee=_relay_endpoint(answer_facing_callee),
        )

    def delete(self, call: MediaCall) -> None:
        """End the call.

        Raises:
            BenchError: refused, or no reply.
        """
        self._command(
            b"d" + _string("call-id") + _string(call.call_id) + _string("from-tag") + _string(call.from_tag)
            + _string("command") + _string("delete") + b"e"
        )  # fmt: skip
