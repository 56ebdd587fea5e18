"""Latching: believing the source of received media (RFC 7362; ``endpoint-learning`` in ng, reference F.5).

A party's SDP names an endpoint, but behind a NAT its packets come from another one, and answers only reach it there.
So a transport listens for a while to whoever sends, and sends back to the best source seen so far:

* ``UNKNOWN``: the party has not spoken (no SDP yet). What arrives is passed on, nothing is learnt.
* ``LEARNING``: every offer or answer of the party opens a window. The destination is the best source seen in it, before
  that the one of the last window if the party did not move, else what SDP says.
* ``CONFIRMED``: fixed. By default other sources are now dropped and counted (an open relay port is an invitation to
  inject audio, "RTP bleed"); only signalling opens a new window.

The modes differ in what makes a source *decisive*: with ``immediate`` the first one, with ``heuristic`` one that equals
the signalled endpoint, with ``delayed`` none. After the window the first source decides in any mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from mediaproxy.datapath import PacketClass
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
    (Latch.CONFIRMED, LatchEvent.SOURCE): Latch.CONFIRMED,
    (Latch.CONFIRMED, LatchEvent.DECISIVE): Latch.CONFIRMED,  # with media-handover the destination follows
    (Latch.CONFIRMED, LatchEvent.WINDOW_ENDED): Latch.CONFIRMED,
}


class Rank(Enum):
    """How well a source fits the signalled endpoint, worst first."""

    ANY = 0
    SAME_PORT = 1
    SAME_ADDRESS = 2
    EXACT = 3


def rank_source(source: Endpoint, signalled: Endpoint | None) -> Rank:
    """Compare a source with what SDP said; ``ANY`` where SDP said nothing usable."""
    if signalled is None:
        return Rank.ANY
    if source == signalled:
        return Rank.EXACT
    if source.address == signalled.address:
        return Rank.SAME_ADDRESS
    return Rank.SAME_PORT if source.port == signalled.port else Rank.ANY


def is_evidence(packet_class: PacketClass, *, opaque: bool) -> bool:
    """Whether a packet says where a party is.

    One that is nothing we know does not, scanners send such things; but where media is opaque all is unknown.
    """
    return opaque or packet_class is not PacketClass.OTHER


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

    __slots__ = ("_mode", "_rank", "follow", "handover", "held", "learnt", "signalled", "state", "window_ends")

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

    @property
    def expected(self) -> Endpoint | None:
        """The source that is believed and need not be reported again."""
        return None if self.state is Latch.LEARNING and self._rank is None else self.learnt

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
            self.signalled = endpoint
            self.learnt = self._rank = None
        self.held = held
        self.follow = not asymmetric and mode is not EndpointLearning.OFF
        self.handover = handover
        self._mode = mode
        self._open_window(now)

    def reopen(self, now: float) -> None:
        """The other party spoke: listen anew.

        A window that opened with the offer is long over when a phone has rung for half a minute; whoever found the
        port meanwhile must not be taken for the party for good.
        """
        if self.state is not Latch.UNKNOWN:
            self._open_window(now)

    def _open_window(self, now: float) -> None:
        self.window_ends = now + WINDOW
        if self.state is Latch.CONFIRMED:
            self._rank = None  # the source of the last window has to show itself again
        self.state = TRANSITIONS[self.state, LatchEvent.SIGNALLED]

    def see(self, source: Endpoint, now: float) -> bool:
        """A packet that is evidence was reported; returns whether anything changed."""
        if self.state is Latch.UNKNOWN:
            return False
        if self.state is Latch.CONFIRMED:
            if not self.handover or source == self.learnt:
                return False
            self.learnt = source
            return True
        rank = rank_source(source, self.signalled)
        if self._is_decisive(rank, now):
            self.learnt = source
            self._rank = rank
            self.state = TRANSITIONS[self.state, LatchEvent.DECISIVE]
            return True
        if self._rank is not None and self._mode is not EndpointLearning.DELAYED and rank.value < self._rank.value:
            return False
        changed = source != self.learnt
        self.learnt = source
        self._rank = rank
        self.state = TRANSITIONS[self.state, LatchEvent.SOURCE]
        return changed

    def end_window(self, now: float) -> bool:
        """The timer fired; returns whether the latch was confirmed by it.

        It is not, before any source was ever seen. A party that kept silent in this window is still believed to be
        where it was in the last one: a stream on hold must not lie open to the first stranger.
        """
        if self.state is not Latch.LEARNING or now < self.window_ends or self.learnt is None:
            return False
        self.state = TRANSITIONS[self.state, LatchEvent.WINDOW_ENDED]
        return True

    def _is_decisive(self, rank: Rank, now: float) -> bool:
        if self._mode is EndpointLearning.IMMEDIATE or now >= self.window_ends:
            return True
        return self._mode is not EndpointLearning.DELAYED and rank is Rank.EXACT
