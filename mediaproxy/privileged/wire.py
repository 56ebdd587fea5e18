"""What the daemon and the privileged process say to each other: frames over a SOCK_SEQPACKET socket pair.

A frame is a head and a body. Bodies are arrays of ``struct mpo_flow_change`` (``backends.flow_records``), arrays of
results, JSON or UTF-8 text, by the kind. Either side may be broken or worse: whatever bytes arrive are parsed, or
refused with ``WireError``.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from mediaproxy.backends.flow_records import CHANGE
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import MediaProxyError

HEAD: Final = Struct("=HHI")
"""Kind, detail (by the kind, else zero), serial of the request that is made or answered (events: zero)."""

MAX_RECORDS: Final = 512
"""Flow changes in one frame."""
MAX_TEXT: Final = 32_768
"""Bytes of a JSON or text body."""
MAX_FRAME: Final = HEAD.size + max(MAX_RECORDS * CHANGE.size, MAX_TEXT)


class WireError(MediaProxyError):
    """These bytes are no frame."""


class Kind(IntEnum):
    """What a frame is. Requests are the daemon's, answers and events the privileged process's."""

    SETTINGS = 1
    """JSON; the first frame, and never again. Answered by ``STARTED``."""
    APPLY = 2
    """1 to ``MAX_RECORDS`` changes. Answered by ``RESULTS``."""
    DUMP = 3
    """Answered by one or more ``RECORDS``."""
    LOOK = 4
    """Look at the network devices now. Answered by ``DONE``."""
    REMOVE_ALL = 5
    """Take everything out of the kernel and end. Answered by ``DONE``."""

    STARTED = 64
    """JSON, with the descriptors of statistics and tap if a backend was found."""
    RESULTS = 65
    """One signed 32-bit 0 or -errno per change, in their order."""
    RECORDS = 66
    """Changes (``MPO_FLOW_SET``); ``detail`` is 1 if more frames of them follow."""
    DONE = 67
    FAILED = 68
    """Text: the request was not understood, or there is a bug."""

    EVENT = 128
    """Text of a ``DatapathEvent``; ``detail`` is its kind, with ``FLOWS_GONE`` added."""
    TRACEBACK = 129
    """Text for the log: a bug was met."""
    TAKEN_OUT = 130
    """Up to ``MAX_RECORDS`` flows (``MPO_FLOW_SET``) that are not in the kernel any more, each with its -errno."""


REQUESTS: Final = frozenset({Kind.SETTINGS, Kind.APPLY, Kind.DUMP, Kind.LOOK, Kind.REMOVE_ALL})
_WITH_RECORDS: Final = frozenset({Kind.APPLY, Kind.RECORDS, Kind.TAKEN_OUT})
_WITH_TEXT: Final = frozenset({Kind.SETTINGS, Kind.STARTED, Kind.FAILED, Kind.EVENT, Kind.TRACEBACK})

EVENT_KINDS: Final = (
    DatapathEventKind.LOST,
    DatapathEventKind.RESTORED,
    DatapathEventKind.NOTE,
    DatapathEventKind.WAYS_BACK,
)
"""By their numbers in ``detail``; ``TAKEN_OUT`` is a frame of its own kind."""
FLOWS_GONE: Final = 256


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame; the length of ``body`` fits ``kind``, what is in it was not looked at."""

    kind: Kind
    serial: int = 0
    body: bytes = b""
    detail: int = 0


def pack_frame(frame: Frame) -> bytes:
    """The bytes of a frame; texts that are too long are cut."""
    body = frame.body[:MAX_TEXT] if frame.kind in _WITH_TEXT else frame.body
    return HEAD.pack(frame.kind, frame.detail, frame.serial) + body


def parse_frame(data: bytes) -> Frame:
    """Split one datagram into head and body.

    Raises:
        WireError: it is too short or too long, of no kind that we know, or its body's length is wrong for its kind.
    """
    if not HEAD.size <= len(data) <= MAX_FRAME:
        raise WireError(f"a frame of {len(data)} bytes")
    number, detail, serial = HEAD.unpack_from(data)
    try:
        kind = Kind(number)
    except ValueError:
        raise WireError(f"a frame of kind {number}") from None
    body = data[HEAD.size :]
    if not _fits(kind, len(body)):
        raise WireError(f"a frame of kind {kind.name} with {len(body)} bytes of body")
    return Frame(kind, serial, body, detail)


def _fits(kind: Kind, length: int) -> bool:
    if kind in _WITH_RECORDS:
        # An empty array says "nothing is installed", but nobody asks for no change.
        return length % CHANGE.size == 0 and (length > 0 or kind is Kind.RECORDS)
    if kind is Kind.RESULTS:
        return length % 4 == 0 and 0 < length <= 4 * MAX_RECORDS
    if kind in _WITH_TEXT:
        return length <= MAX_TEXT
    return length == 0


def pack_results(results: list[int]) -> bytes:
    """The body of ``RESULTS``."""
    return array("i", results).tobytes()


def parse_results(body: bytes) -> list[int]:
    """Read the body of ``RESULTS``, a multiple of four bytes."""
    return array("i", body).tolist()


def event_frame(event: DatapathEvent) -> Frame:
    """An event as a frame."""
    detail = EVENT_KINDS.index(event.kind) | event.flows_gone * FLOWS_GONE
    return Frame(Kind.EVENT, body=event.text.encode("utf-8", "backslashreplace"), detail=detail)


def parse_event(frame: Frame) -> DatapathEvent:
    """The event in a frame of kind ``EVENT``.

    Raises:
        WireError: it has no such kind.
    """
    number = frame.detail & ~FLOWS_GONE
    if number >= len(EVENT_KINDS):
        raise WireError(f"an event of kind {number}")
    return DatapathEvent(EVENT_KINDS[number], parse_text(frame), bool(frame.detail & FLOWS_GONE))


def parse_text(frame: Frame) -> str:
    """The text in a frame, whatever its bytes are."""
    return frame.body.decode("utf-8", "backslashreplace")
