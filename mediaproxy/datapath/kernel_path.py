"""The kernel path of all transports: which flows are installed, why others are not, and what they have counted.

The kernel is a cache: the sockets can always relay. What is wanted follows from the configurations (``plan``), the
difference to what is installed is applied in batches (``reconcile``), and flows that don't do what they should are
taken back (``watch``). Every packet is counted by exactly one path; sequence numbers are handed over and back.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mediaproxy.datapath.carried import Carried, Out, Track
from mediaproxy.datapath.flow import Flow, FlowReason, InstalledFlow, Slot, Verdict
from mediaproxy.datapath.kernel import Datapath, DatapathEvent, DatapathEventKind, FlowTotals, Refusal, RtpStates
from mediaproxy.datapath.plan import FlowPlan
from mediaproxy.datapath.reconcile import reconcile
from mediaproxy.datapath.relay import Relay, TransportConfig, TransportHandle
from mediaproxy.datapath.slots import GENERATIONS, SlotPool
from mediaproxy.datapath.watch import Finding, Watch
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint

SLOT_REST: Final = 1.0
"""Seconds for which a removed flow's slot is left alone: a program that was running may still count into it."""
RETRY: Final = 30.0
"""Seconds until a flow that the kernel refused or did not move is tried again."""
_RETRIES_PER_TURN: Final = 256

_NOBODY: Final = TransportHandle(0)
"""Handles of open transports are never 0."""
_FINDINGS: Final = {Finding.STUCK: FlowReason.MOVED_NOTHING, Finding.LOCAL: FlowReason.LOCAL_PEER}
_WHILE_LOST: Final = frozenset({FlowReason.LOST, FlowReason.REFUSED, FlowReason.NOT_ATTACHED, FlowReason.MAP_FULL})
"""What becomes of flows while the kernel path is away."""
_WITHOUT_WAY: Final = frozenset({FlowReason.NO_ROUTE, FlowReason.NOT_ATTACHED})
"""What becomes of flows whose way out is away."""


class SocketRelay(Relay, RtpStates, Protocol):
    """The relay that serves what the kernel does not."""


@dataclass(frozen=True, slots=True)
class PathChange:
    """A transport's RTP has moved into the kernel (``verdict`` is ``None``) or out of it, or its reason has changed."""

    handle: TransportHandle
    verdict: Verdict | None


