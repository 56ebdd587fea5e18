"""What is installed, and the way there: fence, way out, backend; and again whenever the network has changed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, EPERM, EXDEV
from itertools import islice
from struct import Struct
from typing import Final

from mediaproxy.backends.flow_records import CHANGE, LOCAL, REMOVE, RESULT, RESULT_OFFSET, SET, results
from mediaproxy.backends.kernel_backend import KernelBackend
from mediaproxy.privileged.fence import Fence
from mediaproxy.privileged.links import HostLinks
from mediaproxy.privileged.routes import Pair, Routes, WayOut

_KEY: Final = 18
"""Bytes of address and port at the head of a record."""
_WAY: Final = Struct("=IIH")
_WAY_OFFSET: Final = Struct("=20s HH 20s 20s 20s II").size
"""Where interface index, MTU and flags are in a record."""
_SOURCE: Final = slice(24, 40)
_SOURCE_PORT: Final = slice(40, 42)
_SENDER: Final = slice(44, 60)
_TARGET: Final = slice(64, 80)
_TARGET_PORT: Final = Struct("=H")
_TARGET_PORT_OFFSET: Final = 80
_OPERATION: Final = Struct("=H")
_OPERATION_OFFSET: Final = 20
_SLOT: Final = slice(84, 92)
_NO_PORT: Final = bytes(2)
_NO_WAY: Final = frozenset({-ENODEV, -ENETUNREACH, -EHOSTUNREACH})
"""Verdicts that last until the network changes."""
_MAX_AWAITED: Final = 1024
"""Flows without a way out that are looked at when the network has changed; the daemon tries all now and then."""


@dataclass(slots=True)
class _Entry:
    """``record`` as it was asked for; ``way`` is how it is installed, ``None`` if it was taken out (``taken_out``)."""

    record: bytes
    way: WayOut | None


class Installer:
    """Carries out changes and keeps what is installed up to date with links and routes.

    What the backend has installed when this is made (a daemon died) is taken over.
    """

    def __init__(self, backend: KernelBackend, fence: Fence, routes: Routes) -> None:
        self._backend = backend
        self._fence = fence
        self._routes = routes
        self._host = HostLinks()
        self._homes: dict[bytes, set[int]] = {}
        self._watched: frozenset[int] = frozenset()
        self._books: dict[bytes, _Entry] = {}
        self._stale: deque[bytes] = deque()
        self._taken_out: dict[bytes, bytes] = {}
        self._awaited: dict[bytes, bytes] = {}
        self.has_ways_back = False
        """A flow that was refused or taken out for want of a way has one again; whoever tells it sets it back."""
        self._refused: Counter[int] = Counter()
        for record in split(backend.dump()):
            ifindex, mtu, flags = _WAY.unpack_from(record, _WAY_OFFSET)
            asked = _with_way(record, WayOut())
            self._books[record[:_KEY]] = _Entry(asked, WayOut(0, ifindex, mtu, bool(flags & LOCAL)))

    def __len__(self) -> int:
        return len(self._books)

    def forget_all(self) -> None:
        """The kernel has lost all flows."""
        self._books.clear()
        self._stale.clear()
        self._taken_out.clear()
        self._awaited.clear()

    def take_refused(self) -> Counter[int]:
        """By errno, how many changes were refused since the last call that no daemon in order asks for."""
        refused, self._refused = self._refused, Counter()
        return refused

    def network_changed(self, host: HostLinks, unattached: Iterable[int] = ()) -> None:
        """Take over devices and addresses, and look at every way out again (``reroute``).

        Args:
            unattached: indices of the devices that the backend does not watch although they are up.
        """
        self._watched = frozenset(link.index for link in host.links) - frozenset(unattached)
        self._homes = {}
        for address, index in host.addresses:
            self._homes.setdefault(address, set()).add(index)
        self.routes_changed()

    def routes_changed(self) -> None:
        """Look at every way out again, in the steps that ``reroute`` takes."""
        self._routes.forget()
        self._stale = deque(dict.fromkeys([*self._books, *self._awaited]))

    @property
    def has_stale(self) -> bool:
        """Whether ``reroute`` has something to do."""
        return bool(self._stale)

    def reroute(self, count: int) -> int:
        """Look at up to ``count`` ways out again; how many flows were changed by that.

        A flow that was taken out is put back when it has a way, as long as the daemon has not removed it: it may be one
        of a daemon that died.
        """
        chunk = bytearray()
        changed: list[tuple[_Entry, WayOut | None, int]] = []
        while self._stale and count:
            count -= 1
            key = self._stale.popleft()
            entry = self._books.get(key)
            record = entry.record if entry is not None else self._awaited.get(key)
            if record is None:
                continue
            verdict, way = self._find_way(record)
            if verdict == 0 and key in self._awaited:
                self._awaited.clear()  # those that still have none are refused again
                self.has_ways_back = True
            new = way if verdict == 0 else None
            if entry is None or new == entry.way:
                continue
            # Without a way out the packets go up: the sockets know what to do with an error.
            chunk += _removal(record) if new is None else _with_way(record, new)
            changed.append((entry, new, verdict))
        if changed:
            self._backend.apply(chunk)
            for (entry, new, verdict), result in zip(changed, results(chunk), strict=True):
                self._note_way(entry, new, verdict, result)
        return len(changed)

    def _note_way(self, entry: _Entry, new: WayOut | None, verdict: int, result: int) -> None:
        key = entry.record[:_KEY]
        if new is None and result:
            return  # it is still there
        if new is not None and result == 0:
            entry.way = new
            self._taken_out.pop(key, None)
            return
        if entry.way is not None:
            self._taken_out[key] = _with_result(entry.record, verdict or result)
        entry.way = None
        self._await(entry.record, verdict)

    def _await(self, record: bytes, verdict: int) -> None:
        """Look at the way out of a flow that has none when the network has changed."""
        if verdict not in _NO_WAY:
            return
        self._awaited[record[:_KEY]] = record
        if len(self._awaited) > _MAX_AWAITED:
            del self._awaited[next(iter(self._awaited))]  # of a call that has ended, most likely

    def taken_out(self, count: int) -> list[bytes]:
        """Up to ``count`` flows that ``reroute`` took out, with -errno for a result, until ``taken_out_told``."""
        return list(islice(self._taken_out.values(), count))

    def taken_out_told(self, records: Iterable[bytes]) -> None:
        """The daemon was told of these."""
        for record in records:
            self._taken_out.pop(record[:_KEY], None)

    def apply(self, records: bytes) -> list[int]:
        """Carry out changes in their order.

        A set that is refused takes away what stood at its key: the daemon counts on the sockets then.

        Returns:
            0 or -errno for each. -EPERM, -EINVAL, -EOPNOTSUPP: see ``Fence.judge``. -EXDEV: the target is on this host,
            the source is not. -ENODEV: nobody watches the device of the relay address. -ENETUNREACH, -EHOSTUNREACH,
            -EACCES: no way out. Others: the backend's.
        """
        outcome: list[int] = []
        chunk = bytearray()
        places: list[tuple[int, _Entry | None]] = []
        latest: dict[bytes, bytes] = {}
        for number, record in enumerate(split(records)):
            key = record[:_KEY]
            entry = self._books.get(key)
            known = latest.get(key) or (entry.record if entry else None)
            verdict = self._fence.judge(record, known is not None)
            if verdict in {-EPERM, -EINVAL}:
                self._refused[-verdict] += 1
            is_set = _OPERATION.unpack_from(record, _OPERATION_OFFSET)[0] == SET
            way = WayOut()
            if verdict == 0 and is_set:
                verdict, way = self._find_way(record)
                self._await(record, verdict)
            outcome.append(verdict)
            if verdict:
                if known is not None and is_set:
                    chunk += _removal(known)
                    places.append((-1, None))
                    latest.pop(key, None)
                continue
            # Packed anew: what is padding must be zero, for it is part of the kernel's key.
            asked = CHANGE.pack(*CHANGE.unpack(record))
            chunk += _with_way(asked, way) if is_set else asked
            places.append((number, _Entry(asked, way) if is_set else None))
            if is_set:
                latest[key] = asked
        if places:
            self._backend.apply(chunk)
            for (number, entry), result, record in zip(places, results(chunk), split(chunk), strict=True):
                if number >= 0:
                    outcome[number] = result
                self._note(record, entry, result)
        return outcome

    def _note(self, record: bytes, entry: _Entry | None, result: int) -> None:
        """Bring the books to what the backend has made of a record; ``entry`` is that of a set."""
        key = record[:_KEY]
        if entry is None and (key not in self._books or self._books[key].record[_SLOT] != record[_SLOT]):
            return  # a removal that means another flow than this one changes nothing
        self._taken_out.pop(key, None)
        if entry is not None and result == 0:
            self._books[key] = entry
            self._awaited.pop(key, None)
        else:
            self._books.pop(key, None)

    def _find_way(self, record: bytes) -> tuple[int, WayOut]:
        """0 or -errno, and the way out."""
        local = record[:16]
        homes = self._homes.get(local)
        if homes is not None and not homes & self._watched:
            return -ENODEV, WayOut()
        target = record[_TARGET]
        if self._fence.is_ours(target, _TARGET_PORT.unpack_from(record, _TARGET_PORT_OFFSET)[0]):
            return -EXDEV, WayOut()
        way = self._routes.find((record[_SENDER], target))
        if way.errno:
            return -(way.errno if way.errno in {EHOSTUNREACH, EACCES} else ENETUNREACH), way
        if way.local and not self._is_local_source(local, record):
            # What comes from outside with a local address as its source is a martian to the kernel.
            return -EXDEV, way
        return 0, way

    def _is_local_source(self, local: bytes, record: bytes) -> bool:
        pair: Pair = (local, record[_SOURCE])
        return record[_SOURCE_PORT] != _NO_PORT and self._routes.find(pair).local


def split(records: bytes | bytearray) -> Iterator[bytes]:
    """The single records of an array."""
    for at in range(0, len(records), CHANGE.size):
        yield bytes(records[at : at + CHANGE.size])


def _with_way(record: bytes, way: WayOut) -> bytes:
    changed = bytearray(record)
    flags = _WAY.unpack_from(record, _WAY_OFFSET)[2]
    _WAY.pack_into(changed, _WAY_OFFSET, way.ifindex, way.mtu, (flags & ~LOCAL) | (way.local * LOCAL))
    return bytes(changed)


def _with_result(record: bytes, result: int) -> bytes:
    return record[:RESULT_OFFSET] + RESULT.pack(result)


def _removal(record: bytes) -> bytes:
    """The change that removes what a record has set."""
    slot = record[_SLOT]
    head = record[:20] + _OPERATION.pack(REMOVE) + bytes(_SLOT.start - 22)
    return head + slot + bytes(CHANGE.size - _SLOT.stop)


def describe_refused(refused: Sequence[tuple[int, int]]) -> str:
    """What ``Installer.take_refused`` has counted, in one line."""
    names = {EPERM: "not between relay endpoints", EINVAL: "no flow can be like that"}
    return ", ".join(f"{count} {names.get(number, number)}" for number, count in refused)
