"""The turning of the loop around the core, with a scripted engine and relay and a loop whose timers are only noted."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from mediaproxy.backends.netlink import HostNetwork, LocalAddress
from mediaproxy.backends.userspace import UserspaceRelay
from mediaproxy.calls.events import CallEvent, EventKind
from mediaproxy.config import load_configuration, resolve_addresses
from mediaproxy.daemon import (
    ACCESS_ADVICE,
    Core,
    Daemon,
    broadcast_addresses,
    descriptor_warning,
    engine_settings,
    log_start,
    relay_capacity,
    relay_workers,
)
from mediaproxy.datapath import KernelReport
from mediaproxy.errors import OffloadError, UnknownCallError
from mediaproxy.interfaces import Interface
from mediaproxy.listeners.events import ControlEvent, ControlEventKind
from mediaproxy.logs import LogLevel, LogSink, make_logger
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ng.words import EndpointLearning
from mediaproxy.privileged.settings import Candidate
from tests.support.log_lines import Lines


class ScriptedEngine:
    """Hands out what a test put in."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.changes: list[Any] = []
        self.events: list[CallEvent] = []
        self.deadline: float | None = None
        self.error: Exception | None = None

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def handle(self, request: NgRequest, now: float) -> NgReply:
        self.steps.append(f"handle {request.command}")
        self._raise()
        return {"result": "ok"}

    def source_seen(self, report: Any, now: float) -> None:
        self.steps.append(f"seen {report}")
        self._raise()

    def expire(self, now: float, has_time: Callable[[], bool]) -> None:
        self.steps.append("expire")
        self.has_time = has_time
        self._raise()

    def close_all(self, now: float) -> None:
        self.steps.append("close_all")

    def take_config_changes(self) -> list[Any]:
        changes, self.changes = self.changes, []
        return changes

    def take_events(self) -> list[CallEvent]:
        events, self.events = self.events, []
        return events

    def next_deadline(self) -> float | None:
        return self.deadline

    def set_wall_offset(self, offset: float) -> None:
        self.steps.append("wall")


class ScriptedRelay:
    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.reports: list[str] = []

    def take_events(self) -> list[str]:
        return self.reports

    def configure(self, changes: list[Any]) -> None:
        self.steps.append(f"configure {changes}")


class Timer:
    def __init__(self, delay: float, callback: Callable[[], None]) -> None:
        self.delay = delay
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class NotedTimers:
    """Stands in for the running loop."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay, callback))
        return self.timers[-1]


class Bench:
    """A core with everything around it scripted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.steps: list[str] = []
        self.engine = ScriptedEngine(self.steps)
        self.relay = ScriptedRelay(self.steps)
        self.log = Lines()
        self.loop = NotedTimers()
        logger = make_logger(LogSink(self.log, LogLevel.INFO, timestamps=False))
        self.core = Core(self.engine, self.relay, None, logger)  # type: ignore[arg-type]  # scripted
        self.core.handle(NgRequest("first"), self.now)  # the first one looks at the wall clock
        self.steps.clear()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr("mediaproxy.daemon.time.monotonic", lambda: bench.now)
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: bench.loop)
    return bench


def test_request_configures_the_relay_before_it_is_answered(bench: Bench) -> None:
    bench.engine.changes = ["change"]
    assert bench.core.handle(NgRequest("offer"), bench.now) == {"result": "ok"}
    assert bench.steps == ["handle offer", "configure ['change']"]


def test_request_that_fails_still_settles(bench: Bench) -> None:
    bench.engine.error = UnknownCallError("c1")
    bench.engine.events = [CallEvent(EventKind.WARNING, "c1", {"text": "x"})]
    with pytest.raises(UnknownCallError):
        bench.core.handle(NgRequest("offer"), bench.now)
    assert bench.log.lines == ["[c1] warning warning text=x"]


def test_reports_of_the_relay_reach_the_engine(bench: Bench) -> None:
    bench.relay.reports = ["a", "b"]
    bench.engine.changes = ["change"]
    bench.core.on_reports()
    assert bench.steps == ["seen a", "seen b", "configure ['change']"]


def test_timer_is_set_once_for_the_earliest_deadline(bench: Bench) -> None:
    for deadline in (1005.0, 1007.0, 1003.0, 1003.0):
        bench.engine.deadline = deadline
        bench.core.handle(NgRequest("offer"), bench.now)
    assert [(timer.delay, timer.cancelled) for timer in bench.loop.timers] == [(5.0, True), (3.0, False)]


def test_timer_that_fired_is_set_anew(bench: Bench) -> None:
    bench.engine.deadline = 1003.0
    bench.core.handle(NgRequest("offer"), bench.now)
    bench.now = 1003.5
    bench.engine.deadline = 1004.0
    bench.loop.timers[-1].callback()
    assert bench.steps[-2:] == ["expire", "wall"]
    assert bench.loop.timers[-1].delay == pytest.approx(0.5)


