"""A call that is signalled to the proxy directly, without SIP: offer, answer, and again."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.ng_json import NgJsonClient
from tests.support.sipp import sdp_endpoint

SocketAddress = tuple[str, int]

_serial: Final = itertools.count(1)


class CallRefusedError(Exception):
    """The proxy answered with an error; the text is its reason."""


@dataclass(slots=True)
class NgCall:
    """One call between two parties, each on a logical interface of its own.

    Attributes:
        caller, callee: where each takes RTP.
        at_caller, at_callee: where each is to send RTP, once the call is answered.
        options: further keys of each offer and answer.
    """

    ng: NgJsonClient
    caller: SocketAddress
    callee: SocketAddress
    at_caller: SocketAddress = ("", 0)
    at_callee: SocketAddress = ("", 0)
    call_id: str = field(default_factory=lambda: f"call-{next(_serial)}")
    options: dict[str, Any] = field(default_factory=dict)
    _version: int = 0

    def set_up(self) -> NgCall:
        """Offer and answer.

        Raises:
            CallRefusedError: see there.
        """
        return self.invite(by_caller=True)

    def invite(self, *, by_caller: bool) -> NgCall:
        """An offer by one party and the answer of the other, as an INVITE in a call or a first one is.

        Raises:
            CallRefusedError: see there.
        """
        self._version += 1
        sides = ("external", "internal") if by_caller else ("internal", "external")
        offerer, answerer = (self.caller, self.callee) if by_caller else (self.callee, self.caller)
        tags = {"from_tag": "A", "to_tag": "B"} if by_caller else {"from_tag": "B", "to_tag": "A"}
        first = by_caller and self._version == 1
        offer_tags = {"from_tag": "A"} if first else tags
        to_answerer = self._ask("offer", offerer, direction=list(sides), **offer_tags)
        to_offerer = self._ask("answer", answerer, **tags)
        self.at_caller, self.at_callee = (to_offerer, to_answerer) if by_caller else (to_answerer, to_offerer)
        return self

    def delete(self) -> dict[str, Any]:
        """End it; returns the last report."""
        return self.ng.request("delete", call_id=self.call_id, from_tag="A")

    def query(self) -> dict[str, Any]:
        """The report on it."""
        return self.ng.query(self.call_id)

    def stream(self, tag: str) -> dict[str, Any]:
        """The report on the RTP of one party: ``A`` is the caller."""
        report: dict[str, Any] = self.query()["tags"][tag]["medias"][0]["streams"][0]
        return report

    def in_kernel(self, *tags: str) -> bool:
        """Whether the kernel forwards what these parties send (by default both)."""
        parties = self.query()["tags"]
        return all(parties[tag]["medias"][0]["streams"][0]["path"] == "kernel" for tag in tags or ("A", "B"))

    def _ask(self, command: str, party: SocketAddress, **keys: Any) -> SocketAddress:
        sdp = (
            f"v=0\r\no=- 1 {self._version} IN IP4 {party[0]}\r\ns=-\r\nc=IN IP4 {party[0]}\r\nt=0 0\r\n"
            f"m=audio {party[1]} RTP/AVP 0\r\n"
        )
        reply = self.ng.request(command, call_id=self.call_id, sdp=sdp, **keys, **self.options)
        if reply["result"] != "ok":
            raise CallRefusedError(str(reply.get("error-reason")))
        return sdp_endpoint(reply["sdp"])
