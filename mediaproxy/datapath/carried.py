"""What the kernel has counted for one transport, over all the flows that it had."""

from __future__ import annotations

from dataclasses import dataclass, field

from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot, Verdict
from mediaproxy.datapath.kernel import FlowCounters, FlowDrop, FlowTotals, FlowUp, RtpState
from mediaproxy.datapath.relay import TransportHandle


@dataclass(slots=True)
class Carried:
    """Sums over flows that are no more; ``rtp`` is ``None`` before the first one."""

    packets: int = 0
    bytes: int = 0
    last_seen: float | None = None
    drops: list[int] = field(default_factory=lambda: [0] * len(FlowDrop))
    ups: list[int] = field(default_factory=lambda: [0] * len(FlowUp))
    rtp: list[RtpState] = field(default_factory=list)

    def add(self, counters: FlowCounters) -> None:
        """Add what one flow has counted; its ``rtp`` is appended, to be merged by who can."""
        self.packets += counters.packets
        self.bytes += counters.bytes
        if counters.last_seen is not None:
            self.last_seen = max(counters.last_seen, self.last_seen or 0.0)
        for reason, count in enumerate(counters.drops):
            self.drops[reason] += count
        for up, count in enumerate(counters.ups):
            self.ups[up] += count
        self.rtp.append(counters.rtp)

    def totals(self) -> FlowTotals:
        return FlowTotals(self.packets, self.bytes, sum(self.drops))


@dataclass(slots=True)
class Out:
    """Packets that left by a transport."""

    packets: int = 0
    bytes: int = 0


class Track:
    """One open transport as the kernel path sees it.

    Attributes:
        verdict: why it has no flow; ``None`` while it has one.
        installed: its flow.
        sink: where the flow's packets leave.
        carried: what its former flows have counted.
        resting: slots of former flows that may still be counting.
        out: what other transports' former flows have sent by this one.
        retry_at: when a refused flow is tried again, monotonic seconds.
    """

    __slots__ = ("carried", "handle", "installed", "out", "resting", "retry_at", "sink", "verdict")

    def __init__(self, handle: TransportHandle, verdict: Verdict) -> None:
        self.handle = handle
        self.verdict: Verdict | None = verdict
        self.installed: InstalledFlow | None = None
        self.sink: TransportHandle | None = None
        self.carried: Carried | None = None
        self.resting: list[Slot] = []
        self.out: Out | None = None
        self.retry_at: float | None = None

    @property
    def flow(self) -> Flow | None:
        return self.installed.flow if self.installed is not None else None

    def slots(self) -> list[Slot]:
        """All slots that may hold counts which ``carried`` has not."""
        slots = self.resting[:]
        if self.installed is not None:
            slots.append(self.installed.slot)
        return slots
