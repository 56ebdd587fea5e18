"""A kernel backend that remembers, and refuses what a test tells it to."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mediaproxy.backends.flow_records import (
    CHANGE,
    REMOVE,
    RESULT,
    RESULT_OFFSET,
    SET,
    FlowRecord,
    pack_changes,
    unpack_changes,
)
from mediaproxy.backends.helper.flow_stats import STATS_SIZE
from mediaproxy.backends.kernel_backend import BackendSettings, Link
from mediaproxy.datapath.flow import Capabilities, Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEvent
from mediaproxy.net import Endpoint
from mediaproxy.privileged.settings import RelayRange

RELAY4 = "192.0.2.1"
RELAY6 = "2001:db8::1"
RELAYS = (RelayRange(RELAY4, 30000, 30999), RelayRange(RELAY6, 30000, 30999))
SLOTS = 64


class FakeBackend:
    """Flows by their local endpoint, as ``installed``; ``steps`` says what was asked for."""

    def __init__(self, capabilities: Capabilities | None = None, name: str = "fake") -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities(strict_source=True)
        self.slots = SLOTS
        self.stats_fd = os.memfd_create("stats")
        os.ftruncate(self.stats_fd, SLOTS * STATS_SIZE)
        self.tap_fd = -1
        self.watch_fds: Sequence[int] = ()
        self.installed: dict[Endpoint, FlowRecord] = {}
        self.links: tuple[Link, ...] = ()
        self.unattached: frozenset[int] = frozenset()
        self.events: list[DatapathEvent] = []
        self.refusals: dict[Endpoint, int] = {}
        self.error: Exception | None = None
        self.steps: list[str] = []

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:
        self.steps.append("attach")
        self.links = tuple(links)
        return []

    def apply(self, records: bytearray) -> None:
        self.steps.append("apply")
        if self.error is not None:
            raise self.error
        for number, record in enumerate(unpack_changes(records)):
            flow = record.installed.flow
            result = self.refusals.get(flow.local, 0)
            self.installed.pop(flow.local, None)
            if record.operation == SET and not result:
                self.installed[flow.local] = record
            assert record.operation in {SET, REMOVE}
            RESULT.pack_into(records, number * CHANGE.size + RESULT_OFFSET, result)

    def dump(self) -> bytearray:
        return pack_changes([record.installed for record in self.installed.values()], [])

    def check(self) -> list[DatapathEvent]:
        self.steps.append("check")
        events, self.events = self.events, []
        return events

    def leave(self) -> None:
        self.steps.append("leave")
        self.close()

    def remove(self) -> None:
        self.steps.append("remove")
        self.installed.clear()
        self.close()

    def close(self) -> None:
        if self.stats_fd >= 0:
            os.close(self.stats_fd)
            self.stats_fd = -1


def opener_of(backend: FakeBackend) -> object:
    """An opener that always yields this backend."""

    def open_backend(settings: BackendSettings) -> FakeBackend:
        return backend

    return open_backend


def a_flow(
    port: int = 30000,
    *,
    local: str = RELAY4,
    source: Endpoint | None = Endpoint("198.51.100.1", 5000),  # noqa: B008  # a frozen value
    sender: Endpoint | None = None,
    target: Endpoint = Endpoint("198.51.100.2", 6000),  # noqa: B008  # a frozen value
    slot: int = 0,
    generation: int = 1,
    **more: object,
) -> InstalledFlow:
    """A flow that nothing is wrong with, but for what a test says."""
    flow = Flow(
        local=Endpoint(local, port),
        source=source,
        sender=sender or Endpoint(RELAY4, port + 2),
        target=target,
        **more,  # type: ignore[arg-type]  # of Flow
    )
    return InstalledFlow(flow, Slot(slot, generation))
