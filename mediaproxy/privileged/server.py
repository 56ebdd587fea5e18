"""The privileged process's loop: requests of the daemon, news of the network, and the backend's own needs.

One thread. It ends when the daemon has asked it to remove all, or is gone: then everything stays and goes on
forwarding.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Protocol

from mediaproxy.backends.flow_records import CHANGE
from mediaproxy.backends.kernel_backend import KernelBackend
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.privileged.installer import Installer, describe_refused
from mediaproxy.privileged.links import HostLinks
from mediaproxy.privileged.wire import (
    MAX_FRAME,
    MAX_RECORDS,
    MAX_TEXT,
    Frame,
    Kind,
    WireError,
    event_frame,
    pack_frame,
    pack_results,
    parse_frame,
)

_CHECK_EVERY: Final = 1.0
_NEWS_DELAY: Final = 0.1
"""Seconds from the first news of the network to the look at it: more will follow."""
_NEWS_EVERY: Final = 0.5
_REROUTE_STEP: Final = 50
"""Ways out that are looked up between two requests; some 0.2 ms each."""
_ANSWER_TIMEOUT: Final = 1.0


class Ending(Enum):
    """How a run of the server ended."""

    LEFT = "the daemon is gone"
    REMOVED = "all was removed"


class News(Protocol):
    """The parts of ``NetworkNews`` that are used here."""

    def fileno(self) -> int: ...
    def take(self) -> bool: ...


class Server:
    """Serves one daemon.

    Args:
        channel: the socket to the daemon; stays the caller's.
        read_links: asks the kernel for its devices.
        take_mtus: is told the devices' MTUs.
    """

    def __init__(
        self,
        channel: socket.socket,
        backend: KernelBackend,
        installer: Installer,
        news: News,
        read_links: Callable[[], HostLinks],
        take_mtus: Callable[[dict[int, int]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._backend = backend
        self._installer = installer
        self._news = news
        self._read_links = read_links
        self._take_mtus = take_mtus
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._watched: set[int] = set()
        self._ending: Ending | None = None
        self._next_check = clock() + _CHECK_EVERY
        self._look_at: float | None = None
        self._looked = float("-inf")
        self._links_concerned = False
        self._unsent = 0
        self._refused_frames = 0
        self._failing: dict[str, str] = {}

    def run(self) -> Ending:
        """Serve until the daemon is gone or all is removed."""
        self._channel.settimeout(_ANSWER_TIMEOUT)
        self._selector.register(self._channel, selectors.EVENT_READ)
        self._selector.register(self._news.fileno(), selectors.EVENT_READ)
        self._guard(self.look)
        self._watch_backend()
        with self._selector:
            while self._ending is None:
                self._turn()
        if self._ending is Ending.LEFT:
            self._guard(self._backend.leave)
        return self._ending

    def _turn(self) -> None:
        ready = {key.fd for key, _ in self._selector.select(self._patience())}
        if self._channel.fileno() in ready:
            self._serve_one()
        if self._ending is not None:
            return
        if self._news.fileno() in ready:
            self._guard(self._on_news)
        now = self._clock()
        if ready & self._watched or now >= self._next_check:
            self._next_check = now + _CHECK_EVERY
            self._guard(self._check)
            self._watch_backend()
        if self._look_at is not None and now >= self._look_at:
            self._guard(self._on_network)
        if self._installer.has_stale and not ready:
            self._guard(self._reroute)

    def _patience(self) -> float:
        if self._installer.has_stale:
            return 0.0
        until = self._next_check if self._look_at is None else min(self._next_check, self._look_at)
        return max(0.0, until - self._clock())

    def _guard(self, step: Callable[[], object]) -> None:
        """The boundary of all that nobody waits for an answer of; what fails every second is said once."""
        before = self._failing.pop(step.__name__, None)
        try:
            step()
        except Exception as error:  # noqa: BLE001  # a bug must not end what is forwarding
            self._failing[step.__name__] = repr(error)
            if repr(error) == before:
                return
            if isinstance(error, OffloadError):
                self._tell(DatapathEvent(DatapathEventKind.LOST, str(error)))
            else:
                self._tell_bug()

    def _watch_backend(self) -> None:
        wanted = set(self._backend.watch_fds)
        for fd in self._watched - wanted:
            with contextlib.suppress(KeyError, ValueError, OSError):  # it may be closed already
                self._selector.unregister(fd)
        for fd in wanted - self._watched:
            self._selector.register(fd, selectors.EVENT_READ)
        self._watched = wanted

    # ---- the network ----

    def _on_news(self) -> None:
        self._links_concerned |= self._news.take()
        if self._look_at is None:
            self._look_at = max(self._clock() + _NEWS_DELAY, self._looked + _NEWS_EVERY)

    def _on_network(self) -> None:
        self._look_at = None
        self._looked = self._clock()
        if self._links_concerned:
            self._links_concerned = False
            self.look()
        else:
            self._installer.routes_changed()

    def look(self) -> None:
        """Look at the network devices and have the backend watch them.

        Raises:
            OSError: the kernel does not tell.
            OffloadError: the backend is at its end.
        """
        host = self._read_links()
        self._take_mtus(host.mtus)
        for event in self._backend.attach(host.links):
            self._tell(event)
        self._installer.network_changed(host, self._backend.unattached)

    def _reroute(self) -> None:
        try:
            self._installer.reroute(_REROUTE_STEP)
        finally:
            self._tell_ways()

    def _tell_ways(self) -> None:
        """Tell the daemon which flows were taken out, and when ways are back.

        What cannot be sent now is kept for the next check: the daemon would go on taking these flows for installed.
        """
        while records := self._installer.taken_out(_REROUTE_STEP):
            if not self._try_send(Frame(Kind.TAKEN_OUT, body=b"".join(records))):
                return
            self._installer.taken_out_told(records)
        if self._installer.has_ways_back:
            event = DatapathEvent(DatapathEventKind.WAYS_BACK, "flows that had none are tried again")
            self._installer.has_ways_back = not self._try_send(event_frame(event))

    def _check(self) -> None:
        self._tell_ways()
        for event in self._backend.check():
            if event.flows_gone:
                self._installer.forget_all()
            self._tell(event)
        refused = self._installer.take_refused()
        if refused:
            self._tell(
                DatapathEvent(
                    DatapathEventKind.NOTE,
                    f"the privileged process refused changes: {describe_refused(sorted(refused.items()))}",
                )
            )
        if self._refused_frames:
            count, self._refused_frames = self._refused_frames, 0
            text = f"the privileged process refused {count} requests that are none"
            self._tell(DatapathEvent(DatapathEventKind.NOTE, text))

    # ---- the daemon ----

    def _serve_one(self) -> None:
        try:
            data = self._channel.recv(MAX_FRAME + 1)
        except OSError:
            data = b""
        if not data:
            self._ending = Ending.LEFT
            return
        serial = 0
        try:
            frame = parse_frame(data)
            serial = frame.serial
            answers = self._handle(frame)
        except WireError as error:
            self._refused_frames += 1
            answers = [Frame(Kind.FAILED, serial, f"refused: {error}".encode())]
        except OffloadError as error:
            answers = [Frame(Kind.FAILED, serial, str(error).encode())]
        except Exception:  # noqa: BLE001  # the boundary of a request
            self._tell_bug()
            answers = [Frame(Kind.FAILED, serial, b"internal error")]
        for answer in answers:
            self._send(answer)

    def _handle(self, frame: Frame) -> list[Frame]:
        serial = frame.serial
        if frame.kind is Kind.APPLY:
            return [Frame(Kind.RESULTS, serial, pack_results(self._installer.apply(frame.body)))]
        if frame.kind is Kind.DUMP:
            return _in_frames(self._backend.dump(), serial)
        if frame.kind is Kind.LOOK:
            self.look()
            return [Frame(Kind.DONE, serial)]
        if frame.kind is Kind.REMOVE_ALL:
            self._backend.remove()
            self._ending = Ending.REMOVED
            return [Frame(Kind.DONE, serial)]
        raise WireError(f"{frame.kind.name} is no request, or came too late")

    def _send(self, frame: Frame) -> None:
        try:
            self._channel.send(pack_frame(frame))
        except OSError:
            # It waits for no answer any more, or is gone. REMOVE_ALL stays carried out.
            self._ending = self._ending or Ending.LEFT

    def _tell(self, event: DatapathEvent) -> None:
        self._tell_frame(event_frame(event))

    def _tell_bug(self) -> None:
        text = traceback.format_exc().encode("utf-8", "backslashreplace")
        self._tell_frame(Frame(Kind.TRACEBACK, body=text[-MAX_TEXT:]))

    def _tell_frame(self, frame: Frame) -> None:
        """Events must not wait for a daemon that does not read them; what is lost is counted and said."""
        if self._unsent:
            lost = DatapathEvent(DatapathEventKind.NOTE, f"{self._unsent} events of the kernel path were lost")
            if not self._try_send(event_frame(lost)):
                self._unsent += 1
                return
            self._unsent = 0
        self._unsent += not self._try_send(frame)

    def _try_send(self, frame: Frame) -> bool:
        self._channel.settimeout(0)
        try:
            self._channel.send(pack_frame(frame))
        except OSError:  # full, or gone: then the next read says so
            return False
        finally:
            self._channel.settimeout(_ANSWER_TIMEOUT)
        return True


def _in_frames(records: bytes | bytearray, serial: int) -> list[Frame]:
    step = MAX_RECORDS * CHANGE.size
    parts: Sequence[bytes] = [bytes(records[at : at + step]) for at in range(0, len(records), step)] or [b""]
    last = len(parts) - 1
    return [Frame(Kind.RECORDS, serial, part, int(number < last)) for number, part in enumerate(parts)]
