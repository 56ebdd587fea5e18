"""Samples and a kernel backend that is only memory."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence

from mediaproxy.backends.flow_records import CHANGE, RESULT, RESULT_OFFSET, unpack_changes
from mediaproxy.backends.flow_stats import FlowStatsWriter
from mediaproxy.backends.kernel_backend import Link
from mediaproxy.bench.results import Result, Results, Sample
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.datapath.kernel import DatapathEvent


def sample(ns: float | None = 1000.0, p50: float = 60.0, *, limited: bool = False, notes: Sequence[str] = ()) -> Sample:
    """One repetition."""
    return Sample(
        ns_per_packet=ns,
        own_ns_per_packet=0.0,
        ns_per_packet_fixed=2 * ns if ns else None,
        max_pps=500_000.0,
        latency_us={"p50": p50, "p99": 2 * p50, "p999": 3 * p50},
        setup_per_s=1e5,
        generator_limited=limited,
        packets=1000,
        notes=notes,
    )


def some_results() -> Results:
    """Two backends and two numbers of calls; one that cannot be had."""
    return Results(
        [
            Result("null", 10, [sample(900.0), sample(1100.0), sample(1000.0)]),
            Result("tc", 10, [sample(1500.0, 64.0, limited=True)]),
            Result("null", 1000, [sample(None)]),
            Result("tc", 1000, [], "not possible here: <no> BPF"),
        ]
    )


class FakeBackend:
    """See ``KernelBackend``: keeps flows by their slots, as many as there is room for."""

    name = "fake"
    capabilities = Capabilities()
    tap_fd = -1
    watch_fds: Sequence[int] = ()

    def __init__(self, slots: int, room: int) -> None:
        self.slots = slots
        self.stats = FlowStatsWriter(slots)
        self.stats_fd = self.stats.fd
        self.flows: dict[int, tuple[str, int]] = {}
        self.links: Sequence[Link] = ()
        self.checked = 0
        self._room = room

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:
        self.links = links
        return []

    def apply(self, records: bytearray) -> None:
        for number, record in enumerate(list(unpack_changes(records))):
            slot = record.installed.slot.index
            result = 0
            if record.operation == 2:
                self.flows.pop(slot, None)
            elif len(self.flows) >= self._room:
                result = -errno.ENOSPC
            else:
                self.flows[slot] = (str(record.installed.flow.target), record.ifindex)
            RESULT.pack_into(records, number * CHANGE.size + RESULT_OFFSET, result)

    @property
    def unattached(self) -> Collection[int]:
        return ()

    def dump(self) -> bytearray:
        return bytearray()

    def check(self) -> list[DatapathEvent]:
        self.checked += 1
        return []

    def leave(self) -> None:
        self.stats.close()

    def remove(self) -> None:
        self.stats.close()
