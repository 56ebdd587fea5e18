"""A kernel path in memory: it installs what it is told, and counts what a test says arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mediaproxy.datapath.flow import Capabilities, FlowReason, InstalledFlow, Slot
from mediaproxy.datapath.kernel import (
    DatapathEvent,
    DatapathEventKind,
    FlowCounters,
    FlowDrop,
    FlowTotals,
    FlowUp,
    Refusal,
    RtpState,
)
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint

EVERYTHING = Capabilities(
    family_change=True, rtp_statistics=True, any_source=True, strict_source=True, opaque=True, tap=True
)
NOTHING = FlowCounters(0, 0, None, (0,) * len(FlowDrop), (0,) * len(FlowUp), RtpState(b"0"))


@dataclass
class FakeDatapath:
    """Attributes:
    refuse: says why a flow is not installed; ``None`` installs it.
    broken: the kernel path answers no more.
    log: each ``apply``: the local endpoints that were set, and those that were removed.
    """

    name: str = "fake"
    capabilities: Capabilities = EVERYTHING
    slots: int = 8
    refuse: Callable[[InstalledFlow], FlowReason | None] = lambda _: None
    broken: bool = False
    flows: dict[Endpoint, InstalledFlow] = field(default_factory=dict)
    counted: dict[int, tuple[int, FlowCounters]] = field(default_factory=dict)
    events: list[DatapathEvent] = field(default_factory=list)
    log: list[tuple[list[Endpoint], list[Endpoint]]] = field(default_factory=list)

    def _check(self) -> None:
        if self.broken:
            raise OffloadError("the privileged process does not answer")

    def apply(self, sets: Sequence[InstalledFlow], removals: Sequence[InstalledFlow]) -> list[Refusal]:
        self._check()
        self.log.append(([one.flow.local for one in sets], [one.flow.local for one in removals]))
        for one in removals:
            there = self.flows.get(one.flow.local)
            if there is not None and there.slot == one.slot:
                del self.flows[one.flow.local]
        refusals = []
        for one in sets:
            reason = self.refuse(one)
            if reason is None:
                assert self.counted[one.slot.index][0] == one.slot.generation, "not seeded"
                self.flows[one.flow.local] = one
            else:
                self.flows.pop(one.flow.local, None)
                refusals.append(Refusal(one, reason, 12 if reason is FlowReason.REFUSED else 0))
        return refusals

    def installed(self) -> list[InstalledFlow]:
        self._check()
        return list(self.flows.values())

    def clear(self, kept: Sequence[InstalledFlow]) -> None:
        indices = {one.slot.index for one in kept}
        self.counted = {index: one for index, one in self.counted.items() if index in indices}

    def seed(self, slot: Slot, state: RtpState | None) -> None:
        if not self.broken:
            assert slot.index not in [one.slot.index for one in self.flows.values()], "seeded while in use"
        self.counted[slot.index] = slot.generation, NOTHING

    def read(self, slot: Slot) -> FlowCounters:
        generation, counters = self.counted.get(slot.index, (0, NOTHING))
        return counters if generation == slot.generation else NOTHING

    def last_seen(self, slot: Slot) -> float | None:
        return self.read(slot).last_seen

    def totals(self) -> FlowTotals:
        counted = [counters for _, counters in self.counted.values()]
        return FlowTotals(
            sum(one.packets for one in counted),
            sum(one.bytes for one in counted),
            sum(sum(one.drops) for one in counted),
        )

    @property
    def has_events(self) -> bool:
        return bool(self.events)

    def take_events(self) -> list[DatapathEvent]:
        if not self.events:
            self._check()
        events, self.events = self.events, []
        return events

    def take_out(self, local: Endpoint, reason: FlowReason) -> None:
        """Let the way out of a flow vanish."""
        flows = (Refusal(self.flows.pop(local), reason),)
        self.events.append(DatapathEvent(DatapathEventKind.TAKEN_OUT, "no way out", flows=flows))

    def seed_as(self, slot: Slot, packets: int) -> None:
        """Let a slot have counted before anybody asks."""
        self.counted[slot.index] = slot.generation, NOTHING
        self._count(slot, packets, 1.0, 0)

    def forward(self, local: Endpoint, packets: int, now: float, strangers: int = 0) -> None:
        """Let RTP arrive at a flow."""
        self._count(self.flows[local].slot, packets, now, strangers)

    def forward_late(self, slot: Slot, packets: int, now: float) -> None:
        """Let a program that was still running count into a slot whose flow is gone."""
        self._count(slot, packets, now, 0)

    def send_up(self, local: Endpoint, reason: FlowUp, packets: int) -> None:
        """Let packets of a flow go up to the socket."""
        slot = self.flows[local].slot
        ups = list(self.read(slot).ups)
        ups[reason] += packets
        self.counted[slot.index] = slot.generation, replace(self.read(slot), ups=tuple(ups))

    def _count(self, slot: Slot, packets: int, now: float, strangers: int) -> None:
        before = self.read(slot)
        drops = list(before.drops)
        drops[FlowDrop.WRONG_SOURCE] += strangers
        counters = replace(
            before,
            packets=before.packets + packets,
            bytes=before.bytes + 172 * packets,
            last_seen=now if packets else before.last_seen,
            drops=tuple(drops),
            rtp=RtpState(str(before.packets + packets).encode()),
        )
        self.counted[slot.index] = slot.generation, counters