class KernelPath:
    """See the head of this file. Every method that talks to the kernel survives its silence: then all is by socket."""

    def __init__(self, datapath: Datapath, sockets: SocketRelay, generation: int) -> None:
        """Args:
        generation: slots' generations begin after it; another one at each start, 32 bits.
        """
        self._datapath = datapath
        self._sockets = sockets
        self.failure: str | None = None
        """Why the kernel path is given up, if it is."""
        self._orphans: dict[Endpoint, InstalledFlow] = {one.flow.local: one for one in datapath.installed()}
        self._slots = SlotPool(datapath.slots, [orphan.slot.index for orphan in self._orphans.values()], generation)
        self._plan = FlowPlan(datapath.capabilities)
        self._tracks: dict[TransportHandle, Track] = {}
        self._closed: dict[TransportHandle, Track] = {}
        self._fed: dict[TransportHandle, list[Slot]] = {}
        self._resting: deque[tuple[float, Slot, TransportHandle, TransportHandle | None]] = deque()
        # Slot, whose it was, and where its packets went; their rest begins with the next settle.
        self._leaving: list[tuple[Slot, TransportHandle, TransportHandle | None]] = []
        self._retries: deque[tuple[float, TransportHandle]] = deque()
        self._watch = Watch()
        self._changes: list[PathChange] = []
        self._events: list[DatapathEvent] = []
        datapath.clear(self.orphans)
        self._uncounted = datapath.totals()  # the orphans', before there was this daemon
        self._overwritten = FlowTotals()
        self._last_of: dict[int, Slot] = {}
        self._now = 0.0
        self.reasons: Counter[FlowReason] = Counter()
        """How many open transports have no flow, by reason."""
        self.refusals: Counter[FlowReason] = Counter()
        """How many times a flow was refused or taken back."""
        self.installed = 0
        """How many flows are in the kernel now."""
        self.installations = 0
        """How many flows were ever put there, replacements not counted."""

    # -- what the relay is told ---------------------------------------------------------------------------------------

    def open(self, handle: TransportHandle, local: Endpoint) -> None:
        """A transport was opened."""
        self._tracks[handle] = Track(handle, Verdict(FlowReason.CLOSED))
        self.reasons[FlowReason.CLOSED] += 1
        self._plan.open(handle, local)

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        """Transports were configured; ``settle`` brings the kernel up to date."""
        self._plan.configure(configs)

    def close(self, handles: Iterable[TransportHandle]) -> None:
        """Remove all flows from and to transports that are about to be closed.

        Their counts can be read until the next ``settle``.
        """
        closing = [track for track in map(self._tracks.get, handles) if track is not None]
        leaving = {track.handle for track in closing}
        feeders = [
            track
            for handle in leaving
            for track in self._feeding(handle)
            if track.handle not in leaving and track.installed is not None
        ]
        self._remove([*closing, *feeders])
        for track in feeders:
            self._judge(track, Verdict(FlowReason.NO_DESTINATION))
        for track in closing:
            if track.verdict is not None:
                self.reasons[track.verdict.reason] -= 1
            del self._tracks[track.handle]
            self._plan.close(track.handle)
            self._closed[track.handle] = track

    def take_back_all(self) -> None:
        """Remove all flows at once; those of calls that go one by one would each be a request of its own."""
        leaving = [track for track in self._tracks.values() if track.installed is not None]
        self._remove(leaving)
        for track in leaving:
            self._judge(track, Verdict(FlowReason.CLOSED))

    def settle(self, now: float) -> None:
        """Bring the kernel up to date: to be called after every turn in which something was configured or closed, and
        when ``next_deadline`` has come."""
        self._now = now
        for handle in self._closed:
            self._fed.pop(handle, None)
        self._closed.clear()
        self._begin_rests(now)
        self._end_rests(now)
        if self.failure is not None:
            self._judge_without_kernel()
            return
        self._retry(now)
        self._update(self._plan.take_changed())
        stuck = self._watch.look(now, self._is_current, self._datapath.read, self._heard)
        if stuck:
            self._take_back(stuck)
        self._begin_rests(now)

    def next_deadline(self) -> float | None:
        """When ``settle`` wants to be called next."""
        times = [self._resting[0][0]] if self._resting else []
        if self.failure is None:
            look = self._watch.next_look()
            times += [] if look is None else [look]
            times += [self._retries[0][0]] if self._retries else []
        return min(times, default=None)

    @property
    def has_events(self) -> bool:
        """Whether ``take_datapath_events`` should be called now."""
        return bool(self._events) or (self.failure is None and self._datapath.has_events)

    def take_datapath_events(self) -> list[DatapathEvent]:
        """What happened to the kernel path as a whole; ``settle`` afterwards."""
        if self.failure is None:
            try:
                self._on_events(self._datapath.take_events())
            except OffloadError as error:
                self._give_up(error)
        events, self._events = self._events, []
        return events

    def take_changes(self) -> list[PathChange]:
        """Which transports have changed their path since the last call."""
        changes = self._changes[:]
        self._changes.clear()
        return changes

    @property
    def orphans(self) -> tuple[InstalledFlow, ...]:
        """Flows that a dead daemon has left, and that nobody else touches."""
        return tuple(self._orphans.values())

    def orphan_last_seen(self, orphan: InstalledFlow) -> float | None:
        """When it forwarded its last packet, monotonic seconds."""
        return self._datapath.last_seen(orphan.slot)

    def remove_orphans(self, orphans: Sequence[InstalledFlow]) -> None:
        """Take away what a dead daemon left."""
        if self.failure is None:
            try:
                self._datapath.apply([], orphans)
            except OffloadError as error:
                self._give_up(error)
        if self.failure is not None:
            for orphan in orphans:
                self._revoke(orphan.slot)
        for orphan in orphans:
            self._orphans.pop(orphan.flow.local, None)
            self._last_of[orphan.slot.index] = orphan.slot
            self._leaving.append((orphan.slot, _NOBODY, None))

    # -- what is known ------------------------------------------------------------------------------------------------

    def verdict(self, handle: TransportHandle) -> Verdict | None:
        """Why a transport's RTP is not in the kernel; ``None`` if it is."""
        track = self._find(handle)
        return track.verdict if track is not None else Verdict(FlowReason.CLOSED)

    def last_seen(self, handle: TransportHandle) -> float | None:
        """When the kernel last forwarded a packet that arrived on a transport."""
        track = self._find(handle)
        if track is None:
            return None
        seen = [self._datapath.last_seen(slot) for slot in track.slots()]
        if track.carried is not None:
            seen.append(track.carried.last_seen)
        return max((time for time in seen if time is not None), default=None)

    def carried(self, handle: TransportHandle) -> Carried | None:
        """What the kernel has counted of what arrived on a transport; ``None`` if nothing ever was its."""
        track = self._find(handle)
        if track is None or (track.carried is None and not track.resting and track.installed is None):
            return None
        sums = Carried()
        if track.carried is not None:
            sums = Carried(
                track.carried.packets,
                track.carried.bytes,
                track.carried.last_seen,
                track.carried.drops[:],
                track.carried.ups[:],
                track.carried.rtp[:],
            )
        for slot in track.slots():
            sums.add(self._datapath.read(slot))
        return sums

    def out(self, handle: TransportHandle) -> Out:
        """What the kernel has sent from a transport's endpoint."""
        track = self._find(handle)
        sums = Out() if track is None or track.out is None else Out(track.out.packets, track.out.bytes)
        for slot in self._fed.get(handle, ()):
            counters = self._datapath.read(slot)
            sums.packets += counters.packets
            sums.bytes += counters.bytes
        return sums

    def totals(self) -> FlowTotals:
        """All that the kernel has forwarded since the start; never goes back."""
        now, more, less = self._datapath.totals(), self._overwritten, self._uncounted
        return FlowTotals(
            now.packets + more.packets - less.packets,
            now.bytes + more.bytes - less.bytes,
            now.errors + more.errors - less.errors,
        )

    # -- the inside ---------------------------------------------------------------------------------------------------

    def _find(self, handle: TransportHandle) -> Track | None:
        return self._tracks.get(handle) or self._closed.get(handle)

    def _feeding(self, sink: TransportHandle) -> list[Track]:
        return [track for track in map(self._tracks.get, self._plan.feeders(sink)) if track is not None]

    def _is_current(self, handle: TransportHandle, slot: Slot) -> bool:
        track = self._tracks.get(handle)
        return track is not None and track.installed is not None and track.installed.slot == slot

    def _heard(self, handle: TransportHandle) -> int:
        """RTP packets that the sockets have accepted: STUN and the like, which always come that way, don't count."""
        counters = self._sockets.counters(handle).rtp
        track = self._tracks.get(handle)
        if track is not None and track.flow is not None and track.flow.opaque:
            return counters.packets
        return sum(ssrc.packets for ssrc in counters.ssrcs)

    def _judge(self, track: Track, verdict: Verdict | None) -> None:
        if verdict == track.verdict:
            return
        if track.verdict is not None:
            self.reasons[track.verdict.reason] -= 1
        if verdict is not None:
            self.reasons[verdict.reason] += 1
        track.verdict = verdict
        self._changes.append(PathChange(track.handle, verdict))

    def _update(self, handles: Iterable[TransportHandle]) -> None:
        """Apply the difference for these transports."""
        desired: dict[TransportHandle, Flow] = {}
        installed: dict[TransportHandle, Flow] = {}
        verdicts: list[tuple[Track, Verdict]] = []
        for handle in handles:
            track = self._tracks[handle]
            planned = self._plan.flow(handle)
            if isinstance(planned, Flow):
                desired[handle] = planned
            else:
                verdicts.append((track, planned))
            if track.flow is not None:
                installed[handle] = track.flow
        difference = reconcile(desired, installed)
        self._remove([self._tracks[handle] for handle in difference.removals])
        for track, verdict in verdicts:
            self._judge(track, verdict)
        self._set(difference.sets)

    def _set(self, flows: dict[TransportHandle, Flow]) -> None:
        sets: dict[Slot, tuple[Track, InstalledFlow, bool]] = {}
        for handle, flow in flows.items():
            track = self._tracks[handle]
            sink = self._plan.sink(handle)
            if track.installed is not None and track.sink == sink:
                slot: Slot | None = track.installed.slot
                is_new = False
            else:
                slot = self._take_slot(track)
                is_new = True
            if slot is None:
                if track.installed is not None:
                    self._remove([track])
                self._refuse(track, Verdict(FlowReason.MAP_FULL))
                continue
            sets[slot] = track, InstalledFlow(flow, slot), is_new
        if not sets:
            return
        try:
            refusals = self._datapath.apply([wanted for _, wanted, _ in sets.values()], [])
        except OffloadError as error:
            self._give_up(error)
            return
        refused = {refusal.flow.slot: refusal for refusal in refusals}
        for slot, (track, wanted, is_new) in sets.items():
            refusal = refused.get(slot)
            if refusal is None:
                self._put(track, wanted, is_new=is_new)
            else:
                self._on_refusal(track, refusal, is_new=is_new)

    def _put(self, track: Track, wanted: InstalledFlow, *, is_new: bool) -> None:
        """A flow is in the kernel."""
        if is_new:
            if track.installed is not None:
                self._rest(track)
            sink = track.sink = self._plan.sink(track.handle)
            if sink is not None:
                self._fed.setdefault(sink, []).append(wanted.slot)
            self.installed += 1
            self.installations += 1
            self._watch.add(track.handle, wanted.slot, self._now)
        track.installed = wanted
        track.retry_at = None
        self._judge(track, None)

    def _on_refusal(self, track: Track, refusal: Refusal, *, is_new: bool) -> None:
        if track.installed is not None:
            self._hand_back(track)
            self._rest(track)  # whatever stood at the key is gone
        if is_new:
            self._slots.give_back(refusal.flow.slot)
        self._refuse(track, _verdict(refusal))

    def _refuse(self, track: Track, verdict: Verdict) -> None:
        self.refusals[verdict.reason] += 1
        self._judge(track, verdict)
        track.retry_at = self._now + RETRY
        self._retries.append((track.retry_at, track.handle))

    def _retry(self, now: float) -> None:
        for _ in range(_RETRIES_PER_TURN):
            if not self._retries or self._retries[0][0] > now:
                return
            when, handle = self._retries.popleft()
            track = self._tracks.get(handle)
            if track is not None and track.retry_at == when:
                track.retry_at = None
                self._plan.touch(handle)

    def _take_slot(self, track: Track) -> Slot | None:
        """A slot for a new flow that goes on counting where all other paths have come to."""
        slot = self._slots.take()
        if slot is None:
            return None
        before = self._last_of.get(slot.index)
        if before is not None:
            self._keep_total(before)
        self._last_of[slot.index] = slot
        states = [self._sockets.rtp_state(track.handle)]
        carried = self.carried(track.handle)
        if carried is not None:
            states += carried.rtp
        self._datapath.seed(slot, self._sockets.merge_rtp(states))
        return slot

    def _keep_total(self, slot: Slot) -> None:
        """What a slot has counted is about to be overwritten."""
        gone, sums = self._datapath.read(slot), self._overwritten
        self._overwritten = FlowTotals(
            sums.packets + gone.packets, sums.bytes + gone.bytes, sums.errors + sum(gone.drops)
        )

    def _remove(self, tracks: Sequence[Track]) -> None:
        """Take the flows of these transports out of the kernel, if they have one."""
        leaving = [(track, track.installed) for track in tracks if track.installed is not None]
        if not leaving:
            return
        for track, _ in leaving:
            self._hand_back(track)  # before packets reach the sockets, which else take the gap for a restart
        if self.failure is None:
            try:
                self._datapath.apply([], [installed for _, installed in leaving])
            except OffloadError as error:
                self._give_up(error)
                return
        for track, _ in leaving:
            self._hand_back(track)  # what came meanwhile
            self._rest(track)

    def _hand_back(self, track: Track) -> None:
        """Tell the sockets where the kernel has come to."""
        if track.installed is not None:
            self._sockets.resume_rtp(track.handle, self._datapath.read(track.installed.slot).rtp)

    def _rest(self, track: Track) -> None:
        """The flow is gone; its slot may still be counting for a moment."""
        if track.installed is None:
            return
        slot = track.installed.slot
        self._leaving.append((slot, track.handle, track.sink))
        track.resting.append(slot)
        track.installed = None
        track.sink = None
        self.installed -= 1

    def _begin_rests(self, now: float) -> None:
        self._resting.extend((now + SLOT_REST, *leaving) for leaving in self._leaving)
        self._leaving.clear()

    def _end_rests(self, now: float) -> None:
        while self._resting and self._resting[0][0] <= now:
            _, slot, handle, sink = self._resting.popleft()
            self._end_rest(slot, handle, sink)

    def _end_rest(self, slot: Slot, handle: TransportHandle, sink: TransportHandle | None) -> None:
        self._slots.give_back(slot)
        track = self._tracks.get(handle)
        receiver = self._tracks.get(sink) if sink is not None else None
        if track is None and receiver is None:
            return
        counters = self._datapath.read(slot)
        if track is not None:
            carried = track.carried = track.carried or Carried()
            carried.add(counters)
            carried.rtp = [self._sockets.merge_rtp(carried.rtp)]
            track.resting.remove(slot)
        if receiver is not None:
            self._count_out(receiver, slot, counters.packets, counters.bytes)

    def _count_out(self, track: Track, slot: Slot, packets: int, octets: int) -> None:
        out = track.out = track.out or Out()
        out.packets += packets
        out.bytes += octets
        slots = self._fed.get(track.handle, [])
        if slot in slots:
            slots.remove(slot)
        if not slots:
            self._fed.pop(track.handle, None)

    def _take_back(self, stuck: Sequence[tuple[TransportHandle, Finding]]) -> None:
        tracks = [self._tracks[handle] for handle, _ in stuck]
        self._remove(tracks)
        for track, (_, finding) in zip(tracks, stuck, strict=True):
            self._refuse(track, Verdict(_FINDINGS[finding]))

    def _judge_without_kernel(self) -> None:
        for handle in self._plan.take_changed():
            planned = self._plan.flow(handle)
            without = Verdict(FlowReason.NO_BACKEND, self.failure or "")
            self._judge(self._tracks[handle], planned if isinstance(planned, Verdict) else without)

    def _lose(self, verdict: Verdict) -> None:
        """All flows are gone though nobody here removed them."""
        for track in self._tracks.values():
            if track.installed is not None:
                self._hand_back(track)
                self._rest(track)
                self._judge(track, verdict)

    def _on_events(self, events: Sequence[DatapathEvent]) -> None:
        self._events += events
        taken_out = {refusal.flow.slot: refusal for event in events for refusal in event.flows}
        if taken_out:
            self._on_taken_out(taken_out)
        for event in events:
            if event.kind is DatapathEventKind.LOST and event.flows_gone:
                self._lose(Verdict(FlowReason.LOST))
            elif event.kind is DatapathEventKind.RESTORED:
                self._touch(_WHILE_LOST)
            elif event.kind is DatapathEventKind.WAYS_BACK:
                self._touch(_WITHOUT_WAY)

    def _on_taken_out(self, refusals: Mapping[Slot, Refusal]) -> None:
        """Flows are not in the kernel any more; orphans among them are put back by who took them out."""
        tracks = [
            track for track in self._tracks.values() if track.installed is not None and track.installed.slot in refusals
        ]
        verdicts = [_verdict(refusals[track.installed.slot]) for track in tracks if track.installed is not None]
        self._remove(tracks)  # one may have been replaced or put back meanwhile
        if self.failure is None:
            for track, verdict in zip(tracks, verdicts, strict=True):
                self._refuse(track, verdict)

    def _touch(self, reasons: Container[FlowReason]) -> None:
        for handle, track in self._tracks.items():
            if track.verdict is not None and track.verdict.reason in reasons:
                self._plan.touch(handle)

    def _give_up(self, error: OffloadError) -> None:
        if self.failure is not None:
            return
        self.failure = str(error)
        with contextlib.suppress(OffloadError):
            self._events += self._datapath.take_events()  # what was said before the end
        self._touch(_WHILE_LOST)
        self._lose(Verdict(FlowReason.NO_BACKEND, self.failure))
        self._events.append(DatapathEvent(DatapathEventKind.LOST, self.failure, flows_gone=True))
        leaving, self._leaving = self._leaving, []
        for slot, handle, sink in leaving:
            self._end_rest(slot, handle, sink)
            self._revoke(slot)

    def _revoke(self, slot: Slot) -> None:
        """Should a flow still be there, with nobody left who can remove it, then let its packets reach the sockets.

        What is made of eBPF forwards only while the slot is of the flow's generation. Else a call that has ended would
        take the packets of the next one on its ports.
        """
        self._keep_total(slot)
        self._datapath.seed(Slot(slot.index, slot.generation % GENERATIONS + 1), None)


def _verdict(refusal: Refusal) -> Verdict:
    detail = errno.errorcode.get(refusal.errno, str(refusal.errno)) if refusal.errno else ""
    return Verdict(refusal.reason, detail)
