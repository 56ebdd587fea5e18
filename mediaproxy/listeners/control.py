"""From request bytes to reply bytes, the same for every transport of the ng protocol."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Final, Protocol

from mediaproxy.errors import LimitReachedError, NgSyntaxError, RequestError
from mediaproxy.listeners.events import ControlEvent, ControlEventKind, LineLimit, OnceEach, OnControlEvent
from mediaproxy.ng.cookies import ReplyCache
from mediaproxy.ng.message import Encoding, NgReply, NgRequest, detect_encoding, split_message
from mediaproxy.ng.options import parse_request
from mediaproxy.ng.payload import decode_payload, encode_payload
from mediaproxy.stats.control import OTHER_COMMANDS, ControlCounters, Drop

MAX_UDP_REPLY: Final = 65_507
"""The largest payload of a UDP datagram over IPv4."""

_MAX_COMMAND: Final = 64
_MAX_DETAIL: Final = 1024
"""Characters of these in a log line."""


class RequestHandler(Protocol):
    """Carries out requests: the engine, or what stands before it."""

    def handle(self, request: NgRequest, now: float, /) -> NgReply:
        """Carry out a request.

        Raises:
            RequestError: it can't be done; the text becomes ``error-reason``.
        """
        ...


class ControlDispatcher:
    """Answers ng messages: cookie, retransmissions, encodings, errors, counters.

    Args:
        handler: carries out what is not a retransmission.
        cache: shared by all transports.
        counters: filled here.
        on_event: gets what is worth a log line.
        clock: seconds, for the durations in the counters.
    """

    def __init__(
        self,
        handler: RequestHandler,
        cache: ReplyCache,
        counters: ControlCounters,
        on_event: OnControlEvent,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._handler = handler
        self._cache = cache
        self._on_event = on_event
        self._clock = clock
        self._is_new_word = OnceEach()
        self._is_new_offender = OnceEach()
        self._may_tell = LineLimit()
        self.counters = counters

    def handle_datagram(self, data: bytes, peer: str, now: float) -> bytes | None:
        """Answer one datagram.

        Args:
            peer: the IP address that it came from.
            now: monotonic seconds.
        Returns:
            The reply, or ``None`` if the datagram is dropped; it has been counted then.
        """
        try:
            cookie, payload = split_message(data)
        except NgSyntaxError:
            self.counters.drops[Drop.NO_COOKIE] += 1
            note = self._is_new_offender(peer, now)
            if note is not None:
                self._on_event(ControlEvent(ControlEventKind.NOT_NG, {"peer": peer, "bytes": len(data), **note}))
            return None
        sent = self._cache.get(cookie, peer, now)
        if sent is not None:
            self.counters.retransmissions += 1
            return sent
        started = self._clock()
        command, body, failed = self._answer(payload, peer, now, MAX_UDP_REPLY - len(cookie) - 1)
        reply = b"%b %b" % (cookie, body)
        self._cache.put(cookie, peer, reply, now)
        self.counters.evicted_replies = self._cache.evicted
        self.counters.add_request(peer, command, self._clock() - started, failed=failed)
        return reply

    def _answer(self, payload: bytes, peer: str, now: float, room: int) -> tuple[str, bytes, bool]:
        """The command, the encoded reply, and whether it is an error."""
        encoding = Encoding.BENCODE
        request: NgRequest | None = None
        try:
            try:
                encoding = detect_encoding(payload)
                request = parse_request(decode_payload(payload, encoding), peer)
                if request.unknown:
                    self._name_unknown(request, now)
                reply = self._handler.handle(request, now)
            except RequestError as error:
                reply = self._refuse(error, request, peer, now)
            body = encode_payload(reply, encoding)
            if len(body) > room:
                reply = self._shorten(reply, request, len(body), peer, now)
                body = encode_payload(reply, encoding)
        except Exception:  # noqa: BLE001  # the boundary of a request: a bug costs this request and nothing else
            self.counters.internal_errors += 1
            facts: dict[str, object] = {"traceback": traceback.format_exc()}
            self._tell(ControlEventKind.INTERNAL_ERROR, request, peer, facts, now)
            reply = {"result": "error", "error-reason": "Internal error"}
            body = encode_payload(reply, encoding)
        command = OTHER_COMMANDS if request is None else request.command
        return command, body, reply.get("result") == "error"

    def _refuse(self, error: RequestError, request: NgRequest | None, peer: str, now: float) -> NgReply:
        reason = str(error)
        detail = error.detail if error.detail != reason else ""
        facts: dict[str, object] = {"reason": reason}
        if detail:
            facts["detail"] = detail[:_MAX_DETAIL]
        self._tell(ControlEventKind.REQUEST_REFUSED, request, peer, facts, now)
        if isinstance(error, LimitReachedError) and request is not None and request.supports_load_limit:
            return {"result": "load limit", "message": error.limit}
        reply: NgReply = {"result": "error", "error-reason": reason}
        if detail:
            reply["error-detail"] = detail
        return reply

    def _shorten(self, reply: NgReply, request: NgRequest | None, size: int, peer: str, now: float) -> NgReply:
        """What to say instead of a reply that no datagram can carry."""
        self.counters.oversized += 1
        self._tell(ControlEventKind.OVERSIZED_REPLY, request, peer, {"bytes": size}, now)
        text = "Reply too large for UDP"
        if request is not None and request.command == "delete" and reply.get("result") == "ok":
            # The call is gone: to say "error" would be wrong, only its statistics can't be told.
            return {"warning": text, "result": "ok"}
        return {"result": "error", "error-reason": text}

    def _name_unknown(self, request: NgRequest, now: float) -> None:
        for option in request.unknown:
            note = self._is_new_word(option, now)
            if note is not None:
                facts: dict[str, object] = {"option": option, **note}
                self._emit_about(ControlEventKind.UNKNOWN_OPTION, request, request.control_peer, facts)

    def _tell(
        self, kind: ControlEventKind, request: NgRequest | None, peer: str, facts: dict[str, object], now: float
    ) -> None:
        """Emit what a peer can cause as often as it likes, as often as we like."""
        suppressed = self._may_tell(peer, str(facts.get("reason", kind.value)), now)
        if suppressed is not None:
            self._emit_about(kind, request, peer, {**facts, "suppressed": suppressed} if suppressed else facts)

    def _emit_about(
        self, kind: ControlEventKind, request: NgRequest | None, peer: str, facts: dict[str, object]
    ) -> None:
        about: dict[str, object] = {}
        if request is not None:
            if request.call_id is not None:
                about["call_id"] = request.call_id
            about["command"] = request.command[:_MAX_COMMAND]
        self._on_event(ControlEvent(kind, {**about, "peer": peer, **facts}))
