"""Connection tracking entries, by ctnetlink: read the marked ones, read one, delete one.

Not by pyroute2's ``NFCTSocket``: to dump and read 1000 entries takes it 110 ms, once a second; this takes 16 (Python
3.11, measured beside each other). Only what the iptables backend needs is here.

Source: linux/netfilter/nfnetlink_conntrack.h, nfnetlink.h and nf_conntrack_common.h; attributes are padded to 4 bytes,
their numbers are in network byte order (the ones of netlink's own headers are not).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

from mediaproxy.errors import OffloadError

_NETLINK_NETFILTER: Final = 12
_SUBSYSTEM: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_NEW: Final = _SUBSYSTEM
_GET: Final = _SUBSYSTEM | 1
_DELETE: Final = _SUBSYSTEM | 2
_ERROR: Final = 2
_DONE: Final = 3
_REQUEST: Final = 0x1
_ACK: Final = 0x4
_DUMP: Final = 0x300
_NETLINK_CAP_ACK: Final = 10
_SOL_NETLINK: Final = 270

_TUPLE_ORIG: Final = 1
_STATUS: Final = 3
_MARK: Final = 8
_COUNTERS_ORIG: Final = 9
_ID: Final = 12
_ZONE: Final = 18
_MARK_MASK: Final = 21
_TUPLE_IP: Final = 1
_TUPLE_PROTO: Final = 2
_NESTED: Final = 0x8000
_TYPE: Final = 0x3FFF
_ASSURED: Final = 1 << 2
_DST_NAT: Final = 1 << 5

_HEADER: Final = Struct("=IHHII")
_GENERIC: Final = Struct("=BBH")
_ATTRIBUTE: Final = Struct("=HH")
_BE16: Final = Struct(">H")
_BE32: Final = Struct(">I")
_BE64: Final = Struct(">Q")
_ERRNO: Final = Struct("=i")
_HEADERS: Final = _HEADER.size + _GENERIC.size

_RECEIVE_BUFFER: Final = 1 << 20
_READ: Final = 1 << 17
_AT_ONCE: Final = 64
"""How many requests go into one message: their answers fit into the receive buffer."""


@dataclass(frozen=True, slots=True)
class Tuple:
    """What a packet of an entry's original direction looks like, and the zone it is tracked in.

    Attributes:
        source: 4 or 16 bytes, as ``destination``.
        zone: of the original direction, 0 for the default one.
    """

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    zone: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One UDP entry.

    Attributes:
        identity: tells it from later ones with the same tuple.
        packets: of the original direction; 0 where accounting was off when the entry was made.
        bytes: of whole IP packets.
        assured: not the first to go when the table is full.
    """

    tuple: Tuple
    identity: int
    packets: int
    bytes: int
    status: int

    @property
    def translated(self) -> bool:
        """Its packets' destination is changed."""
        return bool(self.status & _DST_NAT)

    @property
    def assured(self) -> bool:
        return bool(self.status & _ASSURED)


