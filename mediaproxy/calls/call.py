"""A call, its monologues, and the dialogues between them.

Media and transports belong to a party *as seen by one peer*: a caller whose INVITE was forked faces each callee with
ports of its own. So a ``Dialogue`` joins two parties, each of which is a monologue together with the media that it uses
towards the other. All dialogues of a call stay live and forward until they are deleted, so that early media of
each branch reaches the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mediaproxy.calls.media import Media
from mediaproxy.datapath import StreamCounters
from mediaproxy.net import AddressFamily
from mediaproxy.sdp.plan import Origin

MAX_ALIASES: Final = 32
"""Tags that one monologue has had before; more are forgotten, the oldest first."""

MAX_DIALOGUES: Final = 64
"""Dialogues of one call: more than any forking reaches, and a peer can't make a call grow beyond it."""


class Monologue:
    """One party's half of its dialogues.

    Attributes:
        tag: its SIP tag; ``None`` until an answer names it.
        via_branch: how it is found before it has a tag.
        aliases: earlier tags of the same party.
        created: unix seconds.
    """

    __slots__ = ("aliases", "created", "label", "tag", "via_branch")

    def __init__(self, tag: str | None, via_branch: str | None, created: float) -> None:
        self.tag = tag
        self.via_branch = via_branch
        self.aliases: list[str] = []
        self.label: str | None = None
        self.created = created

    def change_tag(self, tag: str) -> None:
        """Take a new tag; the old ones stay known as aliases, the latest ``MAX_ALIASES`` of them."""
        if self.tag is not None and self.tag != tag:
            self.aliases.append(self.tag)
        if tag in self.aliases:
            self.aliases.remove(tag)
        del self.aliases[:-MAX_ALIASES]
        self.tag = tag


class SdpHistory:
    """What the ``replace`` words must remember of the SDP shown to one party (reference C.3).

    Attributes:
        origin: the first o= line shown.
        session_name: the first s= shown.
        version: the o= version shown last.
        body: the SDP shown last, with its version, to see whether the next one differs.
    """

    __slots__ = ("body", "origin", "session_name", "version")

    def __init__(self) -> None:
        self.origin: Origin | None = None
        self.session_name: str | None = None
        self.version: int | None = None
        self.body: bytes | None = None


class Party:
    """One party of a dialogue: the monologue, and its media as the other party sees them.

    Attributes:
        interface_name: the logical interface facing this party; ``None`` is the default one.
        family: the address family towards this party; ``None`` until it is known.
        family_given: the family was asked for by ``address-family``, so the party's own SDP no longer sets it.
        profile: the RTP profile that ``transport-protocol`` asked for towards this party.
        history: of the SDP that this party was shown; made when a ``replace`` word first needs it.
    """

    __slots__ = ("family", "family_given", "history", "interface_name", "medias", "monologue", "profile")

    def __init__(self, monologue: Monologue) -> None:
        self.monologue = monologue
        self.interface_name: str | None = None
        self.family: AddressFamily | None = None
        self.family_given = False
        self.profile: str | None = None
        self.medias: list[Media] = []
        self.history: SdpHistory | None = None


class Dialogue:
    """Two parties that exchange media.

    Attributes:
        first: the party that made the first offer.
        answered: an answer was processed.
        final: the answer is known to be final (a SIP status of 200 or above came with it).
        release_at: when the ports of a deleted one are given back (monotonic seconds); ``None`` while it lives.
    """

    __slots__ = ("answered", "final", "first", "release_at", "second")

    def __init__(self, first: Party, second: Party) -> None:
        self.first = first
        self.second = second
        self.answered = False
        self.final = False
        self.release_at: float | None = None

    def parties_from(self, monologue: Monologue) -> tuple[Party, Party]:
        """Both parties, the given monologue's first; it must be one of the two."""
        return (self.first, self.second) if self.first.monologue is monologue else (self.second, self.first)

    def joins(self, monologue: Monologue) -> bool:
        return monologue is self.first.monologue or monologue is self.second.monologue

    def medias(self) -> Iterator[Media]:
        yield from self.first.medias
        yield from self.second.medias


class ClosedStreams:
    """Sums of the streams whose transports are gone, so that a call's totals never go back."""

    __slots__ = ("bytes", "errors", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0
        self.errors = 0

    def add(self, counters: StreamCounters | ClosedStreams) -> None:
        self.packets += counters.packets
        self.bytes += counters.bytes
        self.errors += counters.errors


class Call:
    """All that goes on under one call-id.

    Attributes:
        group: which relay worker serves it.
        created, last_signal: monotonic seconds of the first and of the last offer or answer.
        created_wall: unix seconds of the first offer.
        tos: of relayed packets; ``None`` leaves them as the sockets are.
        wake_at: when the call next wants to be looked at; ``None`` once it is closed.
    """

    __slots__ = (
        "call_id",
        "closed_rtcp",
        "closed_rtp",
        "created",
        "created_wall",
        "dialogues",
        "group",
        "last_signal",
        "metadata",
        "monologues",
        "tos",
        "wake_at",
    )

    def __init__(self, call_id: str, group: int, now: float, wall: float) -> None:
        self.call_id = call_id
        self.group = group
        self.created = now
        self.created_wall = wall
        self.last_signal = now
        self.tos: int | None = None
        self.metadata: str | None = None
        self.monologues: list[Monologue] = []
        self.dialogues: list[Dialogue] = []
        self.wake_at: float | None = None
        self.closed_rtp = ClosedStreams()
        self.closed_rtcp = ClosedStreams()

    def find(self, tag: str) -> Monologue | None:
        """The monologue with this tag; a present one counts before a former one."""
        former = None
        for monologue in self.monologues:
            if monologue.tag == tag:
                return monologue
            if former is None and tag in monologue.aliases:
                former = monologue
        return former

    def dialogues_of(self, monologue: Monologue) -> Iterator[Dialogue]:
        """Its dialogues, the latest first."""
        return (dialogue for dialogue in reversed(self.dialogues) if dialogue.joins(monologue))

    def dialogue_between(self, one: Monologue, other: Monologue) -> Dialogue | None:
        for dialogue in self.dialogues_of(one):
            if dialogue.joins(other) and one is not other:
                return dialogue
        return None

    def drop_idle_monologues(self) -> None:
        """Forget parties that no dialogue joins any more."""
        self.monologues = [one for one in self.monologues if any(dialogue.joins(one) for dialogue in self.dialogues)]

    def medias(self) -> Iterator[Media]:
        for dialogue in self.dialogues:
            yield from dialogue.medias()
