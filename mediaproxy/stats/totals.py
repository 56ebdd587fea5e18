"""What this instance has done since it started: the counters behind ``statistics`` and the metrics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mediaproxy.datapath import RelayTotals


class EndReason(Enum):
    """Why a call ended; the value is its name in logs."""

    DELETED = "deleted"
    TIMEOUT = "media timeout"
    SILENT_TIMEOUT = "silent timeout"
    OFFER_TIMEOUT = "offer timeout"
    FINAL_TIMEOUT = "final timeout"
    SHUTDOWN = "shutdown"


@dataclass(slots=True)
class CallTotals:
    """Ended calls by reason, and how long they lasted.

    Attributes:
        ended: calls by the reason of their end.
        rejected: new calls refused by a limit.
        zero_way, one_way: streams that carried nothing, or only one direction, when their call ended.
        duration, duration_squared: sums over ended calls, seconds and seconds squared.
    """

    ended: dict[EndReason, int] = field(default_factory=lambda: dict.fromkeys(EndReason, 0))
    rejected: int = 0
    zero_way: int = 0
    one_way: int = 0
    duration: float = 0.0
    duration_squared: float = 0.0

    def add_ended(self, reason: EndReason, seconds: float) -> None:
        """Count a call that ended after so many seconds."""
        self.ended[reason] += 1
        self.duration += seconds
        self.duration_squared += seconds * seconds

    @property
    def managed(self) -> int:
        """All calls that ended."""
        return sum(self.ended.values())

    @property
    def mean_duration(self) -> float:
        return self.duration / self.managed if self.managed else 0.0

    @property
    def duration_deviation(self) -> float:
        """Population standard deviation, seconds."""
        if not self.managed:
            return 0.0
        mean = self.mean_duration
        return math.sqrt(max(0.0, self.duration_squared / self.managed - mean * mean))


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second; the ``kernel_`` ones are the part that the kernel forwarded or dropped by itself."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0
    kernel_packets: int = 0
    kernel_bytes: int = 0
    kernel_errors: int = 0


class RateMeter:
    """Rates of the relay over the last few seconds, from samples of its totals."""

    _SPAN: Final = 5.0
    _INTERVAL: Final = 1.0

    def __init__(self) -> None:
        self._samples: deque[tuple[float, RelayTotals]] = deque()

    def maybe_sample(self, totals: Callable[[], RelayTotals], now: float) -> None:
        """Remember the totals, at most once a second; whoever looks at the rates or turns a timer calls this.

        Args:
            totals: yields them; called only when they are wanted, because summing up costs.
        """
        if self._samples and now - self._samples[-1][0] < self._INTERVAL:
            return
        self._samples.append((now, totals()))
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._SPAN:
            self._samples.popleft()

    def rates(self, totals: RelayTotals, now: float) -> Rates:
        """The rates between the oldest sample of the last seconds and now."""
        if not self._samples:
            return Rates()
        then, before = self._samples[0]
        span = now - then
        if span <= 0:
            return Rates()
        return Rates(
            packets=round((totals.packets - before.packets) / span),
            bytes=round((totals.bytes - before.bytes) / span),
            errors=round((totals.errors - before.errors) / span),
            kernel_packets=round((totals.kernel_packets - before.kernel_packets) / span),
            kernel_bytes=round((totals.kernel_bytes - before.kernel_bytes) / span),
            kernel_errors=round((totals.kernel_errors - before.kernel_errors) / span),
        )
