"""Mutated requests against the real core: whatever they did, after the calls are deleted every port is free again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

import bencodepy
import pytest

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.datapath import (
    FlowReason,
    KernelReport,
    RelayTotals,
    StreamCounters,
    TransportConfig,
    TransportCounters,
    TransportHandle,
    Verdict,
)
from mediaproxy.engine import Engine, EngineSettings
from mediaproxy.errors import PortBusyError
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.listeners.control import ControlDispatcher
from mediaproxy.listeners.events import ControlEvent
from mediaproxy.ng.cookies import ReplyCache
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.stats.control import ControlCounters
from tests.support.mutations import Mutator, fuzz_count
from tests.support.ng_requests import RecordedRequest, recorded_requests

_NOTHING = StreamCounters(0, 0, 0, 0, 0, None, ())
_INTERFACES = (
    Interface("external", "10.10.1.1", "10.10.1.1", 30000, 30199),
    Interface("external", "fd10:1::1", "fd10:1::1", 30000, 30199),
    Interface("internal", "10.20.2.1", "10.20.2.1", 30000, 30199),
    Interface("internal", "fd20:2::1", "fd20:2::1", 30000, 30199),
)
_BATCH = 100
"""Mutations between two looks at the ports: enough to fill them, few enough to find the culprit."""


class PortKeeper:
    """A relay that only knows which ports are open, and now and then finds one taken by somebody else."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next = 1
        self.open: dict[TransportHandle, tuple[str, int]] = {}
        self._bound: set[tuple[str, int]] = set()

    def open_pair(self, address: str, port: int, group: int) -> tuple[TransportHandle, TransportHandle]:
        assert port % 2 == 0
        assert (address, port) not in self._bound, "the core opened a port twice"
        if self._random.random() < 0.02:
            raise PortBusyError("taken by another program")
        handles = TransportHandle(self._next), TransportHandle(self._next + 1)
        self._next += 2
        for handle, number in zip(handles, (port, port + 1), strict=True):
            self.open[handle] = (address, number)
            self._bound.add((address, number))
        return handles

    def close(self, handles: Sequence[TransportHandle]) -> None:
        for handle in handles:
            self._bound.remove(self.open.pop(handle))

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        for config in configs:
            assert config.handle in self.open, "a closed transport was configured"
            for sink in (*config.rtp_sinks, *config.rtcp_sinks):
                assert sink in self.open, "a closed transport is a sink"

    def counters(self, handle: TransportHandle) -> TransportCounters:
        assert 0 < handle < self._next, "a transport that never was"  # a closed one yields its last values
        return TransportCounters(_NOTHING, _NOTHING, (0,) * 7, 0)

    def last_seen(self, handle: TransportHandle) -> float | None:
        assert handle in self.open
        return None

    def path(self, _handle: TransportHandle) -> Verdict | None:
        return Verdict(FlowReason.NO_BACKEND)

    def kernel(self) -> KernelReport:
        return KernelReport()

    def totals(self) -> RelayTotals:
        return RelayTotals(0, 0, 0)


class Host:
    """The core behind a dispatcher, as in the daemon, without sockets; time passes with each request."""

    def __init__(self) -> None:
        self.relay = PortKeeper(Random(3))
        self.counters = ControlCounters()
        self.now = 1000.0
        self.last_event: ControlEvent | None = None
        self.engine = Engine(
            interfaces=Interfaces(_INTERFACES),
            relay=self.relay,
            settings=EngineSettings(),
            addresses=AddressPolicy(),
            control=self.counters,
            shuffle=Random(4).shuffle,
            loop_marker="0123456789ab",
            now=self.now,
            wall_offset=1_700_000_000.0,
        )
        self._dispatcher = ControlDispatcher(self, ReplyCache(), self.counters, self._on_event)
        self._asked = 0

    def handle(self, request: NgRequest, now: float) -> NgReply:
        try:
            return self.engine.handle(request, now)
        finally:
            self.relay.configure(self.engine.take_config_changes())
            self.engine.take_events()

    def ask(self, payload: bytes) -> bytes:
        self._asked += 1
        self.now += 0.05
        deadline = self.engine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.engine.expire(self.now)
            self.relay.configure(self.engine.take_config_changes())
        reply = self._dispatcher.handle_datagram(b"%d " % self._asked + payload, "192.0.2.9", self.now)
        assert reply is not None
        if self.counters.internal_errors:
            event = self.last_event
            pytest.fail(f"{payload!r}: {event.facts['traceback'] if event is not None else ''}")
        return reply.partition(b" ")[2]

    def delete_all(self) -> None:
        """Delete every call that is listed, at once."""
        for call_id in json.loads(self.ask(b'{"command":"list","limit":100000}'))["calls"]:
            # By the core's own name: JSON can't carry one that is no UTF-8, and the reply has a stand-in for it.
            self.ask(json.dumps({"command": "delete", "call-id": call_id, "delete-delay": 0}).encode())
        for call_id in self._still_listed():
            request = b"d7:command6:delete12:delete-delayi0e7:call-id%d:%be" % (len(call_id), call_id)
            self.ask(request)

    def _still_listed(self) -> list[bytes]:
        calls: list[bytes] = bencodepy.decode(self.ask(b"d7:command4:list5:limiti100000ee"))[b"calls"]
        return calls

    def free_pairs(self) -> list[int]:
        reply = json.loads(self.ask(b'{"command":"statistics"}'))
        return [interface["ports"]["free"] for interface in reply["statistics"]["interfaces"]]

    def _on_event(self, event: ControlEvent) -> None:
        self.last_event = event


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("request_", recorded_requests(), ids=lambda request: request.name)
def test_mutated_requests_leak_no_port(request_: RecordedRequest) -> None:
    host = Host()
    free = host.free_pairs()
    everything = recorded_requests()
    mutator = Mutator(seed=int(request_.name[:2]), requests=everything)
    left = fuzz_count(0.01)
    while left > 0:
        # So that answers, re-offers and deletes find the call that they are about.
        for recorded in everything:
            if "offer" in recorded.name and recorded.name.split("-")[1] == request_.name.split("-")[1]:
                host.ask(recorded.payload)
        for _ in range(min(left, _BATCH)):
            host.ask(mutator.mutate(request_.payload))
        left -= _BATCH
        host.delete_all()
        assert host.engine.calls == 0
        assert host.relay.open == {}
        assert host.free_pairs() == free


def test_calls_of_mutated_requests_end_by_themselves() -> None:
    host = Host()
    free = host.free_pairs()
    mutator = Mutator(seed=99)
    for recorded in recorded_requests():
        host.ask(recorded.payload)
        for _ in range(20):
            host.ask(mutator.mutate(recorded.payload))
    assert host.engine.calls > 0
    turns = 0
    while (deadline := host.engine.next_deadline()) is not None:
        # A deadline that stays in the past would make the daemon's timer spin.
        turns = 0 if deadline > host.now else turns + 1
        assert turns < 10, "expire leaves a deadline behind that has come"
        host.now = max(host.now, deadline)
        host.engine.expire(host.now)
        host.relay.configure(host.engine.take_config_changes())
    assert host.engine.calls == 0
    assert host.relay.open == {}
    assert host.free_pairs() == free
