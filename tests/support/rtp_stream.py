"""RTP at up to tens of thousands of packets a second, with a record of what became of each one.

The work is done by ``src/rtp_stream.c``. Each packet has a *place* in the stream (0, 1, 2, ...) and carries it.
"""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.c_programs import build_program
from tests.support.netlab import NetLab
from tests.support.processes import ProcessFailedError

_LEFT_OUT: Final = 0xFF
_AGAIN: Final = 0x80
_RECEIVE_BUFFER: Final = 64 * 1024 * 1024
_SO_RCVBUFFORCE: Final = 33


@dataclass(frozen=True, slots=True)
class Injury:
    """What is done to a stream on purpose, each of a thousand places: left out, sent after the next one, sent twice."""

    loss: int = 0
    swap: int = 0
    twice: int = 0
    seed: int = 1


class Record:
    """What became of each place of a stream that has been stopped.

    Attributes:
        places: how many there were, those left out included.
        sent: datagrams, those sent twice counted as two.
        foreign: datagrams that were heard and are not of the stream.
        send_errors: datagrams that the sender's host refused.
    """

    def __init__(self, path: Path, counts: dict[str, int]) -> None:
        data = path.read_bytes()
        self.places = counts["place"]
        self.sent = counts["sent"]
        self.foreign = counts["foreign"]
        self.send_errors = counts["send_errors"]
        self._heard = data[: self.places]
        self._times = array("I", data[self.places :])

    def _part(self, first: int, end: int | None) -> bytes:
        return self._heard[first:end]

    def left_out(self, first: int = 0, end: int | None = None) -> int:
        """How many places were left out on purpose."""
        return self._part(first, end).count(_LEFT_OUT)

    def lost(self, first: int = 0, end: int | None = None) -> int:
        """How many packets were sent and never heard."""
        return self._part(first, end).count(0)

    def heard(self, first: int = 0, end: int | None = None) -> int:
        """How many places were heard, each once."""
        return len(self._part(first, end)) - self.lost(first, end) - self.left_out(first, end)

    def heard_by(self, receiver: int, first: int = 0, end: int | None = None) -> int:
        """The same, first by this one of the receivers."""
        part = self._part(first, end)
        return part.count(receiver + 1) + part.count(receiver + 1 | _AGAIN)

    def heard_again(self, first: int = 0, end: int | None = None) -> int:
        """How many places were heard more than once."""
        part = self._part(first, end)
        return sum(part.count(value) for value in range(_AGAIN + 1, _LEFT_OUT))

    def longest_gap(self) -> float:
        """The longest time in which nothing was heard between two packets, in seconds."""
        times = sorted(
            time for time, heard in zip(self._times, self._heard, strict=True) if heard not in (0, _LEFT_OUT)
        )
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0) / 1e6


class RtpStream:
    """One stream; ended with the lab.

    Args:
        sender: what it is sent from; stays the caller's.
        receivers: where it may be heard; a buffer that no pause of the machine overflows is given to each.
    """

    def __init__(self, lab: NetLab, name: str, sender: socket.socket, receivers: Sequence[socket.socket]) -> None:
        for receiver in receivers:
            receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        descriptors = [sender.fileno(), *(receiver.fileno() for receiver in receivers)]
        self._name = name
        self._record = lab.folder / f"{name}.record"
        self._process = subprocess.Popen(
            [str(build_program("rtp_stream")), *map(str, descriptors)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors, text=True,
        )  # fmt: skip
        lab.on_exit(self._end)

    def start(
        self,
        target: tuple[str, int],
        pps: int,
        *,
        ssrc: int = 0x5EED,
        sequence: int = 0,
        injury: Injury = Injury(),  # frozen
    ) -> None:
        """Send from now on.

        Args:
            sequence: of the first packet.
        """
        self._ask(f"aim {target[0]} {target[1]}")
        self.change_source(ssrc, sequence)
        self._ask(f"start {pps} {injury.loss} {injury.swap} {injury.twice} {injury.seed}")

    def change_source(self, ssrc: int, sequence: int) -> None:
        """Go on with this SSRC, the next place having about this sequence number."""
        self._ask(f"source {ssrc} {sequence & 0xFFFF}")

    def place(self) -> int:
        """The place that is next: what has it or a later one is sent after this call. (A few before may be, too.)"""
        return int(self._ask("place")["place"])

    def arrived(self) -> int:
        """How many places were heard so far."""
        return int(self._ask("place")["arrived"])

    def stop(self) -> Record:
        """Send no more, wait for what is under way, and say what became of it all."""
        counts = self._ask("stop")
        self._ask(f"record {self._record}")
        return Record(self._record, counts)

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise ProcessFailedError(f"{self._name} has ended: {command}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
