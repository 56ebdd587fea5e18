"""A phone of the matrix: sends when it is told to, and says of each datagram that arrives all that can be seen."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final, Protocol, Self

from mediaproxy.net import Endpoint
from tests.support.netlab import Namespace
from tests.support.rtp_agent import rtp_packet

PATIENCE: Final = 3.0
"""Seconds for what is to arrive."""
TOS: Final = 0x68
"""Of what phones send (AF31): what leaves the proxy has another one."""
HOPS: Final = 64
_IP_RECVTTL: Final = 12  # linux/in.h
_ports: Final = itertools.count(20000, 2)
_ssrcs: Final = itertools.count(0x4D500000)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One datagram, with the TOS (traffic class) and TTL (hop limit) that it had."""

    data: bytes
    source: Endpoint
    tos: int
    hops: int


class Line(Protocol):
    """What a phone sends and receives by."""

    endpoint: Endpoint

    def close(self) -> None: ...

    def send(self, data: bytes, target: Endpoint) -> None:
        """Send one datagram."""

    def take(self) -> list[Arrival]:
        """What has arrived and was not taken yet."""
        ...

    def expect(self, count: int, patience: float = PATIENCE) -> list[Arrival]:
        """The next datagrams, fewer if time is up; more than were asked for if more are there."""
        ...


class Socket:
    """A UDP socket that knows what its datagrams looked like on the wire.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, namespace: Namespace, address: str, port: int) -> None:
        self._udp = namespace.udp_socket(address, port)
        self.endpoint = Endpoint(*self._udp.getsockname()[:2])
        if ":" in address:
            wanted = [(socket.IPPROTO_IPV6, option) for option in (socket.IPV6_RECVTCLASS, socket.IPV6_RECVHOPLIMIT)]
            sent = [
                (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TOS),
                (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS),
            ]
        else:
            wanted = [(socket.IPPROTO_IP, socket.IP_RECVTOS), (socket.IPPROTO_IP, _IP_RECVTTL)]
            sent = [(socket.IPPROTO_IP, socket.IP_TOS, TOS), (socket.IPPROTO_IP, socket.IP_TTL, HOPS)]
        for level, option in wanted:
            self._udp.setsockopt(level, option, 1)
        for level, option, value in sent:
            self._udp.setsockopt(level, option, value)

    def close(self) -> None:
        self._udp.close()

    def send(self, data: bytes, target: Endpoint) -> None:
        """Send one datagram."""
        self._udp.sendto(data, (target.address, target.port))

    def take(self) -> list[Arrival]:
        """What has arrived and was not taken yet."""
        arrivals = []
        while (arrival := self._receive(0.0)) is not None:
            arrivals.append(arrival)
        return arrivals

    def expect(self, count: int, patience: float = PATIENCE) -> list[Arrival]:
        """The next datagrams, fewer if time is up; more than were asked for if more are there."""
        deadline = time.monotonic() + patience
        arrivals: list[Arrival] = []
        while len(arrivals) < count:
            arrival = self._receive(max(0.0, deadline - time.monotonic()))
            if arrival is None:
                break
            arrivals.append(arrival)
        return arrivals + self.take()

    def _receive(self, timeout: float) -> Arrival | None:
        self._udp.settimeout(timeout)
        try:
            data, controls, _, source = self._udp.recvmsg(4096, 256)
        except (BlockingIOError, TimeoutError):
            return None
        seen = {kind: value for _, kind, value in controls}
        if ":" in source[0]:
            tos, hops = seen[socket.IPV6_TCLASS], seen[socket.IPV6_HOPLIMIT]
        else:
            tos, hops = seen[socket.IP_TOS], seen[socket.IP_TTL]
        return Arrival(data, Endpoint(*source[:2]), tos[0], struct.unpack("=i", hops)[0])


class Phone:
    """Sockets for RTP and, one port up, for RTCP; use it in a ``with`` statement.

    Args:
        namespace: the host that it stands on.
    """

    def __init__(self, namespace: Namespace, address: str) -> None:
        port = next(_ports)
        self.ssrc = next(_ssrcs)
        self._sequence = self.ssrc * 7919 & 0x7FFF
        self.rtp: Line = Socket(namespace, address, port)
        try:
            self.rtcp = Socket(namespace, address, port + 1)
        except OSError:
            self.rtp.close()
            raise

    def next_rtp(self, length: int = 172, *, payload_type: int = 0) -> bytes:
        """The next RTP packet; each payload is another one."""
        self._sequence += 1
        payload = (struct.pack("!I", self._sequence) * (length // 4))[: length - 12]
        return rtp_packet(self.ssrc, self._sequence, self._sequence * 160, payload, payload_type)

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
