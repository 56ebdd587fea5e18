"""What was on a wire: captured by dumpcap, decoded by tshark, compared packet by packet."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.netlab import Namespace, NetLab
from tests.support.processes import Process, ProcessFailedError, wait_until

_FIELDS: Final = (
    "frame.time_epoch", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "udp.srcport", "udp.dstport",
    "rtp.ssrc", "rtp.seq", "rtp.payload", "rtcp.pt", "ip.ttl", "ipv6.hlim",
)  # fmt: skip
_QUIET_LOOKS: Final = 4
"""Looks, 0.1 s apart, without a new packet: longer than dumpcap waits for its buffer (0.25 s)."""


@dataclass(frozen=True, slots=True)
class WirePacket:
    """An RTP or RTCP packet as tshark decoded it.

    Attributes:
        time: seconds since 1970.
        source, destination: address and port.
        ssrc, sequence: of RTP; ``None`` for RTCP.
        payload: of RTP, in hexadecimal.
        hops: how many more routers it may pass; who forwards a packet takes one away, who sends it anew does not.
    """

    time: float
    source: tuple[str, int]
    destination: tuple[str, int]
    is_rtcp: bool
    ssrc: int | None
    sequence: int | None
    payload: str
    hops: int = 64


@dataclass(frozen=True, slots=True)
class Passage:
    """How one direction fared: what left the sender's network card against what reached the receiver's.

    Attributes:
        duplicated: arrived more than once.
        reordered: arrived after a packet that was sent later.
        altered: arrived with another payload.
        foreign: arrived but was never sent.
    """

    sent: int
    received: int
    lost: int
    duplicated: int
    reordered: int
    altered: int
    foreign: int

    @property
    def perfect(self) -> bool:
        """Whether everything arrived once, in order, unchanged, and nothing else did."""
        return not (self.lost or self.duplicated or self.reordered or self.altered or self.foreign)


def compare(sent: Sequence[WirePacket], received: Sequence[WirePacket]) -> Passage:
    """Match received RTP packets with the sent ones by SSRC and sequence number.

    Both in the order of their capture. Sequence numbers may wrap, but not be used twice within one capture.
    """
    position = {(packet.ssrc, packet.sequence): index for index, packet in enumerate(sent)}
    seen: set[tuple[int | None, int | None]] = set()
    last: dict[int | None, int] = {}
    duplicated = reordered = altered = foreign = 0
    for packet in received:
        key = (packet.ssrc, packet.sequence)
        index = position.get(key)
        if index is None:
            foreign += 1
            continue
        if key in seen:
            duplicated += 1
            continue
        seen.add(key)
        if index < last.get(packet.ssrc, -1):
            reordered += 1
        last[packet.ssrc] = max(index, last.get(packet.ssrc, -1))
        if packet.payload != sent[index].payload:
            altered += 1
    return Passage(
        sent=len(sent),
        received=len(received),
        lost=len(position) - len(seen),
        duplicated=duplicated,
        reordered=reordered,
        altered=altered,
        foreign=foreign,
    )


class Capture:
    """A capture on one network card, started at once; ``stop`` it before reading.

    Args:
        lab: owns the process and the file.
        namespace, device: where.
        snap: bytes kept of each packet.
        capture_filter: libpcap's language.
    """

    def __init__(
        self, lab: NetLab, namespace: Namespace, device: str, *, snap: int = 2048, capture_filter: str = "udp"
    ) -> None:
        name = f"capture-{namespace.role}-{device}"
        self.path: Path = lab.folder / f"{name}.pcapng"
        # fmt: off
        self._process: Process = lab.start(
            name, namespace, "dumpcap", "-q", "-p", "-B", "64", "-s", str(snap), "-i", device, "-f", capture_filter,
            "-w", str(self.path), stop_signal=signal.SIGINT,
        )
        # fmt: on

    def wait_ready(self) -> None:
        """Wait until packets are being captured.

        Raises:
            ProcessFailedError: dumpcap did not start.
        """
        self._process.wait_log(r"^File: ", 10.0)

    def stop(self) -> None:
        """End it and check that it missed nothing.

        Raises:
            ProcessFailedError: dumpcap failed, or dropped packets.
        """
        self._wait_drained()
        code = self._process.stop()
        dropped = self._process.log_value(r"received/dropped on interface '[^']*': \d+/(\d+)")
        if code != 0 or dropped != "0":
            raise ProcessFailedError(f"{self._process.name}: code {code}, {dropped} dropped\n{self._process.tail()}")

    def _wait_drained(self) -> None:
        """dumpcap, told to stop, leaves what it has not yet read from the kernel, and does not call that dropped."""
        sizes: list[int] = []

        def is_quiet() -> bool:
            sizes.append(self.path.stat().st_size)
            return len(sizes) > _QUIET_LOOKS and sizes[-1] == sizes[-1 - _QUIET_LOOKS]

        with contextlib.suppress(TimeoutError):  # somebody still sends
            wait_until(is_quiet, 3.0, "the capture is quiet", interval=0.1)

    def packets(self, rtp_ports: Iterable[int]) -> list[WirePacket]:
        """Decode RTP on these ports and RTCP on the ones above them (either end), in the order of arrival.

        Raises:
            ProcessFailedError: tshark failed.
        """
        decode = [
            option
            for port in rtp_ports
            for option in ("-d", f"udp.port=={port},rtp", "-d", f"udp.port=={port + 1},rtcp")
        ]
        fields = [option for field in _FIELDS for option in ("-e", field)]
        result = subprocess.run(
            ["tshark", "-n", "-r", str(self.path), *decode, "-Y", "(rtp || rtcp) && !icmp && !icmpv6",
             "-T", "fields", "-E", "occurrence=f", *fields],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode != 0:
            raise ProcessFailedError(f"tshark -r {self.path}: {result.stderr.strip()}")
        return [_wire_packet(line.split("\t")) for line in result.stdout.splitlines()]


def _wire_packet(fields: Sequence[str]) -> WirePacket:
    time, source4, source6, destination4, destination6, sport, dport, ssrc, sequence, payload, rtcp_type, *hops = fields
    return WirePacket(
        time=float(time),
        source=(source4 or source6, int(sport)),
        destination=(destination4 or destination6, int(dport)),
        is_rtcp=rtcp_type != "",
        ssrc=int(ssrc, 0) if ssrc else None,
        sequence=int(sequence) if sequence else None,
        payload=payload,
        hops=int(hops[0] or hops[1]),
    )
