"""The RTP generator and sink, in a thread of its own on its own core, FIFO so that nobody delays it."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mediaproxy.backends.helper.load import (
    BURST_MAX,
    FLOW,
    RESULT,
    SIDES,
    LoadPointer,
    create_load,
    functions,
    memory,
)
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.net import Endpoint

SATURATED: Final = 0.9
"""From this part of its core on, the generator itself is what limits."""
BURST: Final = 16
FIFO_PRIORITY: Final = 1
"""Below that of the kernel threads which receive for it."""


@dataclass(frozen=True, slots=True)
class MediaFlow:
    """RTP that leaves by ``side`` (0 or 1) from ``source`` to ``relay``, and is to come out at the other side's
    ``sink``."""

    side: int
    source: Endpoint
    relay: Endpoint
    sink: Endpoint


@dataclass(frozen=True, slots=True)
class MediaRun:
    """What one run gave; ``lost`` counts what was offered and never came out at its sink.

    Attributes:
        generator_cpu: part of its core that the generator used.
        forgiven_ms: by how much the generator was late and gave up what it owed.
        latency_us: ``p50``, ``p99``, ``p999`` from sending to arrival.
    """

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


def _read_result(packed: bytearray, pps: int) -> MediaRun:
    values = RESULT.unpack(packed)
    sent, received, worst, misdelivered, reordered, _, _, dropped, _, sink_drops = values[:10]
    forgiven_ns, duration_ns, cpu_ns, p50, p99, p999 = values[10:]
    return MediaRun(
        offered_pps=pps,
        seconds=duration_ns / 1e9,
        sent=sent,
        received=received,
        lost=sent - received,
        worst_flow_lost=worst,
        misdelivered=misdelivered,
        reordered=reordered,
        dropped_at_entry=dropped,
        sink_drops=sink_drops,
        generator_cpu=cpu_ns / duration_ns if duration_ns else 0.0,
        forgiven_ms=forgiven_ns / 1e6,
        latency_us={"p50": p50 / 1e3, "p99": p99 / 1e3, "p999": p999 / 1e3},
    )


class MediaLoad:
    """The generator with its flows; one run at a time. Made by ``media_load``."""

    def __init__(self, load: LoadPointer, cpu: int) -> None:
        self._load = load
        self._orders: queue.SimpleQueue[tuple[int, float, int] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[MediaRun | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(cpu,), name="media-load", daemon=True)
        self._thread.start()

    def start(self, pps: int, seconds: float, burst: int = BURST) -> None:
        """Begin to send, in bursts of so many packets; ``finish`` waits for the end."""
        self._orders.put((pps, seconds, min(burst, BURST_MAX)))

    def finish(self) -> MediaRun:
        """Wait until everything sent has arrived or is lost.

        Raises:
            BenchError: the generator refused.
        """
        result = self._results.get()
        if isinstance(result, BaseException):
            raise BenchError(f"the media generator failed: {result}") from result
        return result

    def run(self, pps: int, seconds: float, burst: int = BURST) -> MediaRun:
        """``start`` and ``finish``."""
        self.start(pps, seconds, burst)
        return self.finish()

    def stop(self) -> None:
        """End the thread, after the run that is under way."""
        self._orders.put(None)
        self._thread.join()

    def _work(self, cpu: int) -> None:
        try:
            os.sched_setaffinity(0, {cpu})  # of this thread alone
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
        except OSError as error:
            self._results.put(error)
            return
        while (order := self._orders.get()) is not None:
            pps, seconds, burst = order
            packed = bytearray(RESULT.size)
            pointer = memory.from_buffer("struct mpo_load_result[]", packed)
            error_number = functions.mpo_load_run(self._load, pps, int(seconds * 1e9), burst, pointer)
            self._results.put(
                _read_result(packed, pps) if error_number == 0 else OSError(-error_number, os.strerror(-error_number))
            )


def _check(result: int, what: str) -> None:
    if result < 0:
        raise BenchError(f"the media generator can't {what}: {os.strerror(-result)}")


def pack_flows(flows: Sequence[MediaFlow]) -> bytearray:
    """An array of ``struct mpo_load_flow``."""
    packed = bytearray()
    for flow in flows:
        ends = (flow.source, flow.relay, flow.sink)
        packed += FLOW.pack(*(part for end in ends for part in (pack_address(end.address), end.port)), flow.side)
    return packed


@contextlib.contextmanager
def media_load(lab: Lab, flows: Sequence[MediaFlow]) -> Iterator[MediaLoad]:
    """The generator for these flows, between the two ends of the lab.

    Raises:
        BenchError: the kernel refuses its sockets, or the flows are unusable (each side needs one, IPv4 only).
    """
    with contextlib.ExitStack() as stack:
        result, load = create_load()
        _check(result, "start")
        stack.callback(functions.mpo_load_destroy, load)
        for side in range(SIDES):
            relay_mac = bytes.fromhex(lab.relay_devices[side].mac.replace(":", ""))
            with lab.agents[side].inside():
                device = lab.agent_devices[side]
                _check(functions.mpo_load_open_side(load, side, device.index, relay_mac), f"open {device.name}")
        packed = pack_flows(flows)
        pointer = memory.from_buffer("struct mpo_load_flow[]", packed)
        _check(functions.mpo_load_set_flows(load, pointer, len(flows)), "take its flows")
        media = MediaLoad(load, lab.load_cpu)
        stack.callback(media.stop)
        yield media
