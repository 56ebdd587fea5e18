"""What happens on the control listeners, as values; the daemon logs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

MAX_NAMED: Final = 1024
"""How many peers or words one ``OnceEach`` or ``LineLimit`` remembers."""

FORGET_AFTER: Final = 3600.0
"""Seconds after which a ``OnceEach`` names again what it has named."""

BURST: Final = 10
PER_SECOND: Final = 1.0
"""Log lines about one peer and reason: at once, and from then on."""

ALL_BURST: Final = 100
ALL_PER_SECOND: Final = 20.0
"""The same for all peers and reasons together."""

_NOTHING: Final[Mapping[str, object]] = {}
_NO_MORE: Final[Mapping[str, object]] = {"note": "further ones are not named"}


class ControlEventKind(Enum):
    """The value is the stable name of the event in logs."""

    REQUEST_REFUSED = "request refused"
    INTERNAL_ERROR = "internal error"
    UNKNOWN_OPTION = "unknown option ignored"
    NOT_NG = "datagram without a cookie dropped"
    PEER_REFUSED = "request of a peer that is not allowed dropped"
    OVERSIZED_REPLY = "reply too large for UDP"
    UNSENDABLE_REPLY = "reply could not be sent"


@dataclass(frozen=True, slots=True)
class ControlEvent:
    """One event; ``facts`` are what a reader of the log needs (``call_id`` among them where known), never bodies."""

    kind: ControlEventKind
    facts: Mapping[str, object]


OnControlEvent: TypeAlias = Callable[[ControlEvent], None]


class OnceEach:
    """Lets each name pass once, so that a log line that a peer can cause is written once; bounded.

    After an hour it forgets them all: however many names were made up, later ones are told again.
    """

    def __init__(self, limit: int = MAX_NAMED) -> None:
        self._limit = limit
        self._seen: set[str] = set()
        self._forget_at = 0.0

    def __call__(self, name: str, now: float) -> Mapping[str, object] | None:
        """Whether to name it.

        Args:
            now: monotonic seconds.
        Returns:
            What to add to the line, for the last one that further ones are not named; ``None``: don't name it.
        """
        seen = self._seen
        if seen and now >= self._forget_at:
            seen.clear()
        if name in seen or len(seen) > self._limit:
            return None
        if not seen:
            self._forget_at = now + FORGET_AFTER
        seen.add(name)
        return _NO_MORE if len(seen) > self._limit else _NOTHING


@dataclass(slots=True)
class _Bucket:
    """Tokens that come back with time."""

    size: int
    per_second: float
    tokens: float
    since: float
    suppressed: int = 0

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        self.tokens = min(self.size, self.tokens + (now - self.since) * self.per_second)
        self.since = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class LineLimit:
    """Bounds the log lines that peers can cause: for each peer and reason, and, since both can be made up, for all.

    Args:
        limit: how many pairs of peer and reason are told apart; of the longest unused one the count goes to the next
            line, whomever that is about.
    """

    def __init__(self, limit: int = MAX_NAMED) -> None:
        self._limit = limit
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._all: _Bucket | None = None
        self._lost = 0

    def __call__(self, peer: str, reason: str, now: float) -> int | None:
        """Whether a line may be written now.

        Args:
            now: monotonic seconds.
        Returns:
            How many such lines were not written since the last one; ``None``: this one isn't either.
        """
        everything = self._all
        if everything is None:
            everything = self._all = _Bucket(ALL_BURST, ALL_PER_SECOND, ALL_BURST, now)
        key = (peer, reason)
        own = self._buckets.get(key)
        if own is None:
            if len(self._buckets) >= self._limit:
                self._lost += self._buckets.popitem(last=False)[1].suppressed
            own = self._buckets[key] = _Bucket(BURST, PER_SECOND, BURST, now)
        else:
            self._buckets.move_to_end(key)
        if not own.take(now) or not everything.take(now):
            own.suppressed += 1
            return None
        suppressed = own.suppressed + self._lost
        own.suppressed = self._lost = 0
        return suppressed
