"""A phone's media half: sends RTP and RTCP at the pace of a phone, and counts what arrives."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Final, Self

from tests.support.netlab import Namespace

SocketAddress = tuple[str, int]

_NTP_EPOCH_OFFSET: Final = 2208988800  # 1900-01-01 to 1970-01-01 in seconds
_PTIME: Final = 0.02
_SAMPLES_PER_PACKET: Final = 160


def rtp_packet(ssrc: int, sequence: int, timestamp: int, payload: bytes, payload_type: int = 0) -> bytes:
    """One RTP packet with the fixed header of RFC 3550, section 5.1."""
    return struct.pack("!BBHII", 0x80, payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


def sender_report(ssrc: int, timestamp: int, packets: int, octets: int, cname: str, now: float) -> bytes:
    """A compound RTCP packet: SR without report blocks, and SDES with a CNAME (RFC 3550, sections 6.4.1 and 6.5).

    Args:
        now: wall clock, seconds since 1970.
    """
    seconds = int(now)
    fraction = int((now - seconds) * 2**32)
    report = struct.pack(
        "!BBHIIIIII", 0x80, 200, 6, ssrc, seconds + _NTP_EPOCH_OFFSET & 0xFFFFFFFF, fraction,
        timestamp & 0xFFFFFFFF, packets, octets,
    )  # fmt: skip
    name = cname.encode("ascii")
    chunk = struct.pack("!IBB", ssrc, 1, len(name)) + name
    chunk += b"\0" * (4 - len(chunk) % 4)
    return report + struct.pack("!BBH", 0x81, 202, len(chunk) // 4) + chunk


@dataclass(frozen=True, slots=True)
class Arrival:
    """A datagram that arrived; ``time`` is monotonic."""

    time: float
    source: SocketAddress
    data: bytes

    @property
    def ssrc(self) -> int:
        """The SSRC of an RTP packet."""
        return int(struct.unpack_from("!I", self.data, 8)[0])

    @property
    def sequence(self) -> int:
        """The sequence number of an RTP packet."""
        return int(struct.unpack_from("!H", self.data, 2)[0])


class RtpAgent:
    """Sends RTP every 20 ms and RTCP every ``rtcp_interval``, and receives; use it in a ``with`` statement.

    Args:
        namespace: the host that it stands on.
        address, port: of the RTP socket; RTCP uses ``port + 1``.
        ssrc: of what it sends.
        with_rtp: ``False`` makes it an RTCP half only: the RTP socket belongs to SIPp.
    """

    def __init__(
        self,
        namespace: Namespace,
        address: str,
        port: int,
        ssrc: int,
        *,
        rtcp_interval: float = 0.5,
        with_rtp: bool = True,
    ) -> None:
        self.address = address
        self.port = port
        self.ssrc = ssrc
        self._rtcp_interval = rtcp_interval
        self._lock = threading.Lock()
        self._rtp_arrivals: list[Arrival] = []
        self._rtcp_arrivals: list[Arrival] = []
        self._rtp_target: SocketAddress | None = None
        self._rtcp_target: SocketAddress | None = None
        self._payload: bytes | None = None
        self.sent = 0
        self.rtcp_sent = 0
        self._ended = threading.Event()
        self._rtp = namespace.udp_socket(address, port) if with_rtp else None
        try:
            self._rtcp = namespace.udp_socket(address, port + 1)
        except OSError:
            if self._rtp is not None:
                self._rtp.close()
            raise
        self._random = random.Random(ssrc)
        self._threads = [
            threading.Thread(target=self._receive_all, name=f"receive-{ssrc:x}"),
            threading.Thread(target=self._send_all, name=f"send-{ssrc:x}"),
        ]
        for thread in self._threads:
            thread.start()

    def talk_to(self, rtp: SocketAddress | None, rtcp: SocketAddress | None = None) -> None:
        """Send to these addresses from now on; ``rtcp`` is the next port up if left out; no ``rtp``: be silent."""
        with self._lock:
            self._rtp_target = rtp
            self._rtcp_target = rtcp if rtcp is not None or rtp is None else (rtp[0], rtp[1] + 1)

    def send_datagrams(self, payload: bytes | None) -> None:
        """Send this instead of RTP, at the same pace (T.38 UDPTL); ``None`` returns to RTP."""
        with self._lock:
            self._payload = payload

    def rtp(self, since: float = 0.0) -> list[Arrival]:
        """What arrived on the RTP port, other than RTCP, from the monotonic time ``since`` on."""
        with self._lock:
            return [arrival for arrival in self._rtp_arrivals if arrival.time >= since]

    def rtcp(self, since: float = 0.0) -> list[Arrival]:
        """What arrived on the RTCP port."""
        with self._lock:
            return [arrival for arrival in self._rtcp_arrivals if arrival.time >= since]

    def close(self) -> None:
        """End the threads and close the sockets."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        for udp in (self._rtp, self._rtcp):
            if udp is not None:
                udp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _send_all(self) -> None:
        sequence = self._random.randrange(0x8000)
        timestamp = self._random.randrange(2**31)
        next_rtp = next_rtcp = time.monotonic()
        while not self._ended.wait(max(0.0, next_rtp - time.monotonic())):
            next_rtp += _PTIME
            with self._lock:
                rtp_target, rtcp_target, payload = self._rtp_target, self._rtcp_target, self._payload
            if rtp_target is not None and self._rtp is not None:
                packet = payload or rtp_packet(self.ssrc, sequence, timestamp, self._random.randbytes(160))
                sequence += 1
                timestamp += _SAMPLES_PER_PACKET
                # ECONNREFUSED (nobody listens there now) and EPERM (a test blocks us) are what a phone ignores too.
                with contextlib.suppress(OSError):
                    self._rtp.sendto(packet, rtp_target)
                    self.sent += 1
            if rtcp_target is not None and time.monotonic() >= next_rtcp:
                next_rtcp = time.monotonic() + self._rtcp_interval
                report = sender_report(
                    self.ssrc,
                    timestamp,
                    self.sent,
                    self.sent * _SAMPLES_PER_PACKET,
                    f"agent@{self.address}",
                    time.time(),
                )
                with contextlib.suppress(OSError):
                    self._rtcp.sendto(report, rtcp_target)
                    self.rtcp_sent += 1

    def _receive_all(self) -> None:
        poller = select.poll()
        sockets: dict[int, socket.socket] = {}
        for udp in (self._rtp, self._rtcp):
            if udp is not None:
                udp.setblocking(False)
                sockets[udp.fileno()] = udp
                poller.register(udp, select.POLLIN)
        while not self._ended.is_set():
            for descriptor, _ in poller.poll(50):
                udp = sockets[descriptor]
                with contextlib.suppress(OSError):
                    while True:
                        data, source = udp.recvfrom(4096)
                        arrival = Arrival(time.monotonic(), (source[0], source[1]), data)
                        with self._lock:
                            (self._rtcp_arrivals if udp is self._rtcp else self._rtp_arrivals).append(arrival)
