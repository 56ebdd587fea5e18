"""When a call ends by itself (reference F.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mediaproxy.calls.call import Call
from mediaproxy.calls.media import Media
from mediaproxy.datapath import TransportHandle
from mediaproxy.sdp.plan import Direction
from mediaproxy.stats.totals import EndReason

LastSeen = Callable[[TransportHandle], float | None]
"""When a transport last received an accepted packet, monotonic seconds."""

_SENDING = (Direction.SENDRECV, Direction.SENDONLY)
_RECEIVING = (Direction.SENDRECV, Direction.RECVONLY)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """All in seconds; 0 turns one off.

    Attributes:
        media: silence of every stream that should send.
        silent: the same where nobody is expected to send (hold, inactive, all rejected).
        offer: an offer that is never answered.
        final: the age of any call.
        delete_delay: how long a deleted call lives on, unless ``delete`` says otherwise.
    """

    media: float = 60.0
    silent: float = 3600.0
    offer: float = 3600.0
    final: float = 0.0
    delete_delay: float = 30.0


def judge_call(call: Call, timeouts: Timeouts, last_seen: LastSeen, now: float) -> EndReason | float | None:
    """Whether a call is over.

    Returns:
        The reason if it is; else when to look again (monotonic seconds), ``None`` for never.
    """
    verdicts: list[float] = []
    if timeouts.final > 0:
        ends = call.created + timeouts.final
        if now >= ends:
            return EndReason.FINAL_TIMEOUT
        verdicts.append(ends)
    reason, limit = _idle_limit(call, timeouts)
    if limit > 0:
        # While nobody answered only the signalling counts: a caller that sends media early keeps no call alive.
        alive = call.last_signal if reason is EndReason.OFFER_TIMEOUT else _last_life(call, last_seen)
        ends = alive + limit
        if now >= ends:
            return reason
        verdicts.append(ends)
    return min(verdicts, default=None)


def _idle_limit(call: Call, timeouts: Timeouts) -> tuple[EndReason, float]:
    if not any(dialogue.answered for dialogue in call.dialogues):
        return EndReason.OFFER_TIMEOUT, timeouts.offer
    if any(
        _expects_media(one, other) or _expects_media(other, one)
        for dialogue in call.dialogues
        for one, other in zip(dialogue.first.medias, dialogue.second.medias, strict=False)
    ):
        return EndReason.TIMEOUT, timeouts.media
    return EndReason.SILENT_TIMEOUT, timeouts.silent


def _expects_media(sender: Media, receiver: Media) -> bool:
    """Whether the one is to send and the other to receive; 0.0.0.0 means silence whatever the direction says."""
    if not (sender.filled and receiver.filled and sender.relayed) or sender.rejected:
        return False
    if any(media.signalled is not None and media.signalled.held for media in (sender, receiver)):
        return False
    return sender.opaque or (sender.direction in _SENDING and receiver.direction in _RECEIVING)


def _last_life(call: Call, last_seen: LastSeen) -> float:
    """The latest sign of life: signalling, or a packet on any transport (RTCP keeps a silent party alive)."""
    latest = call.last_signal
    for media in call.medias():
        if media.pair is None:
            continue
        for transport in (media.pair.rtp, media.pair.rtcp):
            seen = last_seen(transport.handle)
            if seen is not None and seen > latest:
                latest = seen
    return latest
