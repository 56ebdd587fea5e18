"""The daemon: puts core and shell together, turns the loop, and ends it.

Everything that decides is in the core. Here requests and reports of the relay are fed to it, what it wants changed is
handed to the relay, what happened is logged, and one timer is kept at its next deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import os
import random
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import uvloop

from mediaproxy.backends.firewall_rules import Opening, describe
from mediaproxy.backends.netlink import HostNetwork, read_host_network
from mediaproxy.backends.userspace import UserspaceRelay
from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.calls.events import CallEvent, EventKind
from mediaproxy.calls.offer_answer import SessionSettings
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.config import (
    DEFAULT_RUN_FOLDER,
    Addresses,
    Configuration,
    Settings,
    SourceLock,
    has_default_port_range,
    port_range_warning,
    resolve_addresses,
)
from mediaproxy.config.address_kinds import IpNetwork
from mediaproxy.config.capacity import calls_for_descriptors, calls_for_ports
from mediaproxy.datapath.kernel import DatapathEventKind
from mediaproxy.datapath.kernel_path import KernelPath
from mediaproxy.datapath.offload import OffloadingRelay
from mediaproxy.datapath.relay import KernelReport, Relay, SourceEvent
from mediaproxy.engine import Engine, EngineSettings
from mediaproxy.errors import MediaProxyError, OffloadError
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.listeners.access import AccessList
from mediaproxy.listeners.control import ControlDispatcher
from mediaproxy.listeners.events import ControlEvent, ControlEventKind
from mediaproxy.listeners.udp import UdpListener
from mediaproxy.logs import (
    FileDestination,
    Logger,
    LogLevel,
    LogSink,
    StderrDestination,
    make_logger,
    open_destination,
    take_library_logs,
)
from mediaproxy.net import AddressFamily, Endpoint, family_of, is_unspecified
from mediaproxy.ng.cookies import ReplyCache
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.privileged.client import RemoteDatapath
from mediaproxy.privileged.launch import KernelPathRun, open_flow_stats
from mediaproxy.privileged.rights import look_up_identity
from mediaproxy.privileged.settings import PrivilegedSettings, RelayRange
from mediaproxy.process import (
    Launcher,
    Pidfile,
    ServiceManager,
    StartError,
    endings_held,
    ignore_hangup,
    pass_endings,
    raise_descriptor_limit,
)
from mediaproxy.stats.control import ControlCounters

_MAX_WORKERS: Final = 64
_RETRY: Final = 1.0
"""Seconds until calls are looked after again when that failed because of a bug."""
_RESTING_FLOWS: Final = 8192
"""Room in the kernel for flows removed within the last second, whose slots are not used again yet."""
_MAX_FLOWS: Final = 500_000
_RESTING_TRANSPORTS: Final = 32_768
"""Room in the relay for transports closed within the last second, whose slots are not used again yet."""
_MAX_TRANSPORTS: Final = 1_000_000
_TURN: Final = 0.05
"""Seconds for which calls that are due may keep requests waiting; then these come first."""
_WALL_CHECK: Final = 1.0
"""Seconds between looks at the wall clock, which somebody may have set."""

_EVENT_LEVELS: Final[Mapping[EventKind, LogLevel]] = {
    EventKind.CREATED: LogLevel.INFO,
    EventKind.OFFERED: LogLevel.INFO,
    EventKind.ANSWERED: LogLevel.INFO,
    EventKind.LEARNT: LogLevel.INFO,
    EventKind.SOURCE_REFUSED: LogLevel.WARNING,
    EventKind.DELETE_SCHEDULED: LogLevel.DEBUG,
    EventKind.CLOSED: LogLevel.INFO,
    EventKind.PATH: LogLevel.INFO,
    EventKind.PATH_DETAIL: LogLevel.DEBUG,
    EventKind.ORPHAN_ENDED: LogLevel.NOTICE,
    EventKind.WARNING: LogLevel.WARNING,
}
_DATAPATH_LEVELS: Final[Mapping[DatapathEventKind, LogLevel]] = {
    DatapathEventKind.LOST: LogLevel.ERROR,
    DatapathEventKind.RESTORED: LogLevel.NOTICE,
    DatapathEventKind.NOTE: LogLevel.NOTICE,
    DatapathEventKind.TAKEN_OUT: LogLevel.NOTICE,
    DatapathEventKind.WAYS_BACK: LogLevel.NOTICE,
}
_CONTROL_LEVELS: Final[Mapping[ControlEventKind, LogLevel]] = {
    ControlEventKind.REQUEST_REFUSED: LogLevel.NOTICE,
    ControlEventKind.INTERNAL_ERROR: LogLevel.ERROR,
    ControlEventKind.UNKNOWN_OPTION: LogLevel.NOTICE,
    ControlEventKind.NOT_NG: LogLevel.NOTICE,
    ControlEventKind.PEER_REFUSED: LogLevel.WARNING,
    ControlEventKind.OVERSIZED_REPLY: LogLevel.WARNING,
    ControlEventKind.UNSENDABLE_REPLY: LogLevel.WARNING,
}
_REFUSAL_ADVICE: Final = "flag media-handover or asymmetric in the offer or answer, or source-lock = rtpengine"
"""What would let a refused source through."""
ACCESS_ADVICE: Final = 'add it to `allow` (allow = ["{peer}"], or --allow={peer}) to let it in'
"""What would let the requests of a peer in."""


def engine_settings(settings: Settings) -> EngineSettings:
    """What the configuration decides of the core."""
    return EngineSettings(
        session=SessionSettings(
            endpoint_learning=settings.endpoint_learning,
            source_lock=settings.source_lock is SourceLock.STRICT,
            sip_source=settings.sip_source,
            tos=settings.tos or 0,
        ),
        timeouts=Timeouts(
            media=settings.timeout,
            silent=settings.silent_timeout,
            offer=settings.offer_timeout,
            final=settings.final_timeout,
            delete_delay=settings.delete_delay,
        ),
        max_sessions=settings.max_sessions,
        port_quarantine=settings.port_quarantine,
    )


def broadcast_addresses(host: HostNetwork) -> list[str]:
    """The directed broadcast addresses of the networks that this host is connected to (RFC 919)."""
    found = []
    for address in host.addresses:
        network = ipaddress.ip_network(f"{address.address}/{address.prefix_length}", strict=False)
        if network.version == 4 and network.prefixlen < 31:  # longer ones have none (RFC 3021)
            found.append(str(network.broadcast_address))
    return found


def control_endpoints(listeners: Iterable[Endpoint], host: HostNetwork) -> list[Endpoint]:
    """Where requests are taken, with each wildcard spelt out as the addresses of this host."""
    found = []
    for listener in listeners:
        addresses = [listener.address]
        if is_unspecified(listener.address):
            addresses = [one.address for one in host.addresses if family_of(one.address) is listener.family]
        found += [Endpoint(address, listener.port) for address in addresses]
    return found


def relay_capacity(interfaces: tuple[Interface, ...]) -> int:
    """How many transports the relay must have room for: one for each port that can be open, and the resting ones."""
    return min(_count_ports(interfaces) + _RESTING_TRANSPORTS, _MAX_TRANSPORTS)


def flow_slots(interfaces: tuple[Interface, ...]) -> int:
    """How many flows the kernel must have room for: one for each RTP port that can be open, and the resting ones."""
    return min(_count_ports(interfaces) // 2 + _RESTING_FLOWS, _MAX_FLOWS)


def privileged_settings(settings: Settings, interfaces: tuple[Interface, ...]) -> PrivilegedSettings:
    """What the configuration decides of the kernel path."""
    ranges = {(interface.address, interface.port_min, interface.port_max) for interface in interfaces}
    return PrivilegedSettings(
        instance=settings.instance,
        path=settings.kernel_path,
        run_folder=str((settings.run_dir or DEFAULT_RUN_FOLDER).absolute() / settings.instance),
        relays=tuple(RelayRange(*each) for each in sorted(ranges)),
        slots=flow_slots(interfaces),
        nft_form=settings.nft_form,
        nft_owner=settings.nft_owner,
        firewall=settings.firewall,
    )


def firewall_lines(settings: Settings, addresses: Addresses) -> tuple[str, ...]:
    """What must be open on this host, in words and as rules."""
    openings = []
    for control in addresses.control:
        if not ipaddress.ip_address(control.address).is_loopback:
            peers = _outside_peers(addresses.control_peers, control.family)
            openings.append(Opening("ng control", control.address, control.port, control.port, peers=peers))
    ranges = {(interface.address, interface.port_min, interface.port_max): None for interface in addresses.interfaces}
    openings += [Opening("media", address, low, high, media=True) for address, low, high in ranges]
    return tuple(describe(openings, settings.instance))


def _outside_peers(networks: Iterable[IpNetwork], family: AddressFamily) -> tuple[str, ...]:
    """The networks of a family without those that are part of others or of this host alone."""
    version = 6 if family is AddressFamily.IP6 else 4
    outside = [network for network in networks if network.version == version and not network.is_loopback]
    return tuple(map(str, ipaddress.collapse_addresses(outside)))  # type: ignore[type-var]  # of one version, see above


def _count_ports(interfaces: tuple[Interface, ...]) -> int:
    ranges = {(interface.address, interface.port_min, interface.port_max) for interface in interfaces}
    return sum(port_max - port_min + 1 for _, port_min, port_max in ranges)


def relay_workers(settings: Settings) -> int:
    """How many relay threads to start."""
    return min(settings.num_threads or len(os.sched_getaffinity(0)), _MAX_WORKERS)


def descriptor_warning(limit: int, interfaces: tuple[Interface, ...]) -> str | None:
    """Say it if there are not enough descriptors for the calls that the ports are enough for."""
    calls = calls_for_descriptors(limit)
    if calls >= calls_for_ports(_count_ports(interfaces)):
        return None
    return f"{limit} descriptors are enough for about {calls} calls; raise LimitNOFILE (ulimit -n)"


class Core:
    """The engine with its relay, as the loop turns it: every entry point ends with ``_settle``."""

    def __init__(
        self, engine: Engine, sockets: UserspaceRelay, offloading: OffloadingRelay | None, logger: Logger
    ) -> None:
        """Args:
        sockets: whose reports are taken.
        offloading: the same relay with a kernel path, if there is one.
        """
        self._engine = engine
        self._sockets = sockets
        self._relay: Relay = sockets if offloading is None else offloading
        self._offloading = offloading
        self._logger = logger
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._not_before = 0.0
        self._wall_checked = 0.0
        self.failures = 0
        """Bugs that a boundary caught."""

    def handle(self, request: NgRequest, now: float) -> NgReply:
        """Carry out a request; the relay is configured when this returns.

        Raises:
            RequestError: see ``Engine.handle``.
        """
        try:
            return self._engine.handle(request, now)
        finally:
            self._settle(now)

    def on_reports(self) -> None:
        """The relay has something to tell."""
        now = time.monotonic()
        try:
            try:
                for report in self._sockets.take_events():
                    self._on_report(report, now)
            finally:
                self._settle(now)
        except Exception:  # noqa: BLE001  # the boundary of all reports
            self._fail("reports of the relay")

    def _on_report(self, report: SourceEvent, now: float) -> None:
        try:
            self._engine.source_seen(report, now)
        except Exception:  # noqa: BLE001  # the boundary of a report: the others are not to blame
            self._fail("report of the relay")

    def on_datapath(self) -> None:
        """The kernel path has something to tell."""
        now = time.monotonic()
        try:
            try:
                if self._offloading is not None:
                    for event in self._offloading.take_datapath_events():
                        self._logger.log(_DATAPATH_LEVELS[event.kind], event.kind.value, {"what": event.text})
            finally:
                self._settle(now)
        except Exception:  # noqa: BLE001  # the boundary of what the kernel path reports
            self._fail("events of the kernel path")

    def on_timer(self) -> None:
        """The next deadline has come."""
        self._timer = None
        self._timer_at = float("inf")
        now = time.monotonic()
        try:
            try:
                self._engine.expire(now, lambda: time.monotonic() < now + _TURN)
            finally:
                self._settle(now)
        except Exception:  # noqa: BLE001  # the boundary of a timer
            self._fail("timer")
            # Again, else no call would ever end by itself; not at once, though the deadline has passed.
            self._not_before = now + _RETRY
            self._arm(self._not_before)

    def close(self) -> None:
        """End all calls; nothing may be handled afterwards."""
        if self._offloading is not None:
            self._offloading.take_back_all()
        self._engine.close_all(time.monotonic())
        self._settle(time.monotonic())
        if self._timer is not None:
            self._timer.cancel()

    def _settle(self, now: float) -> None:
        """Hand changes to the relay, log what happened, and set the timer."""
        changes = self._engine.take_config_changes()
        if changes:
            self._relay.configure(changes)
        deadlines = [self._engine.next_deadline()]
        if self._offloading is not None:
            self._offloading.settle(now)
            for change in self._offloading.take_changes():
                self._engine.path_changed(change)
            if self._offloading.has_events:
                asyncio.get_running_loop().call_soon(self.on_datapath)
            deadlines.append(self._offloading.next_deadline())
        for event in self._engine.take_events():
            self._log_event(event)
        deadline = min((when for when in deadlines if when is not None), default=None)
        # A timer that comes too early costs one look; moving it with each request would cost more.
        if deadline is not None and deadline < self._timer_at:
            deadline = max(deadline, self._not_before)
            if deadline < self._timer_at:
                self._arm(deadline)
        if now - self._wall_checked >= _WALL_CHECK:
            self._wall_checked = now
            self._engine.set_wall_offset(time.time() - time.monotonic())

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        delay = max(0.0, deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self.on_timer)

    def _log_event(self, event: CallEvent) -> None:
        level = _EVENT_LEVELS[event.kind]
        if not self._logger.is_enabled(level):
            return
        facts: dict[str, object] = {"call_id": event.call_id, **event.facts}
        if event.kind is EventKind.SOURCE_REFUSED:
            facts["allow_with"] = _REFUSAL_ADVICE
        self._logger.log(level, event.kind.value, facts)

    def log_control(self, event: ControlEvent) -> None:
        """Log what happened on a control listener."""
        self._logger.log(_CONTROL_LEVELS[event.kind], event.kind.value, event.facts)

    def _fail(self, where: str) -> None:
        self.failures += 1
        self._logger.error("internal error", where=where, traceback=traceback.format_exc())


class Daemon:
    """One run of the daemon, from bound sockets to closed ones."""

    def __init__(
        self,
        configuration: Configuration,
        addresses: Addresses,
        host: HostNetwork,
        sink: LogSink,
        logger: Logger,
        manager: ServiceManager,
        kernel: KernelPathRun,
    ) -> None:
        self._settings = configuration.settings
        self._addresses = addresses
        self._host = host
        self._sink = sink
        self._logger = logger
        self._manager = manager
        self._kernel = kernel
        self._stop = asyncio.Event()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Bind everything, call ``on_ready``, and serve until SIGTERM or SIGINT; then close everything.

        Raises:
            ListenError, RelayError: a listener or the relay cannot be had; nothing stays open.
        """
        loop = asyncio.get_running_loop()
        interfaces = self._addresses.interfaces
        with UserspaceRelay(relay_workers(self._settings), relay_capacity(interfaces)) as sockets:
            offloading = self._offload(sockets)
            counters = ControlCounters()
            engine = Engine(
                interfaces=Interfaces(interfaces),
                relay=sockets if offloading is None else offloading,
                orphans=offloading,
                settings=replace(
                    engine_settings(self._settings), firewall=firewall_lines(self._settings, self._addresses)
                ),
                addresses=AddressPolicy(
                    self._settings.media_allow,
                    self._settings.media_deny,
                    broadcast_addresses(self._host),
                    control_endpoints(self._addresses.control, self._host),
                    [interface.address for interface in interfaces],
                ),
                control=counters,
                shuffle=random.SystemRandom().shuffle,
                loop_marker=secrets.token_hex(6),
                now=time.monotonic(),
                wall_offset=time.time() - time.monotonic(),
            )
            core = Core(engine, sockets, offloading, self._logger)
            self._handle_signals(loop)
            loop.add_reader(sockets.event_fd, core.on_reports)
            self._watch_kernel(loop, core)
            try:
                with self._listeners(ControlDispatcher(core, ReplyCache(), counters, core.log_control), core):
                    on_ready()
                    await self._stop.wait()
            finally:
                self._unwatch_kernel(loop)
                loop.remove_reader(sockets.event_fd)
                core.close()

    @contextlib.contextmanager
    def _listeners(self, dispatcher: ControlDispatcher, core: Core) -> Iterator[None]:
        """All control listeners, bound and answering; closed at the end."""
        access = AccessList(self._addresses.control_peers)
        advice = ACCESS_ADVICE if self._addresses.open_control else ""
        with contextlib.ExitStack() as stack:
            listeners = []
            for endpoint in self._addresses.control:
                listener = UdpListener(endpoint, dispatcher, access, core.log_control, advice)
                stack.callback(listener.close)
                listeners.append(listener)
            for listener in listeners:
                listener.start(asyncio.get_running_loop())
            yield

    def _offload(self, sockets: UserspaceRelay) -> OffloadingRelay | None:
        """The relay of both paths, if there is a kernel path."""
        datapath = self._kernel.datapath
        rejected = tuple((one.backend, one.reason) for one in self._kernel.candidates if not one.works)
        reason = self._kernel.reason
        if datapath is not None:
            try:
                kernel_path = KernelPath(datapath, sockets, secrets.randbits(32))
                return OffloadingRelay(sockets, kernel_path, datapath.name, rejected)
            except OffloadError as error:
                if self._settings.no_fallback:
                    raise
                reason = str(error)
                self._logger.warning("no kernel path: media is relayed in user space", reason=reason)
        sockets.kernel_report = KernelReport(rejected=rejected, failure=reason)
        return None

    def _watch_kernel(self, loop: asyncio.AbstractEventLoop, core: Core) -> None:
        if self._kernel.datapath is not None:
            loop.add_reader(self._kernel.datapath.fileno(), self._on_datapath, loop, core, self._kernel.datapath)

    def _unwatch_kernel(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._kernel.datapath is not None:
            loop.remove_reader(self._kernel.datapath.fileno())

    @staticmethod
    def _on_datapath(loop: asyncio.AbstractEventLoop, core: Core, datapath: RemoteDatapath) -> None:
        core.on_datapath()
        if datapath.has_failed:
            loop.remove_reader(datapath.fileno())

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        # As rtpengine does.
        loop.add_signal_handler(signal.SIGUSR1, self._on_level_signal, -1)
        loop.add_signal_handler(signal.SIGUSR2, self._on_level_signal, +1)
        pass_endings()

    def _on_stop(self, number: signal.Signals) -> None:
        self._logger.notice("stopping", signal=number.name)
        self._manager.notify("STOPPING=1")
        self._stop.set()

    def _on_hangup(self) -> None:
        try:
            self._sink.reopen()
        except OSError as error:
            self._logger.warning(
                "SIGHUP: the log cannot be opened anew, the old one stays in use",
                file=error.filename,
                reason=error.strerror,
            )
            return
        self._logger.notice("SIGHUP: log opened anew; changed settings need a restart, calls go on")

    def _on_level_signal(self, step: int) -> None:
        level = self._sink.change_level(step)
        self._logger.log(min(level, LogLevel.NOTICE), "log level changed", {"level": level.name.lower()})


def _open_log(settings: Settings, *, to_stderr: bool) -> LogSink:
    """The log that the settings ask for.

    Raises:
        StartError: the log file cannot be opened.
    """
    log_file = None if settings.log_file is None else settings.log_file.absolute()
    try:
        destination = open_destination(log_file, to_stderr=to_stderr)
        missing_syslog = ""
    except OSError as error:
        if log_file is not None:
            raise StartError(f"log-file {log_file} cannot be opened: {error.strerror}") from error
        # Rather where nobody asked for it than nowhere.
        destination = StderrDestination()
        missing_syslog = error.strerror or "unavailable"
    sink = LogSink(destination, settings.log_level, settings.log_format, timestamps=not settings.no_log_timestamps)
    if missing_syslog:
        make_logger(sink).warning("no syslog, logging to stderr; log-file names another place", reason=missing_syslog)
    return sink


def log_start(configuration: Configuration, addresses: Addresses, descriptors: int, logger: Logger) -> None:
    """Say what was configured, chosen and ignored."""
    settings = configuration.settings
    for warning in (*configuration.warnings, *addresses.warnings):
        logger.warning(warning)
    for note in addresses.notes:
        logger.notice(note)
    range_warning = port_range_warning(addresses.interfaces)
    if range_warning is not None:
        # Nothing to warn of for whoever chose nothing.
        level = LogLevel.NOTICE if has_default_port_range(configuration) else LogLevel.WARNING
        logger.log(level, range_warning, {})
    too_few = descriptor_warning(descriptors, addresses.interfaces)
    if too_few is not None:
        logger.warning(too_few)
    for interface in addresses.interfaces:
        logger.notice(
            "interface",
            name=interface.name,
            address=interface.address,
            advertised=interface.advertised,
            ports=f"{interface.port_min}-{interface.port_max}",
        )
    logger.notice(
        "ready",
        version=importlib.metadata.version("mediaproxy"),
        instance=settings.instance,
        pid=os.getpid(),
        listen_ng=", ".join(str(endpoint) for endpoint in addresses.control),
        relay_threads=relay_workers(settings),
        descriptors=descriptors,
        config_file=configuration.file or "none",
    )


def _in_one_line(error: BaseException) -> str:
    while error.__context__ is not None:
        error = error.__context__  # what came first; the rest went wrong while cleaning up
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def run_daemon(configuration: Configuration, environment: Mapping[str, str]) -> int:
    """Start, serve until told to stop, and clean up.

    Args:
        environment: only ``NOTIFY_SOCKET`` is looked at.
    Returns:
        The exit status: 0 after a clean end, 1 if it could not start.
    """
    ignore_hangup()
    settings = configuration.settings
    manager = ServiceManager(environment)
    pidfile_path = None if settings.pidfile is None else settings.pidfile.absolute()  # to detach changes the folder
    detach = not settings.foreground and settings.pidfile is not None and not manager.waits
    try:
        host = read_host_network()
        addresses = resolve_addresses(configuration, host)
        sink = _open_log(settings, to_stderr=not detach or settings.log_stderr)
        identity = look_up_identity(settings.user, settings.group)
        launcher = Launcher(detach=detach, keep_stderr=isinstance(sink.destination, StderrDestination))
    except MediaProxyError as error:
        for line in str(error).splitlines():
            print(f"mediaproxy: {line}", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001  # the boundary of the start, before there is a log
        print(f"mediaproxy: cannot start: {_in_one_line(error)}", file=sys.stderr)
        return 1
    logger = make_logger(sink)
    take_library_logs(logger)
    pidfile: Pidfile | None = None

    def on_ready() -> None:
        nonlocal pidfile
        if pidfile_path is not None and pidfile is None:
            pidfile = Pidfile(pidfile_path)
        log_start(configuration, addresses, descriptors, logger)
        launcher.ready()
        manager.notify(f"READY=1\nMAINPID={os.getpid()}")

    async def serve(kernel: KernelPathRun) -> None:
        await Daemon(configuration, addresses, host, sink, logger, manager, kernel).serve(on_ready)

    descriptors = raise_descriptor_limit()
    kernel_path = KernelPathRun(
        privileged_settings(settings, addresses.interfaces),
        logger,
        open_flow_stats,
        identity,
        no_fallback=settings.no_fallback,
    )
    try:
        if identity is not None:
            # The user that we become may write neither of them where root may.
            if pidfile_path is not None:
                pidfile = Pidfile(pidfile_path)
            if isinstance(sink.destination, FileDestination):
                sink.destination.give_to(identity.uid, identity.gid)
        with endings_held(), kernel_path as kernel, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(kernel))
    except MediaProxyError as error:
        launcher.failed(str(error))
        return 1
    except Exception as error:  # noqa: BLE001  # the boundary of the whole run
        logger.critical("ended by an error that nobody expected", traceback=traceback.format_exc())
        launcher.failed(f"cannot run: {_in_one_line(error)}")
        return 1
    finally:
        if pidfile is not None:
            pidfile.remove()
    logger.notice("stopped")
    return 0
