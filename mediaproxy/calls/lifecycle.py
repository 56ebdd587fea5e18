"""Birth and death of calls: deletion with its delay, timers, and what remains to be counted at the end."""

from __future__ import annotations

from collections.abc import Callable

from mediaproxy.calls.call import Call, Dialogue
from mediaproxy.calls.events import CallEvent, EventKind, Fact
from mediaproxy.calls.latching import WINDOW, Latch
from mediaproxy.calls.media import Media, Transport
from mediaproxy.calls.sockets import Sockets
from mediaproxy.calls.table import CallTable
from mediaproxy.calls.timeouts import Timeouts, judge_call
from mediaproxy.datapath import Relay, TransportConfig
from mediaproxy.stats.totals import CallTotals, EndReason

Emit = Callable[[CallEvent], None]

Configure = Callable[[list[TransportConfig]], None]
"""Hands changes to the relay."""


class Lifecycle:
    """Keeps the table, the sockets and the totals in step with what happens to calls."""

    def __init__(
        self,
        table: CallTable,
        sockets: Sockets,
        relay: Relay,
        timeouts: Timeouts,
        totals: CallTotals,
        emit: Emit,
        configure: Configure,
    ) -> None:
        self._table = table
        self._sockets = sockets
        self._relay = relay
        self._timeouts = timeouts
        self._totals = totals
        self._emit = emit
        self._configure = configure

    def signalled(self, call: Call, now: float) -> None:
        """An offer or answer succeeded: the learning windows are open; deadlines that are due earlier stay."""
        call.last_signal = now
        ends = now + WINDOW
        if call.wake_at is None or call.wake_at > ends:
            self._table.wake(call, ends)

    def delete(self, call: Call, dialogues: list[Dialogue], delay: int | None, now: float) -> None:
        """Delete dialogues; the call goes with the last one.

        Args:
            delay: seconds until the ports are given back; ``None`` for the configured delay.
        """
        seconds = self._timeouts.delete_delay if delay is None else max(0, delay)
        for dialogue in dialogues:
            dialogue.release_at = now + seconds
        if seconds > 0:
            facts: dict[str, Fact] = {"delay": seconds, "dialogues": len(dialogues)}
            self._emit(CallEvent(EventKind.DELETE_SCHEDULED, call.call_id, facts))
        self.look_at(call, now)

    def look_at(self, call: Call, now: float) -> None:
        """Do what is due for a call and set its next deadline."""
        if all(dialogue.release_at is not None and now >= dialogue.release_at for dialogue in call.dialogues):
            self.close(call, EndReason.DELETED, now)
            return
        self._release_dialogues(call, now)
        verdict = judge_call(call, self._timeouts, self._relay.last_seen, now)
        if isinstance(verdict, EndReason):
            self.close(call, verdict, now)
            return
        next_window = self._end_windows(call, now)
        deadlines = [when for when in (verdict, next_window) if when is not None]
        deadlines += [dialogue.release_at for dialogue in call.dialogues if dialogue.release_at is not None]
        self._table.wake(call, min(deadlines, default=None))

    def close(self, call: Call, reason: EndReason, now: float) -> None:
        """End a call: ports back, counted, reported."""
        age = now - call.created
        self._totals.add_ended(reason, age)
        for dialogue in call.dialogues:
            self._count_ways(dialogue)
        self._sockets.close_medias(call, call.medias(), now)
        self._table.remove(call)
        self._emit(
            CallEvent(
                EventKind.CLOSED,
                call.call_id,
                {
                    "reason": reason.value,
                    "duration": round(age, 3),
                    "rtp_packets": call.closed_rtp.packets,
                    "rtp_bytes": call.closed_rtp.bytes,
                    "rtcp_packets": call.closed_rtcp.packets,
                    "errors": call.closed_rtp.errors + call.closed_rtcp.errors,
                },
            )
        )

    def _release_dialogues(self, call: Call, now: float) -> None:
        """Give back what deleted branches held; the others go on."""
        due = [one for one in call.dialogues if one.release_at is not None and now >= one.release_at]
        if not due:
            return
        for dialogue in due:
            self._count_ways(dialogue)
            call.dialogues.remove(dialogue)
            self._sockets.close_medias(call, dialogue.medias(), now)
        call.drop_idle_monologues()
        # A port that served a deleted branch may serve another one now.
        self._configure([config for media in call.medias() for config in media.configs(call.tos)])

    def _count_ways(self, dialogue: Dialogue) -> None:
        """Count streams that carried nothing, or only one direction; branches that nobody answered don't count."""
        if not dialogue.answered:
            return
        for one, other in zip(dialogue.first.medias, dialogue.second.medias, strict=False):
            if one.pair is None or other.pair is None or one.rejected:
                continue
            active = self._has_packets(one) + self._has_packets(other)
            self._totals.zero_way += active == 0
            self._totals.one_way += active == 1

    def _has_packets(self, media: Media) -> bool:
        return media.pair is not None and self._relay.last_seen(media.pair.rtp.handle) is not None

    def _end_windows(self, call: Call, now: float) -> float | None:
        """Confirm the latches whose window is over; returns when the next window ends."""
        next_window: float | None = None
        for media in call.medias():
            if media.pair is None or media.pair.users[-1] is not media:
                continue  # a shared pair is looked at once, for the media that it serves
            changed = False
            for transport in (media.pair.rtp, media.pair.rtcp):
                latching = transport.latching
                if latching.end_window(now):
                    changed = True
                    self.emit_learnt(call, media, transport)
                if latching.window_ends > now and (next_window is None or latching.window_ends < next_window):
                    next_window = latching.window_ends
            if changed:
                self._configure(media.configs(call.tos))
        return next_window

    def emit_learnt(self, call: Call, media: Media, transport: Transport) -> None:
        """Say where a party really is; where it is where its SDP says, there is nothing to tell."""
        latching = transport.latching
        if latching.state is Latch.CONFIRMED and latching.learnt != latching.signalled:
            facts: dict[str, Fact] = {
                "media": media.index + 1,
                "signalled": str(latching.signalled),
                "learnt": str(latching.learnt),
            }
            self._emit(CallEvent(EventKind.LEARNT, call.call_id, facts))
