"""What happens on the control listeners, as values; the daemon logs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

MAX_NAMED: Final = 1024
"""How many peers or words one ``OnceEach`` remembers."""


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
    """Lets each name pass once, so that a log line that a peer can cause is written once; bounded."""

    def __init__(self, limit: int = MAX_NAMED) -> None:
        self._limit = limit
        self._seen: set[str] = set()

    def __call__(self, name: str) -> bool:
        """Whether the name is new; none is any more when the bound is reached."""
        if name in self._seen or len(self._seen) >= self._limit:
            return False
        self._seen.add(name)
        return True
