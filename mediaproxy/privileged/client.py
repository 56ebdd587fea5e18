"""The daemon's side of the kernel path: a ``Datapath`` whose changes are carried out by the privileged process."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

from mediaproxy.backends.flow_records import CHANGE, pack_changes, unpack_changes
from mediaproxy.datapath.flow import Capabilities, FlowReason, InstalledFlow, Slot
from mediaproxy.datapath.kernel import (
    DatapathEvent,
    DatapathEventKind,
    FlowCounters,
    FlowTotals,
    Refusal,
    RtpState,
)
from mediaproxy.errors import OffloadError
from mediaproxy.privileged.settings import PrivilegedSettings, Started, read_json, write_json
from mediaproxy.privileged.wire import (
    MAX_FRAME,
    MAX_RECORDS,
    Frame,
    Kind,
    WireError,
    pack_frame,
    parse_event,
    parse_frame,
    parse_results,
    parse_text,
)

_DEADLINE: Final = 2.0
"""Seconds that an answer may take before the kernel path is given up."""
_START_DEADLINE: Final = 30.0
"""The same for the start, during which backends are tried."""
_FIRST_PART: Final = 64
"""Changes in the first request; further ones are longer or shorter, so that each is answered long before _DEADLINE."""
_MIN_PART: Final = 16
_QUICK: Final = 0.02
_SLOW: Final = 0.2
_MAX_EVENTS: Final = 1000
_MAX_FDS: Final = 2
_SEND_BUFFER: Final = 1 << 20

_REASONS: Final = {
    errno.ENOSPC: FlowReason.MAP_FULL,
    errno.EXDEV: FlowReason.LOCAL_PEER,
    errno.ENODEV: FlowReason.NOT_ATTACHED,
    errno.ENETUNREACH: FlowReason.NO_ROUTE,
    errno.EHOSTUNREACH: FlowReason.NO_ROUTE,
}
"""What an errno means; all others are ``REFUSED`` with it."""
_ENDED: Final = (
    "the privileged process has ended: all calls go on by the sockets; the daemon has given up its rights, so only a "
    "restart of it brings the kernel path back"
)


class FlowStats(Protocol):
    """The statistics of all flows in shared memory."""

    def clear(self, kept: Collection[int]) -> None: ...
    def seed(self, slot: Slot, state: RtpState | None) -> None: ...
    def read(self, slot: Slot) -> FlowCounters: ...
    def last_seen(self, slot: Slot) -> float | None: ...
    def totals(self) -> FlowTotals: ...
    def close(self) -> None: ...


class Channel:
    """The socket to the privileged process: requests with their answers, events in between.

    Args:
        channel: the daemon's end; this closes it.
        on_bug: takes the tracebacks of the other side.
    """

    def __init__(self, channel: socket.socket, on_bug: Callable[[str], None]) -> None:
        self._socket = channel
        self._on_bug = on_bug
        self._serial = 0
        self._events: deque[DatapathEvent] = deque(maxlen=_MAX_EVENTS)
        self.failure = ""
        """Why it is of no use any more; empty while it is."""
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def fileno(self) -> int:
        return self._socket.fileno()

    def ask(
        self, kind: Kind, body: bytes = b"", *, answer: Kind = Kind.DONE, deadline: float = _DEADLINE
    ) -> tuple[Frame, list[int]]:
        """Send a request and wait for its answer, with the descriptors that came along.

        Raises:
            OffloadError: there is no answer in time, it says that it failed, or the other side is gone. The channel is
                of no use afterwards.
        """
        if self.failure:
            raise OffloadError(self.failure)
        self._serial = (self._serial + 1) % 2**32
        until = time.monotonic() + deadline
        try:
            self._socket.settimeout(deadline)
            self._socket.send(pack_frame(Frame(kind, self._serial, body)))
            return self._wait(answer, until)
        except TimeoutError:
            self._fail(f"the privileged process has not answered within {deadline:g} s: the kernel path is given up")
        except OSError:
            self._fail(_ENDED)
        except WireError as error:
            self._fail(f"the privileged process talks nonsense ({error}): the kernel path is given up")
        raise OffloadError(self.failure)

    def next_part(self, answer: Kind) -> Frame:
        """Wait for a further frame of the answer.

        Raises:
            OffloadError: see ``ask``.
        """
        try:
            return self._wait(answer, time.monotonic() + _DEADLINE)[0]
        except (OSError, WireError) as error:
            self._fail(f"the privileged process has not answered in full ({error}): the kernel path is given up")
            raise OffloadError(self.failure) from error

    def _wait(self, answer: Kind, until: float) -> tuple[Frame, list[int]]:
        while True:
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            data, fds, _, _ = socket.recv_fds(self._socket, MAX_FRAME + 1, _MAX_FDS)
            if not data:
                raise ConnectionResetError
            frame = parse_frame(data)
            if frame.kind is answer and frame.serial == self._serial:
                return frame, fds
            for fd in fds:
                os.close(fd)
            if frame.kind is Kind.FAILED:
                self._fail(f"the privileged process cannot go on: {parse_text(frame)}")
                raise OffloadError(self.failure)
            self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        if frame.kind is Kind.EVENT:
            self._events.append(parse_event(frame))
        elif frame.kind is Kind.TAKEN_OUT:
            self._events.append(_taken_out(frame.body))
        elif frame.kind is Kind.TRACEBACK:
            self._on_bug(parse_text(frame))
        else:
            raise WireError(f"{frame.kind.name}, which nobody has asked for")

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    def take_events(self) -> list[DatapathEvent]:
        """What came since the last call.

        Raises:
            OffloadError: the other side is gone, and there is nothing that it said before.
        """
        while not self.failure:
            try:
                self._socket.settimeout(0)
                data = self._socket.recv(MAX_FRAME + 1)
                if not data:
                    raise ConnectionResetError
                self._keep(parse_frame(data))
            except (BlockingIOError, TimeoutError):
                break
            except OSError:
                self._fail(_ENDED)
            except WireError as error:
                self._fail(f"the privileged process talks nonsense ({error}): the kernel path is given up")
        events = list(self._events)
        self._events.clear()
        if self.failure and not events:
            raise OffloadError(self.failure)
        return events

    def _fail(self, reason: str) -> None:
        if self.failure:
            return
        self.failure = reason
        with contextlib.suppress(OSError):
            # Should it live: what it has installed would be in the way of the sockets.
            self._socket.settimeout(0)
            self._socket.send(pack_frame(Frame(Kind.REMOVE_ALL)))
        # It stays open until ``close``, so that a loop that watches it does not watch another file of its number.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket; the privileged process then ends."""
        self.failure = self.failure or "closed"
        self._socket.close()


