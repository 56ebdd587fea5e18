"""The loop of the privileged process and the daemon's client, talking through a real socket pair."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from errno import ENETUNREACH, ENODEV, ENOSPC, EPERM, EXDEV
from types import SimpleNamespace

import pytest

from mediaproxy.backends.flow_records import CHANGE
from mediaproxy.backends.kernel_backend import Link
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.datapath.flow import Capabilities, FlowReason, InstalledFlow
from mediaproxy.datapath.kernel import (
    DatapathEvent,
    DatapathEventKind,
    FlowCounters,
    FlowTotals,
    Refusal,
    RtpState,
)
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from mediaproxy.privileged import client as client_module
from mediaproxy.privileged import server as server_module
from mediaproxy.privileged.client import Channel, RemoteDatapath
from mediaproxy.privileged.fence import Fence
from mediaproxy.privileged.installer import Installer
from mediaproxy.privileged.links import HostLinks
from mediaproxy.privileged.routes import Routes, WayOut
from mediaproxy.privileged.server import Ending, Server
from mediaproxy.privileged.settings import Started
from mediaproxy.privileged.wire import MAX_FRAME, Frame, Kind, pack_frame, parse_frame, parse_text
from tests.support.fake_backend import RELAY4, RELAYS, SLOTS, FakeBackend, a_flow
from tests.support.processes import wait_until

TIMEOUT = 10.0


class PipeNews:
    """News of the network when a test writes them; a written "L" concerns links."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def fileno(self) -> int:
        return self.read_end

    def take(self) -> bool:
        return b"L" in os.read(self.read_end, 100)

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class NoStats:
    closed = False

    def clear(self, kept: object) -> None:
        self.kept = kept

    def seed(self, slot: object, state: object) -> None:
        pass

    def read(self, slot: object) -> FlowCounters:
        return FlowCounters(1, 2, None, (), (), RtpState(b""))

    def last_seen(self, slot: object) -> float | None:
        return 3.0

    def totals(self) -> FlowTotals:
        return FlowTotals(4, 5, 6)

    def close(self) -> None:
        self.closed = True