class Conntrack:
    """A socket to the connection tracking of the network namespace in which it was made. Needs CAP_NET_ADMIN.

    Raises:
        OffloadError: the kernel has no ctnetlink (``nf_conntrack_netlink``).
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        except OSError as error:
            raise OffloadError(f"no netfilter netlink: {error.strerror}") from error
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.settimeout(2.0)  # the kernel answers at once or never
        self._sequence = 0
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                self.marked(family, 0xFFFFFFFF, 0xFFFFFFFF)
        except OffloadError:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def marked(self, family: int, mark: int, mask: int) -> list[Entry]:
        """The UDP entries of a family (``AF_INET``, ``AF_INET6``) whose mark under ``mask`` is ``mark``.

        The kernel selects, so that the price is that of our own entries.

        Raises:
            OffloadError: the kernel did not answer, or refused.
        """
        self._sequence += 1
        attributes = _number(_MARK, mark) + _number(_MARK_MASK, mask)
        self._send(_message(_GET, _REQUEST | _DUMP, self._sequence, family, attributes))
        entries: list[Entry] = []
        while True:
            for kind, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind == _DONE:
                    return entries
                if kind == _ERROR:
                    _raise("reading connection tracking", -_ERRNO.unpack_from(body)[0])
                entry = _entry(body)
                if entry is not None:
                    entries.append(entry)

    def take(self, tuples: Sequence[Tuple]) -> list[Entry | None]:
        """Read entries and delete them: what they have counted when they go, ``None`` where there is none.

        Nothing arrives in between if the packets have been led elsewhere before.

        Raises:
            OffloadError: the kernel did not answer, or refused.
        """
        taken: list[Entry | None] = []
        for first in range(0, len(tuples), _AT_ONCE):
            some = tuples[first : first + _AT_ONCE]
            found = {entry.tuple: entry for entry in self._ask([(_GET, wanted, b"") for wanted in some])}
            self._delete(list(found.values()))
            taken += [found.get(wanted) for wanted in some]
        return taken

    def drop_untranslated(self, tuples: Sequence[Tuple]) -> None:
        """Delete those entries that were made without NAT; their packets make new ones.

        Raises:
            OffloadError: the kernel did not answer, or refused.
        """
        for first in range(0, len(tuples), _AT_ONCE):
            found = self._ask([(_GET, wanted, b"") for wanted in tuples[first : first + _AT_ONCE]])
            self._delete([entry for entry in found if not entry.translated])

    def _delete(self, entries: Sequence[Entry]) -> None:
        self._ask([(_DELETE, entry.tuple, _number(_ID, entry.identity)) for entry in entries])

    def assure(self, entries: Sequence[Entry]) -> None:
        """Mark entries as not to be dropped early when the table is full: they never see a reply.

        Raises:
            OffloadError: the kernel did not answer, or refused.
        """
        for first in range(0, len(entries), _AT_ONCE):
            self._ask(
                [
                    (_NEW, entry.tuple, _number(_STATUS, entry.status | _ASSURED))
                    for entry in entries[first : first + _AT_ONCE]
                ]
            )

    def _ask(self, requests: Sequence[tuple[int, Tuple, bytes]]) -> list[Entry]:
        """Send requests about one entry each; those about an entry that does not exist are passed over."""
        if not requests:
            return []
        first = self._sequence + 1
        self._sequence += len(requests)
        self._send(
            b"".join(
                _message(
                    kind,
                    _REQUEST | _ACK,
                    first + number,
                    socket.AF_INET if len(about.source) == 4 else socket.AF_INET6,
                    _attributes(about) + more,
                )
                for number, (kind, about, more) in enumerate(requests)
            )
        )
        entries: list[Entry] = []
        acknowledged = 0
        while acknowledged < len(requests):
            for kind, sequence, body in self._receive():
                if sequence < first:
                    continue
                if kind == _ERROR:
                    acknowledged += 1
                    number = -_ERRNO.unpack_from(body)[0]
                    if number not in (0, errno.ENOENT):
                        _raise("changing connection tracking", number)
                elif (entry := _entry(body)) is not None:
                    entries.append(entry)
        return entries

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError as error:
            _raise("connection tracking", error.errno or 0)

    def _receive(self) -> Iterator[tuple[int, int, memoryview]]:
        try:
            data = memoryview(self._socket.recv(_READ))
        except OSError as error:
            _raise("connection tracking", error.errno or errno.ETIMEDOUT)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
            yield kind, sequence, data[at + _HEADER.size : at + length]
            at += max((length + 3) & ~3, _HEADER.size)


def _raise(what: str, number: int) -> None:
    raise OffloadError(f"{what}: {os.strerror(number)}")


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, _BE32.pack(value))


def _message(kind: int, flags: int, sequence: int, family: int, attributes: bytes) -> bytes:
    length = _HEADERS + len(attributes)
    return _HEADER.pack(length, kind, flags, sequence, 0) + _GENERIC.pack(family, 0, 0) + attributes


def _attributes(about: Tuple) -> bytes:
    first = 1 if len(about.source) == 4 else 3  # CTA_IP_V4_SRC, CTA_IP_V6_SRC; the destination's follows
    addresses = _attribute(first, about.source) + _attribute(first + 1, about.destination)
    protocol = (
        _attribute(1, bytes([socket.IPPROTO_UDP]))
        + _attribute(2, _BE16.pack(about.source_port))
        + _attribute(3, _BE16.pack(about.destination_port))
    )
    nested = _attribute(_TUPLE_IP | _NESTED, addresses) + _attribute(_TUPLE_PROTO | _NESTED, protocol)
    return _attribute(_TUPLE_ORIG | _NESTED, nested) + _attribute(_ZONE, _BE16.pack(about.zone))


def _nested(body: memoryview, at: int = 0) -> dict[int, memoryview]:
    found = {}
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


_EMPTY: Final = memoryview(b"")


def _entry(body: memoryview) -> Entry | None:
    """``None`` if it is not one of UDP."""
    attributes = _nested(body, _GENERIC.size)
    original = _nested(attributes.get(_TUPLE_ORIG, _EMPTY))
    protocol = _nested(original.get(_TUPLE_PROTO, _EMPTY))
    addresses = _nested(original.get(_TUPLE_IP, _EMPTY))
    if protocol.get(1, _EMPTY) != bytes([socket.IPPROTO_UDP]) or len(protocol) < 3 or len(addresses) < 2:
        return None
    first = min(addresses)
    counters = _nested(attributes.get(_COUNTERS_ORIG, _EMPTY))
    zone = attributes.get(_ZONE)
    return Entry(
        Tuple(
            bytes(addresses[first]),
            _BE16.unpack(protocol[2])[0],
            bytes(addresses[first + 1]),
            _BE16.unpack(protocol[3])[0],
            _BE16.unpack(zone)[0] if zone is not None else 0,
        ),
        identity=_BE32.unpack(attributes[_ID])[0],
        packets=_BE64.unpack(counters[1])[0] if 1 in counters else 0,
        bytes=_BE64.unpack(counters[2])[0] if 2 in counters else 0,
        status=_BE32.unpack(attributes[_STATUS])[0] if _STATUS in attributes else 0,
    )