def start(channel: Channel, settings: PrivilegedSettings) -> tuple[Started, list[int]]:
    """Tell the privileged process what to do and wait for what it has found.

    Returns:
        Its answer and its descriptors: statistics and, with ``has_tap``, the tap; the caller's.
    Raises:
        OffloadError: it ended, or says that it failed.
    """
    frame, fds = channel.ask(Kind.SETTINGS, write_json(settings), answer=Kind.STARTED, deadline=_START_DEADLINE)
    try:
        started = read_json(Started, frame.body)
        if len(fds) != (1 + started.has_tap if started.backend else 0):
            raise WireError(f"{len(fds)} descriptors")
    except WireError as error:
        for fd in fds:
            os.close(fd)
        raise OffloadError(f"the privileged process talks nonsense: {error}") from error
    return started, fds


class RemoteDatapath:
    """A ``Datapath`` that the privileged process carries out; made by ``launch``.

    Call ``take_events`` when ``fileno`` is readable, and after other calls: they keep what came in between.
    """

    def __init__(self, channel: Channel, started: Started, stats: FlowStats, tap_fd: int = -1) -> None:
        """Args:
        stats: of the descriptor that came with ``started``; this closes it.
        tap_fd: the ring buffer of copied packets, -1 if there is none; this closes it.
        """
        self._channel = channel
        self._started = started
        self._stats = stats
        self._part = _FIRST_PART
        self.tap_fd = tap_fd

    @property
    def name(self) -> str:
        return self._started.backend

    @property
    def capabilities(self) -> Capabilities:
        return self._started.capabilities

    @property
    def slots(self) -> int:
        return self._started.slots

    def fileno(self) -> int:
        """Readable when there are events, and for good once ``has_failed``: nobody must wait for it then."""
        return self._channel.fileno()

    @property
    def has_failed(self) -> bool:
        """Whether it is of no use any more; ``take_events`` says why, once."""
        return bool(self._channel.failure)

    def apply(self, sets: Sequence[InstalledFlow], removals: Sequence[InstalledFlow]) -> list[Refusal]:
        """See ``Datapath.apply``."""
        records = bytes(pack_changes(sets, removals))
        results: list[int] = []
        at = 0
        while at < len(records):
            part = records[at : at + self._part * CHANGE.size]
            at += len(part)
            began = time.monotonic()
            frame, _ = self._channel.ask(Kind.APPLY, part, answer=Kind.RESULTS)
            self._learn_pace(time.monotonic() - began)
            results += parse_results(frame.body)
        return [_refusal(flow, result) for flow, result in zip(sets, results[len(removals) :], strict=True) if result]

    def _learn_pace(self, seconds: float) -> None:
        """How many changes to ask for at once: slow backends (iptables) take 10 ms for each, others 10 us."""
        if seconds < _QUICK:
            self._part = min(2 * self._part, MAX_RECORDS)
        elif seconds > _SLOW:
            self._part = max(self._part // 2, _MIN_PART)

    def installed(self) -> list[InstalledFlow]:
        """See ``Datapath.installed``."""
        frame, _ = self._channel.ask(Kind.DUMP, answer=Kind.RECORDS)
        bodies = [frame.body]
        while frame.detail:
            frame = self._channel.next_part(Kind.RECORDS)
            bodies.append(frame.body)
        try:
            return [record.installed for body in bodies for record in unpack_changes(body)]
        except ValueError as error:
            raise OffloadError(f"the privileged process lists a flow that is none: {error}") from error

    def look(self) -> None:
        """Have the network devices looked at now.

        Raises:
            OffloadError: see ``Datapath``.
        """
        self._channel.ask(Kind.LOOK)

    def clear(self, kept: Sequence[InstalledFlow]) -> None:
        """See ``Datapath.clear``."""
        self._stats.clear({flow.slot.index for flow in kept})

    def seed(self, slot: Slot, state: RtpState | None) -> None:
        """See ``Datapath.seed``."""
        self._stats.seed(slot, state)

    def read(self, slot: Slot) -> FlowCounters:
        """See ``Datapath.read``."""
        return self._stats.read(slot)

    def last_seen(self, slot: Slot) -> float | None:
        """See ``Datapath.last_seen``."""
        return self._stats.last_seen(slot)

    def totals(self) -> FlowTotals:
        """See ``Datapath.totals``."""
        return self._stats.totals()

    @property
    def has_events(self) -> bool:
        """See ``Datapath.has_events``."""
        return self._channel.has_events

    def take_events(self) -> list[DatapathEvent]:
        """See ``Datapath.take_events``."""
        return self._channel.take_events()

    def remove_all(self) -> None:
        """Take everything out of the kernel; of no use afterwards.

        Raises:
            OffloadError: see ``Datapath``.
        """
        self._channel.ask(Kind.REMOVE_ALL)

    def close(self) -> None:
        """Let go of everything; what is installed stays if ``remove_all`` was not called."""
        self._channel.close()
        self._stats.close()
        if self.tap_fd >= 0:
            os.close(self.tap_fd)
            self.tap_fd = -1


def _refusal(flow: InstalledFlow, result: int) -> Refusal:
    return Refusal(flow, _REASONS.get(-result, FlowReason.REFUSED), 0 if -result in _REASONS else -result)


def _taken_out(body: bytes) -> DatapathEvent:
    """The event that a frame of kind ``TAKEN_OUT`` is.

    Raises:
        WireError: a record is no flow.
    """
    try:
        flows = tuple(_refusal(record.installed, record.result) for record in unpack_changes(body))
    except ValueError as error:
        raise WireError(f"a flow was taken out that is none: {error}") from error
    text = f"{len(flows)} have no way out any more: their media goes on by the sockets"
    return DatapathEvent(DatapathEventKind.TAKEN_OUT, text, flows=flows)
