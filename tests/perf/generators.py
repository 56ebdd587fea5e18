"""The two load generators in C, driven from here: both run on ``lab.load_cpu``, as FIFO so that nobody delays them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.perf.build import build_generator
from tests.perf.errors import BenchError
from tests.perf.lab import SIDES, Lab
from tests.perf.ng import NG_ADDRESS, NG_PORT, MediaCall

SATURATED: Final = 0.9
"""From this part of its core on, the generator itself is what limits."""
BURST: Final = 16
REPLY_SLACK_SECONDS: Final = 30.0


def _pinned(lab: Lab) -> list[str]:
    return ["taskset", "-c", str(lab.load_cpu), "chrt", "-f", "1"]


@dataclass(frozen=True, slots=True)
class MediaRun:
    """What one run of the media generator gave; ``lost`` counts what was offered and never came out at its sink."""

    offered_pps: float
    seconds: float
    sent: int
    received: int
    lost: int
    worst_flow_lost: int
    misdelivered: int
    reordered: int
    dropped_at_entry: int
    sink_drops: int
    generator_cpu: float
    forgiven_ms: float
    latency_us: dict[str, float]

    @property
    def loss(self) -> float:
        """Lost part of what was offered."""
        return self.lost / self.sent if self.sent else 1.0

    @property
    def sent_pps(self) -> float:
        """What the generator really offered."""
        return self.sent / self.seconds

    @property
    def received_pps(self) -> float:
        """What came out at the sinks."""
        return self.received / self.seconds

    @property
    def generator_limited(self) -> bool:
        """The generator or its sink could not keep up, so this run says nothing about the relay."""
        return self.sent_pps < 0.97 * self.offered_pps or self.sink_drops > 0 or self.generator_cpu > SATURATED


class MediaLoad:
    """The media generator with its flows; one run at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, pps: int, seconds: float) -> None:
        """Begin to send; ``finish`` waits for the end."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {pps} {int(seconds * 1000)} {BURST}\n")
        self._process.stdin.flush()

    def finish(self) -> MediaRun:
        """Wait until everything sent has arrived or is lost.

        Raises:
            BenchError: the generator ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the media generator ended: {self._complaint()}")
        values: dict[str, Any] = json.loads(line)
        return MediaRun(**{key: values[key] for key in MediaRun.__dataclass_fields__})

    def run(self, pps: int, seconds: float) -> MediaRun:
        """``start`` and ``finish``."""
        self.start(pps, seconds)
        return self.finish()

    def _complaint(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().strip()


def _flow_lines(calls: Sequence[MediaCall]) -> Iterator[str]:
    for call in calls:
        ends = (call.caller, call.callee)
        relays = (call.facing_caller, call.facing_callee)
        for side in (0, 1):
            (source, source_port), (relay, relay_port) = ends[side], relays[side]
            sink, sink_port = ends[1 - side]
            yield f"{side} {source} {source_port} {relay} {relay_port} {sink} {sink_port}\n"


@contextmanager
def media_load(lab: Lab, calls: Sequence[MediaCall]) -> Iterator[MediaLoad]:
    """The media generator for these calls: each agent sends from the endpoint that its SDP named.

    Raises:
        BenchError: it could not be built or did not start.
    """
    program = build_generator("media_load")
    with tempfile.NamedTemporaryFile("w", suffix=".flows") as flows:
        flows.writelines(_flow_lines(calls))
        flows.flush()
        command = lab.in_agents(
            *_pinned(lab), str(program), SIDES[0][0], SIDES[1][0], lab.relay_mac(0), lab.relay_mac(1), flows.name
        )
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                if not process.stdout.readline():
                    raise BenchError(f"the media generator did not start: {process.stderr.read().strip()}")
                yield MediaLoad(process)
            finally:
                process.stdin.close()
                process.terminate()


@dataclass(frozen=True, slots=True)
class NgRun:
    """What one run of the ng generator gave; latencies in milliseconds from sending to reply."""

    seconds: float
    cycles: int
    failed: int
    resent: int
    window_full: int
    generator_cpu: float
    first_failure: str
    offer_ms: dict[str, float]
    answer_ms: dict[str, float]
    delete_ms: dict[str, float]

    @property
    def rate(self) -> float:
        """Completed offer + answer + delete cycles a second."""
        return self.cycles / self.seconds if self.seconds else 0.0


def ng_load(lab: Lab, *, window: int, rate: int, seconds: float, prefix: str) -> NgRun:
    """Run plain calls against the daemon; ``rate`` 0 means as fast as it answers.

    Raises:
        BenchError: the generator could not be built or failed, or no call came through.
    """
    program = build_generator("ng_load")
    command = lab.in_relay(
        *_pinned(lab),
        *(str(program), NG_ADDRESS, str(NG_PORT), str(window), str(rate), str(int(seconds * 1000))),
        *(str(lab.addresses), lab.agent_address(0), lab.agent_address(1), prefix),
    )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + REPLY_SLACK_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BenchError("the ng generator did not end") from None
    if done.returncode != 0:
        raise BenchError(f"the ng generator failed: {done.stderr.strip()}")
    result = NgRun(**json.loads(done.stdout))
    if result.cycles == 0:
        raise BenchError(f"no call came through: {result.first_failure or 'no reply'}")
    return result
