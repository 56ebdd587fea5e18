"""What happens to calls, as values: the shell logs them, later work keeps them as a timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Fact: TypeAlias = str | int | float


class EventKind(Enum):
    """The value is the stable name of the event in logs."""

    CREATED = "call created"
    OFFERED = "offer"
    ANSWERED = "answer"
    LEARNT = "source learnt"
    SOURCE_REFUSED = "source refused"
    DELETE_SCHEDULED = "delete scheduled"
    CLOSED = "call closed"
    PATH = "media path"
    PATH_DETAIL = "media path not ready"
    """For a reason that passes by itself: not learnt yet, on hold."""
    ORPHAN_ENDED = "orphan flow ended"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One event of one call; ``facts`` are what a reader of the log needs, never keys or bodies."""

    kind: EventKind
    call_id: str
    facts: Mapping[str, Fact]