def test_turn_of_a_timer_has_an_end(bench: Bench) -> None:
    bench.core.on_timer()
    assert bench.engine.has_time()
    bench.now += 0.05
    assert not bench.engine.has_time()


def test_deadline_that_has_passed_means_at_once(bench: Bench) -> None:
    bench.engine.deadline = 999.0
    bench.core.handle(NgRequest("offer"), bench.now)
    assert bench.loop.timers[-1].delay == 0.0


def test_no_deadline_sets_no_timer(bench: Bench) -> None:
    bench.core.handle(NgRequest("offer"), bench.now)
    assert bench.loop.timers == []


def test_bug_in_a_timer_is_logged_and_the_timer_comes_again(bench: Bench) -> None:
    bench.engine.error = KeyError("bug")
    bench.core.on_timer()
    assert bench.log.lines[0].startswith("[-] error internal error where=timer\n  | Traceback")
    assert bench.loop.timers[-1].delay == 1.0
    assert bench.core.failures == 1


def test_bug_in_a_report_is_logged(bench: Bench) -> None:
    bench.relay.reports = ["a"]
    bench.engine.error = KeyError("bug")
    bench.core.on_reports()
    assert "KeyError" in bench.log.lines[0]
    assert bench.core.failures == 1


def test_bug_in_a_report_does_not_lose_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.relay.reports = ["bad", "good"]
    bench.engine.changes = ["change"]

    def source_seen(report: Any, now: float) -> None:
        if report == "bad":
            raise KeyError(report)
        bench.steps.append(f"seen {report}")

    monkeypatch.setattr(bench.engine, "source_seen", source_seen)
    bench.core.on_reports()
    assert bench.steps == ["seen good", "configure ['change']"]
    assert bench.core.failures == 1


def test_bug_in_a_timer_neither_turns_at_once_nor_loses_changes(bench: Bench) -> None:
    bench.engine.error = KeyError("bug")
    bench.engine.deadline = 999.0
    bench.engine.changes = ["change"]
    bench.core.on_timer()
    assert "configure ['change']" in bench.steps
    bench.engine.error = None
    bench.core.handle(NgRequest("offer"), bench.now)  # the deadline has passed still
    assert [timer.delay for timer in bench.loop.timers if not timer.cancelled] == [1.0]
    assert bench.core.failures == 1


def test_refused_source_is_logged_with_what_would_allow_it(bench: Bench) -> None:
    facts = {"expected": "192.0.2.1:4000", "seen": "198.51.100.1:5000", "packet": "RTP"}
    bench.engine.events = [CallEvent(EventKind.SOURCE_REFUSED, "c1", facts)]
    bench.core.handle(NgRequest("ping"), bench.now)
    (line,) = bench.log.lines
    assert line.startswith("[c1] warning source refused expected=192.0.2.1:4000 seen=198.51.100.1:5000 packet=RTP")
    assert "media-handover" in line
    assert "source-lock = rtpengine" in line


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_can_be_logged(bench: Bench, kind: EventKind) -> None:
    bench.engine.events = [CallEvent(kind, "c1", {})]
    bench.core.handle(NgRequest("ping"), bench.now)
    if kind in {EventKind.DELETE_SCHEDULED, EventKind.PATH_DETAIL}:  # debug
        assert bench.log.lines == []
    else:
        assert bench.log.lines[0].startswith("[c1] ")


@pytest.mark.parametrize("kind", ControlEventKind)
def test_every_kind_of_control_event_is_logged(bench: Bench, kind: ControlEventKind) -> None:
    bench.core.log_control(ControlEvent(kind, {"peer": "192.0.2.1", "call_id": "c9"}))
    assert bench.log.lines[0].startswith("[c9] ")


def test_close_ends_calls_logs_and_cancels_the_timer(bench: Bench) -> None:
    bench.engine.deadline = 1003.0
    bench.core.handle(NgRequest("offer"), bench.now)
    bench.engine.events = [CallEvent(EventKind.CLOSED, "c1", {"reason": "shutdown"})]
    bench.engine.deadline = None
    bench.core.close()
    assert "close_all" in bench.steps
    assert bench.log.lines[-1] == "[c1] info call closed reason=shutdown"
    assert bench.loop.timers[-1].cancelled


