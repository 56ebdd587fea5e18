"""What stands in for the engine, and a dispatcher around it."""

from __future__ import annotations

from collections.abc import Callable

from mediaproxy.listeners.control import ControlDispatcher
from mediaproxy.listeners.events import ControlEvent, ControlEventKind
from mediaproxy.ng.cookies import ReplyCache
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.stats.control import ControlCounters


class FakeHandler:
    """Remembers the requests; answers ``pong``, or whatever ``answer`` returns or raises."""

    def __init__(self, answer: Callable[[NgRequest], NgReply] = lambda _request: {"result": "pong"}) -> None:
        self.requests: list[NgRequest] = []
        self.answer = answer

    def handle(self, request: NgRequest, _now: float) -> NgReply:
        self.requests.append(request)
        return self.answer(request)


class Bench:
    """A dispatcher with its surroundings in view; each request takes a quarter of a second."""

    def __init__(self, answer: Callable[[NgRequest], NgReply] = lambda _request: {"result": "pong"}) -> None:
        self.handler = FakeHandler(answer)
        self.counters = ControlCounters()
        self.events: list[ControlEvent] = []
        self.time = 0.0
        self.dispatcher = ControlDispatcher(self.handler, ReplyCache(), self.counters, self.events.append, self._tick)

    def _tick(self) -> float:
        self.time += 0.25
        return self.time

    def ask(self, payload: bytes, cookie: bytes = b"c", peer: str = "192.0.2.1", now: float = 100.0) -> bytes | None:
        """The reply without its cookie."""
        reply = self.dispatcher.handle_datagram(cookie + b" " + payload, peer, now)
        if reply is None:
            return None
        assert reply.startswith(cookie + b" ")
        return reply[len(cookie) + 1 :]

    def events_of(self, kind: ControlEventKind) -> list[ControlEvent]:
        return [event for event in self.events if event.kind is kind]
