"""The retransmission cache: a request that comes again gets the same bytes again, and is not executed again.

SIP proxies resend a request under the same cookie when no reply came in time (1 s, five tries). Replies live in two
generations, as in rtpengine (reference A.2). The key holds the peer's address besides the cookie, because two SIP
proxies may pick the same one; it holds neither port nor transport, because one proxy has many sockets.
"""

from __future__ import annotations

from typing import Final

GENERATION_SECONDS: Final = 30.0
"""A reply lives for the rest of its generation and one more: at least 30 s, and less than 60 s."""

_OVERHEAD: Final = 250
"""What an entry costs besides its bytes: key tuple, two bytes objects, its share of the table."""


class ReplyCache:
    """Sent replies by cookie and peer.

    When half of either bound is used up by one generation, the other one is dropped before its time; a flood of
    requests then shortens the memory to the last so many replies, which is still seconds of traffic.

    Args:
        max_entries, max_bytes: bounds of both generations together.
    Attributes:
        evicted: replies that were dropped before their time.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_entries", "_new", "_old", "_since", "evicted")

    def __init__(self, max_entries: int = 262_144, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_entries = max_entries // 2
        self._max_bytes = max_bytes // 2
        self._new: dict[tuple[bytes, str], bytes] = {}
        self._old: dict[tuple[bytes, str], bytes] = {}
        self._bytes = 0
        self._since = 0.0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, cookie: bytes, peer: str, now: float) -> bytes | None:
        """The reply that was sent to this request, cookie included, or ``None`` if it is new.

        Args:
            peer: IP address, without port.
            now: monotonic seconds.
        """
        if now - self._since >= GENERATION_SECONDS:
            self._turn(now)
        key = (cookie, peer)
        reply = self._new.get(key)
        return reply if reply is not None else self._old.get(key)

    def put(self, cookie: bytes, peer: str, reply: bytes, now: float) -> None:
        """Remember a reply."""
        if now - self._since >= GENERATION_SECONDS:
            self._turn(now)
        size = len(reply) + len(cookie) + _OVERHEAD
        if len(self._new) >= self._max_entries or self._bytes + size > self._max_bytes:
            self.evicted += len(self._old)
            self._begin_generation(now)
        self._new[(cookie, peer)] = reply
        self._bytes += size

    def _turn(self, now: float) -> None:
        """Drop what is too old; generations begin at fixed intervals, so that nothing lives longer than two of them."""
        generations = int((now - self._since) // GENERATION_SECONDS)
        if generations > 1:
            self._new = {}
        self._begin_generation(self._since + generations * GENERATION_SECONDS)

    def _begin_generation(self, since: float) -> None:
        self._old = self._new
        self._new = {}
        self._bytes = 0
        self._since = since
