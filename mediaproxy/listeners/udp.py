"""ng over UDP: sockets that answer from the very address that was asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from mediaproxy.errors import MediaProxyError
from mediaproxy.listeners.access import AccessList
from mediaproxy.listeners.control import ControlDispatcher
from mediaproxy.listeners.events import ControlEvent, ControlEventKind, OnceEach, OnControlEvent
from mediaproxy.net import AddressFamily, Endpoint, is_unspecified
from mediaproxy.stats.control import Drop

_Peer: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
_Ancillary: TypeAlias = list[tuple[int, int, bytes]]

MAX_DATAGRAM: Final = 65_535
_TURN: Final = 32
"""Datagrams that one socket may have handled before the loop looks at the others."""
_RECEIVE_BUFFER: Final = 4 * 1024 * 1024
"""Wanted for the kernel's queue: what 1000 calls signal in a second in which the loop is held up."""

# linux/in.h, linux/in6.h: Python does not name all of them.
_IP_PKTINFO: Final = 8
_IN_PKTINFO: Final = struct.Struct("=i4s4s")  # interface, local address for replies, destination address
_IN6_PKTINFO: Final = struct.Struct("=16si")  # destination address, interface
_SO_RCVBUFFORCE: Final = 33
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(max(_IN_PKTINFO.size, _IN6_PKTINFO.size))


class ListenError(MediaProxyError):
    """A control listener can't be opened."""


class UdpListener:
    """One bound socket, read by the event loop; nothing that a peer does can block it.

    Args:
        endpoint: where to listen; ``0.0.0.0`` and ``::`` stand for all addresses of their family, and of no other.
        dispatcher: answers.
        access: who is served; others are dropped and counted.
        advice: what to tell, once, whoever reads that a peer was refused; ``{peer}`` stands for its address.
        on_event: gets what is worth a log line.
        clock: monotonic seconds.
    Raises:
        ListenError: from the constructor: the address can't be bound.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: ControlDispatcher,
        access: AccessList,
        on_event: OnControlEvent,
        advice: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._counters = dispatcher.counters
        self._access = access
        self._on_event = on_event
        self._advice = advice
        self._clock = clock
        self._is_new_peer = OnceEach()
        self._is_new_victim = OnceEach()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wildcard = is_unspecified(endpoint.address)
        self._socket = _bind(endpoint, self._wildcard)
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)

    @property
    def endpoint(self) -> Endpoint:
        """Where it is bound; the port is known even if 0 was asked for."""
        name = self._socket.getsockname()
        return Endpoint(name[0], name[1])

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to answer."""
        loop.add_reader(self._socket.fileno(), self.on_readable)
        self._loop = loop

    def close(self) -> None:
        """Stop, and close the socket; what is still in its queue is lost."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def on_readable(self) -> None:
        """Answer what has arrived, up to a number of datagrams that leaves the loop time for others."""
        for _ in range(_TURN):
            try:
                size, ancillary, _flags, peer = self._socket.recvmsg_into(
                    [self._buffer], _ANCILLARY_SIZE if self._wildcard else 0
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # Linux reports what happened to an earlier reply here; there is nothing to be read.
                continue
            self._take(bytes(self._view[:size]), peer, ancillary)

    def _take(self, datagram: bytes, peer: _Peer, ancillary: _Ancillary) -> None:
        address = peer[0].partition("%")[0]  # a link-local address comes with its zone
        now = self._clock()
        if not self._access.allows(address):
            self._counters.drops[Drop.NOT_ALLOWED] += 1
            note = self._is_new_peer(address, now)
            if note is not None:
                advice = {"advice": self._advice.format(peer=address)} if self._advice else {}
                self._emit(ControlEventKind.PEER_REFUSED, address, {**advice, **note})
                self._advice = ""
            return
        reply = self._dispatcher.handle_datagram(datagram, address, now)
        if reply is None:
            return
        try:
            if self._wildcard:
                self._socket.sendmsg([reply], _source_of(ancillary), 0, peer)
            else:
                self._socket.sendto(reply, peer)
        except OSError as error:
            # Full queue, no route, port 0: the client asks again, and gets the reply from the cache.
            self._counters.drops[Drop.UNSENDABLE] += 1
            note = self._is_new_victim(address, now)
            if note is not None:
                self._emit(
                    ControlEventKind.UNSENDABLE_REPLY,
                    address,
                    {"bytes": len(reply), "reason": errno.errorcode.get(error.errno or 0, str(error)), **note},
                )

    def _emit(self, kind: ControlEventKind, address: str, facts: Mapping[str, object]) -> None:
        self._on_event(ControlEvent(kind, {"peer": address, "listener": str(self.endpoint), **facts}))


def _bind(endpoint: Endpoint, wildcard: bool) -> socket.socket:
    is_ip6 = endpoint.family is AddressFamily.IP6
    udp = socket.socket(
        socket.AF_INET6 if is_ip6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    )
    try:
        if is_ip6:
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if wildcard:
                udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif wildcard:
            udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        with contextlib.suppress(OSError):
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            # Beyond net.core.rmem_max, where we may.
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        udp.bind((endpoint.address, endpoint.port))
    except OSError as error:
        udp.close()
        advice = ""
        if error.errno == errno.EACCES:
            advice = " (the daemon has given up its rights: lower net.ipv4.ip_unprivileged_port_start)"
        raise ListenError(f"cannot listen on {endpoint}: {error.strerror}{advice}") from error
    return udp


def _source_of(ancillary: _Ancillary) -> _Ancillary:
    """The control message that makes a reply leave from the address that the request was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= _IN_PKTINFO.size:
            _interface, local, _destination = _IN_PKTINFO.unpack_from(data)
            # No interface: the way back is the routing table's choice, only the address matters.
            return [(level, kind, _IN_PKTINFO.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= _IN6_PKTINFO.size:
            destination, interface = _IN6_PKTINFO.unpack_from(data)
            local_only = ipaddress.IPv6Address(destination).is_link_local
            return [(level, kind, _IN6_PKTINFO.pack(destination, interface if local_only else 0))]
    return []
