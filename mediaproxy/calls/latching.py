"""Latching: believing the source of received media (RFC 7362; ``endpoint-learning`` in ng, reference F.5).

A party's SDP names an endpoint, but behind a NAT its packets come from another one, and answers only reach it there.
So a transport listens for a while to whoever sends, and sends back to the best source seen so far:

* ``UNKNOWN``: the party has not spoken (no SDP yet). What arrives is passed on, nothing is learnt.
* ``LEARNING``: every offer or answer of the party opens a window. The destination is the best source seen in it, before
  that the one of the last window if the party did not move, else what SDP says.
* ``CONFIRMED``: fixed. By default other sources are now dropped and counted (an open relay port is an invitation to
  inject audio, "RTP bleed"); only signalling opens a new window.

The modes differ in what makes a source *decisive*: with ``immediate`` the first one, with ``heuristic`` one that equals
the signalled endpoint or the source confirmed before, with ``delayed`` none; ``off`` believes SDP alone. After the
window the first source of media decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from mediaproxy.net import Endpoint
from mediaproxy.ng.words import EndpointLearning

WINDOW: Final = 3.0
"""Seconds after the last signalling in which the destination may still move (rtpengine's value)."""


class Latch(Enum):
    """The states; see the head of this file."""

    UNKNOWN = "unknown"
    LEARNING = "learning"
    CONFIRMED = "confirmed"


class LatchEvent(Enum):
    """What can happen to a latch."""

    SIGNALLED = "signalled"
    """An offer or answer named the party's endpoint."""
    SOURCE = "source"
    """A packet came from a source that does not decide by itself."""
    DECISIVE = "decisive"
    """A packet came from a source that decides."""
    WINDOW_ENDED = "window ended"
    """The window is over and a source was seen in it."""


TRANSITIONS: Final[Mapping[tuple[Latch, LatchEvent], Latch]] = {
    (Latch.UNKNOWN, LatchEvent.SIGNALLED): Latch.LEARNING,
    (Latch.UNKNOWN, LatchEvent.SOURCE): Latch.UNKNOWN,  # nothing to compare it with, and nobody may claim the stream
    (Latch.UNKNOWN, LatchEvent.DECISIVE): Latch.UNKNOWN,
    (Latch.UNKNOWN, LatchEvent.WINDOW_ENDED): Latch.UNKNOWN,
    (Latch.LEARNING, LatchEvent.SIGNALLED): Latch.LEARNING,
    (Latch.LEARNING, LatchEvent.SOURCE): Latch.LEARNING,
    (Latch.LEARNING, LatchEvent.DECISIVE): Latch.CONFIRMED,
    (Latch.LEARNING, LatchEvent.WINDOW_ENDED): Latch.CONFIRMED,
    (Latch.CONFIRMED, LatchEvent.SIGNALLED): Latch.LEARNING,  # the party may have moved: listen again
    (Latch.CONFIRMED, LatchEvent.SOURCE): Latch.CONFIRMED,  # with media-handover the destination follows
    (Latch.CONFIRMED, LatchEvent.DECISIVE): Latch.CONFIRMED,  # the signalled endpoint beats a quicker stranger
    (Latch.CONFIRMED, LatchEvent.WINDOW_ENDED): Latch.CONFIRMED,
}


class Rank(Enum):
    """How well a source fits the signalled endpoint, worst first."""

    HINT = 0
    """Not media, only a sign of life (STUN, DTLS, ZRTP, a keep-alive): good enough to send to, not to lock on."""
    ANY = 1
    SAME_PORT = 2
    SAME_ADDRESS = 3
    EXACT = 4


def rank_source(source: Endpoint, signalled: Endpoint | None) -> Rank:
    """Compare a source of media with what SDP said; ``ANY`` where SDP said nothing usable."""
    if signalled is None:
        return Rank.ANY
    if source == signalled:
        return Rank.EXACT
    if source.address == signalled.address:
        return Rank.SAME_ADDRESS
    return Rank.SAME_PORT if source.port == signalled.port else Rank.ANY


class Latching:
    """The latch of one transport.

    Attributes:
        state: see the head of this file.
        signalled: the endpoint that the party's SDP gave; ``None`` if it gave none that can be sent to.
        learnt: the source believed now.
        held: the party asked for no media (0.0.0.0): its source is still learnt, but nothing is sent to it.
        follow: whether the destination moves to the learnt source (not with ``asymmetric`` or mode ``off``).
        handover: whether the destination follows a changed source after confirmation (``media-handover``).
        window_ends: monotonic seconds.
    """

    __slots__ = (
        "_former",
        "_left",
        "_mode",
        "_rank",
        "follow",
        "handover",
        "held",
        "learnt",
        "signalled",
        "state",
        "window_ends",
    )

    def __init__(self) -> None:
        self.state = Latch.UNKNOWN
        self.signalled: Endpoint | None = None
        self.learnt: Endpoint | None = None
        self.held = False
        self.follow = True
        self.handover = False
        self.window_ends = 0.0
        self._mode = EndpointLearning.HEURISTIC
        self._rank: Rank | None = None
        self._former: Endpoint | None = None  # confirmed in the last window, for the same signalled endpoint
        self._left: Endpoint | None = None  # where the party was before it signalled another endpoint

    @property
    def expected(self) -> Endpoint | None:
        """The source that is believed and need not be reported again."""
        if self.state is Latch.LEARNING and self._rank in {None, Rank.HINT}:
            return None
        return self.learnt

    @property
    def destination(self) -> Endpoint | None:
        """Where to send now."""
        if self.held:
            return None
        return self.learnt if self.follow and self.learnt is not None else self.signalled

    def signal(
        self,
        endpoint: Endpoint | None,
        *,
        held: bool,
        mode: EndpointLearning,
        asymmetric: bool,
        handover: bool,
        now: float,
    ) -> None:
        """An offer or answer of the party was processed: a new window opens.

        What was learnt before stays the destination if the party signals the same endpoint as before, so that a
        session refresh does not cut the audio of a phone behind a NAT; a new endpoint is believed at once.

        Args:
            endpoint: the party's, from its SDP; ``None`` if it is on hold or not known yet.
        """
        if endpoint is not None and endpoint != self.signalled:
            self._left = self.learnt
            self.signalled = endpoint
            self.learnt = self._rank = None
        self.held = held
        self.follow = not asymmetric and mode is not EndpointLearning.OFF
        self.handover = handover
        self._mode = mode
        self._open_window(now)
        if mode is EndpointLearning.OFF and not asymmetric and self.signalled is not None:
            self._believe(self.signalled, Rank.EXACT, LatchEvent.DECISIVE)

    def reopen(self, now: float) -> None:
        """The other party spoke: listen anew.

        A window that opened with the offer is long over when a phone has rung for half a minute; whoever found the
        port meanwhile must not be taken for the party for good.
        """
        if self.state is not Latch.UNKNOWN and self._mode is not EndpointLearning.OFF:
            self._open_window(now)

    def see(self, source: Endpoint, now: float, *, is_media: bool = True) -> bool:
        """A packet was reported; returns whether anything changed.

        Args:
            is_media: it is RTP, RTCP or, where media is opaque, anything.
        """
        if self.state is Latch.CONFIRMED:
            return self._hand_over(source)
        if self.state is Latch.UNKNOWN or (source == self._left and now < self.window_ends):
            # Nobody has spoken who could be meant; or a late packet from where the party no longer is.
            return False
        if not is_media:
            if self.learnt is not None and self._rank is not Rank.HINT:
                return False
            return self._believe(source, Rank.HINT, LatchEvent.SOURCE)
        rank = rank_source(source, self.signalled)
        if self._is_decisive(source, rank, now):
            self._believe(source, rank, LatchEvent.DECISIVE)
            return True
        if self._rank is not None and self._mode is not EndpointLearning.DELAYED and rank.value < self._rank.value:
            return False
        return self._believe(source, rank, LatchEvent.SOURCE)

    def refuse(self, source: Endpoint) -> bool:
        """A packet was dropped for its source; returns whether that source is believed from now on.

        It is if it is exactly the signalled endpoint while another one was learnt: whoever sends from there is the
        party, and somebody else was quicker.
        """
        if self.state is not Latch.CONFIRMED or source != self.signalled or self.learnt == source:
            return False
        self._believe(source, Rank.EXACT, LatchEvent.DECISIVE)
        return True

    def end_window(self, now: float) -> bool:
        """The timer fired; returns whether anything changed.

        The latch is confirmed, unless no source of media was ever seen. A party that kept silent in this window is
        still believed to be where it was in the last one: a stream on hold must not lie open to the first stranger.
        """
        if self.state is not Latch.LEARNING or now < self.window_ends:
            return False
        if self.learnt is None or self._rank is Rank.HINT:
            left, self._left = self._left, None
            return left is not None  # it may be heard there again, and be reported anew
        self.state = TRANSITIONS[self.state, LatchEvent.WINDOW_ENDED]
        return True

    def _open_window(self, now: float) -> None:
        self.window_ends = now + WINDOW
        if self.state is Latch.CONFIRMED:
            self._former = self.learnt
            self._rank = None  # the source of the last window has to show itself again
        self.state = TRANSITIONS[self.state, LatchEvent.SIGNALLED]

    def _believe(self, source: Endpoint, rank: Rank, event: LatchEvent) -> bool:
        before = self.learnt, self.expected
        self.learnt = source
        self._rank = rank
        self.state = TRANSITIONS[self.state, event]
        return before != (self.learnt, self.expected)

    def _hand_over(self, source: Endpoint) -> bool:
        return self.handover and self._believe(source, Rank.ANY, LatchEvent.SOURCE)

    def _is_decisive(self, source: Endpoint, rank: Rank, now: float) -> bool:
        if self._mode is EndpointLearning.IMMEDIATE or now >= self.window_ends:
            return True
        # Where the party was all the time before a session refresh it still is.
        return self._mode is not EndpointLearning.DELAYED and (rank is Rank.EXACT or source == self._former)
