"""The core's face: requests, media reports and the time go in; replies, relay changes and events come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.calls.events import CallEvent, EventKind, Fact
from mediaproxy.calls.latching import Latch
from mediaproxy.calls.lifecycle import Lifecycle
from mediaproxy.calls.loops import comes_round
from mediaproxy.calls.offer_answer import OfferAnswer, SessionSettings
from mediaproxy.calls.orphans import Orphans
from mediaproxy.calls.sockets import Sockets
from mediaproxy.calls.table import CallTable
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.commands import COMMANDS, Context
from mediaproxy.commands.report import KERNEL, USERSPACE
from mediaproxy.datapath import FlowReason, PacketClass, Relay, SourceEvent, SourceEventKind, TransportConfig
from mediaproxy.datapath.kernel_path import PathChange
from mediaproxy.datapath.orphans import OrphanHolder
from mediaproxy.errors import RequestError
from mediaproxy.interfaces import Interfaces
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ports import PortPools, Shuffle
from mediaproxy.stats.control import ControlCounters
from mediaproxy.stats.totals import CallTotals, EndReason, RateMeter

_MAX_CALLS_PER_TURN: Final = 256
"""How many due calls one ``expire`` handles, so that a burst of deadlines does not delay requests."""


_PASSING: Final = frozenset(
    {FlowReason.CLOSED, FlowReason.NOT_LEARNT, FlowReason.NO_SINK, FlowReason.NO_DESTINATION, FlowReason.RTCP}
)
"""Reasons for which media is not in the kernel that belong to the life of every call."""
_MEDIA: Final = frozenset({PacketClass.RTP, PacketClass.RTCP})
"""Packets that say where a party sends its media from; others are at best signs of life."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the configuration decides of the core.

    Attributes:
        max_sessions: calls at most (0 accepts no new call); ``None`` for no limit.
        port_quarantine: seconds for which a freed port pair is not wanted again.
        firewall: what must be open on this host, in lines for people; only passed on.
    """

    session: SessionSettings = field(default_factory=SessionSettings)
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_sessions: int | None = None
    port_quarantine: float = 60.0
    firewall: tuple[str, ...] = ()


class Engine:
    """See the head of this file. Not thread-safe: one loop owns it. ``now`` is monotonic seconds throughout."""

    def __init__(
        self,
        *,
        interfaces: Interfaces,
        relay: Relay,
        orphans: OrphanHolder | None = None,
        settings: EngineSettings,
        addresses: AddressPolicy,
        control: ControlCounters,
        shuffle: Shuffle,
        loop_marker: str,
        now: float,
        wall_offset: float,
    ) -> None:
        """Args:
        orphans: who holds what a dead daemon left in the kernel.
        control: counters of the control listeners, for ``statistics``; only read here.
        shuffle: where the order of ports gets its randomness.
        loop_marker: 12 random hexadecimal digits, new at each start.
        wall_offset: unix time minus monotonic time.
        """
        self._addresses = addresses
        self._changes: list[TransportConfig] = []
        self._events: list[CallEvent] = []
        self._table = CallTable()
        totals = CallTotals()
        pools = PortPools(interfaces, settings.port_quarantine, shuffle)
        sockets = self._sockets = Sockets(pools, relay)
        self._orphans = None if orphans is None else Orphans(orphans, pools, relay, settings.timeouts.media, now)
        self._context = Context(
            table=self._table,
            lifecycle=Lifecycle(
                self._table, sockets, relay, settings.timeouts, totals, self._events.append, self._changes.extend
            ),
            offer_answer=OfferAnswer(interfaces, sockets, addresses, settings.session, loop_marker),
            relay=relay,
            orphans=self._orphans,
            interfaces=interfaces,
            pools=pools,
            totals=totals,
            rates=RateMeter(),
            control=control,
            max_sessions=settings.max_sessions,
            firewall=settings.firewall,
            started=now,
            wall_offset=wall_offset,
            emit=self._events.append,
            configure=self._changes.extend,
        )

    @property
    def calls(self) -> int:
        """How many calls there are, those in their delete delay included."""
        return len(self._table)

    def set_wall_offset(self, offset: float) -> None:
        """Tell the core that the wall clock was set: unix time minus monotonic time."""
        self._context.wall_offset = offset

    def handle(self, request: NgRequest, now: float) -> NgReply:
        """Carry out one command.

        Raises:
            RequestError: it can't be done; the text is the client's ``error-reason``, and nothing was changed.
        """
        command = COMMANDS.get(request.command)
        if command is None:
            raise RequestError("Unrecognized command")
        return command(self._context, request, now)

    def source_seen(self, report: SourceEvent, now: float) -> None:
        """The relay saw a packet from a source that it had not reported before (or refused one)."""
        found = self._sockets.owner(report.handle)
        if found is None:
            return  # the call ended while the report was on its way
        call, media, transport = found
        latching = transport.latching
        if report.kind is SourceEventKind.REFUSED:
            if latching.refuse(report.source):
                self._changes += media.configs(call.tos)
            elif not transport.refusals_reported and latching.state is Latch.CONFIRMED:
                transport.refusals_reported = True
                facts: dict[str, Fact] = {
                    "media": media.index + 1,
                    "expected": str(latching.learnt),
                    "seen": str(report.source),
                    "packet": report.packet_class.name,
                }
                self._events.append(CallEvent(EventKind.SOURCE_REFUSED, call.call_id, facts))
            return
        if self._addresses.objection(report.source) or comes_round(self._sockets, transport, report.source):
            return  # packets can be forged; what an SDP must not ask for, a source address must not either
        is_media = media.opaque or report.packet_class in _MEDIA
        if report.packet_class is PacketClass.OTHER and not media.opaque:
            return
        if latching.see(report.source, now, is_media=is_media):
            self._changes += media.configs(call.tos)
            self._context.lifecycle.emit_learnt(call, media, transport)

    def path_changed(self, change: PathChange) -> None:
        """The media of a transport takes another path, or stays where it is for another reason."""
        found = self._sockets.owner(change.handle)
        if found is None:
            return
        call, media, transport = found
        if media.pair is None or transport is not media.pair.rtp:
            return  # RTCP always goes by socket
        facts: dict[str, Fact] = {"media": media.index + 1, "port": transport.port}
        kind = EventKind.PATH
        if change.verdict is None:
            facts["path"] = KERNEL
        else:
            facts |= {"path": USERSPACE, "reason": str(change.verdict)}
            if change.verdict.reason in _PASSING:
                kind = EventKind.PATH_DETAIL
        self._events.append(CallEvent(kind, call.call_id, facts))

    def take_config_changes(self) -> list[TransportConfig]:
        """What the relay is to do now; in order, a later change of a transport replaces an earlier one."""
        changes = self._changes[:]
        self._changes.clear()
        return changes

    def take_events(self) -> list[CallEvent]:
        """What happened to calls since the last time."""
        events = self._events[:]
        self._events.clear()
        return events

    def next_deadline(self) -> float | None:
        """When ``expire`` wants to be called next."""
        deadline = self._table.next_deadline()
        orphans = None if self._orphans is None else self._orphans.next_deadline()
        if deadline is None or orphans is None:
            return orphans if deadline is None else deadline
        return min(deadline, orphans)

    def expire(self, now: float, has_time: Callable[[], bool] = lambda: True) -> None:
        """Do what time alone brings about: learning windows end, deleted and silent calls go.

        Args:
            has_time: asked after each call; the rest is left to the next turn when it says no. The end of a call whose
                flows iptables carries takes tens of milliseconds.
        """
        self._context.rates.maybe_sample(self._context.relay.totals, now)
        if self._orphans is not None:
            self._events += self._orphans.expire(now)
        for _ in range(_MAX_CALLS_PER_TURN):
            call = self._table.pop_due(now)
            if call is None:
                return
            self._context.lifecycle.look_at(call, now)
            if not has_time():
                return

    def close_all(self, now: float) -> None:
        """End all calls: the daemon goes down."""
        for call in list(self._table.values()):
            self._context.lifecycle.close(call, EndReason.SHUTDOWN, now)