def test_engine_settings_are_those_of_the_configuration() -> None:
    arguments = "-o 1 -s 2 -a 3 --offer-timeout=4 -d 5 -T 6 --max-sessions=7 --port-quarantine=8 --sip-source"
    settings = engine_settings(
        load_configuration(
            ["--config-file=none", *arguments.split(), "--endpoint-learning=off", "--source-lock=rtpengine"], {}
        ).settings
    )
    timeouts = settings.timeouts
    assert (timeouts.media, timeouts.silent, timeouts.final, timeouts.offer, timeouts.delete_delay) == (1, 2, 3, 4, 5)
    assert (settings.session.tos, settings.max_sessions, settings.port_quarantine) == (6, 7, 8)
    assert settings.session.sip_source
    assert not settings.session.source_lock
    assert settings.session.endpoint_learning is EndpointLearning.OFF


def test_broadcast_addresses_are_those_of_ipv4_networks_that_have_one() -> None:
    host = HostNetwork(
        (
            LocalAddress("lo", "127.0.0.1", 8, loopback=True),
            LocalAddress("eth0", "192.0.2.5", 24),
            LocalAddress("eth1", "198.51.100.1", 31),
            LocalAddress("eth2", "198.51.100.9", 32),
            LocalAddress("eth0", "2001:db8::1", 64),
        )
    )
    assert broadcast_addresses(host) == ["127.255.255.255", "192.0.2.255"]
    assert all(ipaddress.ip_address(address) for address in broadcast_addresses(host))


def test_relay_has_room_for_every_port() -> None:
    one = Interface("a", "192.0.2.1", "192.0.2.1", 30000, 39999)
    same_under_another_name = Interface("b", "192.0.2.1", "192.0.2.1", 30000, 39999)
    other = Interface("c", "192.0.2.2", "192.0.2.2", 30000, 39999)
    assert relay_capacity((one, same_under_another_name)) == relay_capacity((one,)) >= 10_000
    assert relay_capacity((one, other)) == relay_capacity((one,)) + 10_000


@pytest.mark.parametrize(("limit", "warns"), [(1024, True), (524_288, False)])
def test_few_descriptors_for_many_ports_are_warned_of(limit: int, warns: bool) -> None:
    interface = Interface("a", "192.0.2.1", "192.0.2.1", 30000, 40000)
    text = descriptor_warning(limit, (interface,))
    if warns:
        assert text == "1024 descriptors are enough for about 128 calls; raise LimitNOFILE (ulimit -n)"
    else:
        assert text is None


def test_relay_threads_are_as_configured_else_one_per_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaproxy.daemon.os.sched_getaffinity", lambda _: {0, 3, 5})
    counts = [
        relay_workers(load_configuration(["--config-file=none", f"--num-threads={given}"], {}).settings)
        for given in (0, 2, 1024)
    ]
    assert counts == [3, 2, 64]


def test_advice_for_a_refused_peer_can_be_pasted() -> None:
    text = ACCESS_ADVICE.format(peer="192.0.2.1")
    assert text == 'add it to `allow` (allow = ["192.0.2.1"], or --allow=192.0.2.1) to let it in'


@pytest.mark.parametrize(("options", "level"), [([], "notice"), (["--port-max=40000"], "warning")])
def test_shared_ports_are_a_warning_only_if_somebody_chose_them(
    monkeypatch: pytest.MonkeyPatch, options: list[str], level: str
) -> None:
    monkeypatch.setattr("mediaproxy.daemon.port_range_warning", lambda _: "ports are shared")
    configuration = load_configuration(["--config-file=none", "-i", "127.0.0.1", *options], {})
    log = Lines()
    addresses = resolve_addresses(configuration, HostNetwork(()))
    log_start(configuration, addresses, 1024, make_logger(LogSink(log, timestamps=False)))
    assert f"[-] {level} ports are shared" in log.lines
    assert "[-] warning 1024 descriptors are enough for about 128 calls; raise LimitNOFILE (ulimit -n)" in log.lines
    assert " descriptors=1024 " in log.lines[-1]


class DeadDatapath:
    """A privileged process that ended right after its start."""

    name = "tc"

    def installed(self) -> list[Any]:
        raise OffloadError("the privileged process has ended")


class KernelRun:
    datapath = DeadDatapath()
    candidates = (Candidate("nft", False, "no nft"),)
    reason = ""


@pytest.mark.parametrize("no_fallback", [False, True])
def test_kernel_path_that_died_at_the_start_is_none(no_fallback: bool) -> None:
    log = Lines()
    configuration = load_configuration(["--no-fallback"] if no_fallback else [], {})
    sink = LogSink(log, LogLevel.INFO, timestamps=False)
    daemon = Daemon(configuration, None, None, sink, make_logger(sink), None, KernelRun())  # type: ignore[arg-type]
    with UserspaceRelay(1, 8) as sockets:
        if no_fallback:
            with pytest.raises(OffloadError):
                daemon._offload(sockets)
            return
        assert daemon._offload(sockets) is None
        assert sockets.kernel() == KernelReport(
            rejected=(("nft", "no nft"),), failure="the privileged process has ended"
        )
    assert "no kernel path: media is relayed in user space" in log.lines[0]