class Bed:
    """A server in a thread, with a fake backend and a fake network."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs = theirs
        self.backend = FakeBackend()
        self.news = PipeNews()
        self.host = HostLinks((Link(2, "eth0", 1500),), ((pack_address(RELAY4), 2),))
        self.ifindex = 2
        self.no_way = 0
        self.ending: Ending | None = None
        installer = Installer(
            self.backend,
            Fence(RELAYS, self.backend.capabilities, SLOTS),
            Routes(lambda sender, target: WayOut(self.no_way, self.ifindex)),
        )
        self.server = Server(theirs, self.backend, installer, self.news, lambda: self.host, lambda mtus: None)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.bugs: list[str] = []
        self.channel = Channel(self.ours, self.bugs.append)
        self.stats = NoStats()
        started = Started("fake", Capabilities(strict_source=True), SLOTS, ())
        self.datapath = RemoteDatapath(self.channel, started, self.stats)
        self.events: list[DatapathEvent] = []

    def _run(self) -> None:
        self.ending = self.server.run()
        self.theirs.close()

    def wait_event(self, text: str) -> DatapathEvent:
        def found() -> DatapathEvent | None:
            self.events += self.datapath.take_events()
            return next((event for event in self.events if text in event.text), None)

        return wait_until(found, TIMEOUT, text)

    def close(self) -> None:
        self.datapath.close()
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()
        self.news.close()
        self.backend.close()


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    monkeypatch.setattr(server_module, "_CHECK_EVERY", 0.05)
    bed = Bed()
    try:
        yield bed
    finally:
        bed.close()


def test_flows_are_set_listed_replaced_and_removed(bed: Bed) -> None:
    assert bed.datapath.apply([a_flow(), a_flow(30002)], []) == []
    assert sorted(one.flow.local.port for one in bed.datapath.installed()) == [30000, 30002]
    changed = a_flow(target=Endpoint("198.51.100.7", 7))
    assert bed.datapath.apply([changed], [a_flow(30002)]) == []
    assert bed.datapath.installed() == [changed]
    assert bed.datapath.apply([], []) == []


def test_more_flows_than_a_frame_holds_are_set_and_listed(bed: Bed) -> None:
    bed.server._installer._fence._slots = 10_000
    bed.server._installer._fence._ranges[pack_address(RELAY4)] = [(10_000, 20_000)]
    flows = [a_flow(10_000 + number, slot=number) for number in range(1300)]
    assert bed.datapath.apply(flows, []) == []
    assert sorted(bed.datapath.installed(), key=lambda one: one.slot.index) == flows


@pytest.mark.parametrize(("pace", "parts"), [(0.0, [64, 128, 256, 152]), (0.01, [64, 32, 16, 16])])
def test_slow_backend_is_asked_for_less_at_a_time(
    bed: Bed, pace: float, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    apply = bed.backend.apply

    def counted(records: bytearray) -> None:
        asked.append(len(records) // CHANGE.size)
        apply(records)

    monkeypatch.setattr(bed.backend, "apply", counted)
    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: pace * sum(asked)))
    bed.datapath.apply([], [a_flow()] * (600 if pace == 0.0 else 128))
    assert asked == parts


def test_refusals_have_a_reason(bed: Bed) -> None:
    errnos = {30002: ENOSPC, 30004: EXDEV, 30006: ENODEV, 30008: 113, 30010: 101, 30012: 22}
    for port, number in errnos.items():
        bed.backend.refusals[Endpoint(RELAY4, port)] = -number
    flows = [a_flow(30000), *(a_flow(port) for port in errnos), a_flow(local="9.9.9.9")]
    refusals = bed.datapath.apply(flows, [a_flow(30500)])
    assert refusals == [
        Refusal(flows[1], FlowReason.MAP_FULL),
        Refusal(flows[2], FlowReason.LOCAL_PEER),
        Refusal(flows[3], FlowReason.NOT_ATTACHED),
        Refusal(flows[4], FlowReason.NO_ROUTE),
        Refusal(flows[5], FlowReason.NO_ROUTE),
        Refusal(flows[6], FlowReason.REFUSED, 22),
        Refusal(flows[7], FlowReason.REFUSED, EPERM),
    ]
    assert "1 not between relay endpoints" in bed.wait_event("refused changes").text


def test_statistics_are_read_without_the_process(bed: Bed) -> None:
    flow = a_flow()
    assert bed.datapath.read(flow.slot).packets == 1
    assert bed.datapath.last_seen(flow.slot) == 3.0
    assert bed.datapath.totals() == FlowTotals(4, 5, 6)
    bed.datapath.seed(flow.slot, None)
    bed.datapath.clear([flow])
    assert bed.stats.kept == {flow.slot.index}
    assert (bed.datapath.name, bed.datapath.slots) == ("fake", SLOTS)
    assert bed.datapath.capabilities.strict_source


def test_events_of_the_backend_arrive(bed: Bed) -> None:
    bed.datapath.apply([a_flow()], [])
    bed.backend.events.append(DatapathEvent(DatapathEventKind.LOST, "flushed", flows_gone=True))
    event = bed.wait_event("flushed")
    assert event.kind is DatapathEventKind.LOST
    assert event.flows_gone
    assert len(bed.server._installer) == 0


@pytest.mark.parametrize("error", [OffloadError("no memory"), ZeroDivisionError("no memory")])
def test_check_that_fails_every_second_is_told_once(
    bed: Bed, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks: list[int] = []

    def fail() -> list[DatapathEvent]:
        checks.append(0)
        raise error

    monkeypatch.setattr(bed.backend, "check", fail)
    wait_until(lambda: len(checks) > 5, TIMEOUT, "checks")
    told = [event.text for event in bed.datapath.take_events()] + bed.bugs
    assert [text.splitlines()[-1].rpartition(": ")[2] for text in told] == ["no memory"]
    monkeypatch.undo()
    bed.backend.events.append(DatapathEvent(DatapathEventKind.NOTE, "well again"))
    bed.wait_event("well again")


def test_watched_descriptor_is_looked_at_at_once(bed: Bed) -> None:
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"x")
        bed.backend.watch_fds = [read_end]
        wait_until(lambda: bed.backend.steps.count("check") > 50, TIMEOUT, "checks as long as it is readable")
        bed.backend.watch_fds = []
        wait_until(lambda: read_end not in bed.server._watched, TIMEOUT, "no watch any more")
    finally:
        os.close(write_end)
        os.close(read_end)


def test_new_device_is_attached_and_moved_route_moves_flows(bed: Bed) -> None:
    bed.datapath.apply([a_flow()], [])
    bed.host = HostLinks((*bed.host.links, Link(3, "eth1", 1500)), bed.host.addresses)
    os.write(bed.news.write_end, b"L")
    wait_until(lambda: len(bed.backend.links) == 2, TIMEOUT, "attach")
    bed.ifindex = 9
    os.write(bed.news.write_end, b"R")

    def way_out() -> bool:
        return {record.ifindex for record in bed.backend.installed.values()} == {9}

    wait_until(way_out, TIMEOUT, "new way out")


def test_flows_whose_way_vanishes_are_named_and_its_return_is_told(bed: Bed) -> None:
    bed.datapath.apply([a_flow(), a_flow(30002)], [])
    bed.no_way = ENETUNREACH
    os.write(bed.news.write_end, b"R")
    event = bed.wait_event("no way out")
    assert event.kind is DatapathEventKind.TAKEN_OUT
    assert event.flows == tuple(Refusal(flow, FlowReason.NO_ROUTE) for flow in (a_flow(), a_flow(30002)))
    assert not bed.backend.installed
    bed.datapath.apply([], [a_flow(), a_flow(30002)])
    bed.no_way = 0
    os.write(bed.news.write_end, b"R")
    assert bed.wait_event("tried again").kind is DatapathEventKind.WAYS_BACK
    assert bed.datapath.apply([a_flow(generation=2)], []) == []


def test_flows_that_were_taken_out_are_told_when_the_daemon_reads_again(bed: Bed) -> None:
    flows = [a_flow(30000 + 2 * number, slot=number) for number in range(SLOTS)]
    bed.datapath.apply(flows, [])
    bed.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    bed.backend.events += [DatapathEvent(DatapathEventKind.NOTE, f"{number} {'x' * 500}") for number in range(100)]
    wait_until(lambda: bed.server._unsent > 0, TIMEOUT, "full buffer")
    bed.no_way = ENETUNREACH
    os.write(bed.news.write_end, b"R")
    wait_until(lambda: not bed.backend.installed, TIMEOUT, "no flow")
    told: list[InstalledFlow] = []

    def all_told() -> bool:
        told.extend(refusal.flow for event in bed.datapath.take_events() for refusal in event.flows)
        return len(told) >= len(flows)

    wait_until(all_told, TIMEOUT, "all flows")
    assert told == flows


def test_look_is_done_when_asked(bed: Bed) -> None:
    bed.datapath.apply([], [a_flow()])
    bed.host = HostLinks((), bed.host.addresses)
    bed.datapath.look()
    assert bed.backend.links == ()
    assert bed.datapath.apply([a_flow()], [])[0].reason is FlowReason.NOT_ATTACHED


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\0", "a frame of 1 bytes"),
        (os.urandom(300).replace(b"\x02", b"\x99"), "a frame"),
        (b"\xff" * (MAX_FRAME + 1), "a frame of"),
        (pack_frame(Frame(Kind.SETTINGS, 5, b"{}")), "SETTINGS is no request, or came too late"),
        (pack_frame(Frame(Kind.RESULTS, 5, bytes(4))), "RESULTS is no request"),
    ],
)
def test_hostile_bytes_are_refused_and_it_goes_on(bed: Bed, data: bytes, why: str) -> None:
    bed.ours.settimeout(TIMEOUT)
    bed.ours.send(data)
    frames = []
    while not frames or frames[-1].kind is not Kind.FAILED:
        frames.append(parse_frame(bed.ours.recv(MAX_FRAME)))
    assert why in parse_text(frames[-1])
    assert bed.datapath.apply([a_flow()], []) == []
    bed.wait_event("refused 1 requests that are none")


def test_bug_is_logged_and_ends_the_kernel_path_only(bed: Bed) -> None:
    bed.datapath.apply([a_flow()], [])
    bed.backend.error = ZeroDivisionError("oops")
    with pytest.raises(OffloadError, match="internal error"):
        bed.datapath.apply([a_flow(30002)], [])
    assert "ZeroDivisionError: oops" in bed.bugs[0]
    assert bed.datapath.has_failed
    with pytest.raises(OffloadError):
        bed.datapath.apply([a_flow(30004)], [])
    bed.thread.join(TIMEOUT)
    assert bed.ending is Ending.REMOVED  # nothing is left that nobody could change


def test_backend_at_its_end_says_why(bed: Bed) -> None:
    bed.backend.error = OffloadError("table gone")
    with pytest.raises(OffloadError, match="table gone"):
        bed.datapath.apply([a_flow()], [])
    assert bed.datapath.has_failed
    with pytest.raises(OffloadError, match="table gone"):
        bed.datapath.take_events()


def test_orderly_end_removes_everything(bed: Bed) -> None:
    bed.datapath.apply([a_flow()], [])
    bed.datapath.remove_all()
    bed.thread.join(TIMEOUT)
    assert bed.ending is Ending.REMOVED
    assert bed.backend.installed == {}
    bed.datapath.close()
    assert bed.stats.closed


def test_daemon_that_died_leaves_everything(bed: Bed) -> None:
    bed.datapath.apply([a_flow()], [])
    bed.ours.close()
    bed.thread.join(TIMEOUT)
    assert bed.ending is Ending.LEFT
    assert bed.backend.steps[-1] == "leave"
    assert len(bed.backend.installed) == 1


def test_events_that_nobody_reads_are_counted_and_block_nothing(bed: Bed) -> None:
    bed.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    bed.backend.events += [DatapathEvent(DatapathEventKind.NOTE, f"{number} {'x' * 500}") for number in range(100)]
    wait_until(lambda: bed.server._unsent > 0, TIMEOUT, "full buffer")
    bed.wait_event("0 xxx")
    bed.backend.events.append(DatapathEvent(DatapathEventKind.NOTE, "after"))
    assert bed.wait_event("events of the kernel path were lost")
    assert bed.wait_event("after")
