"""What came in on the control listeners: the counters that they fill, and that ``statistics`` and the metrics read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

COMMAND_LABELS: Final = {
    "ping": "ping",
    "offer": "offer",
    "answer": "answer",
    "delete": "delete",
    "query": "query",
    "list": "list",
    "start recording": "startrec",
    "stop recording": "stoprec",
    "pause recording": "pauserec",
    "start forwarding": "startfwd",
    "stop forwarding": "stopfwd",
    "block DTMF": "blkdtmf",
    "unblock DTMF": "unblkdtmf",
    "block media": "blkmedia",
    "unblock media": "unblkmedia",
    "play media": "playmedia",
    "stop media": "stopmedia",
    "play DTMF": "playdtmf",
    "statistics": "stats",
    "silence media": "slnmedia",
    "unsilence media": "unslnmedia",
    "publish": "pub",
    "subscribe request": "subreq",
    "subscribe answer": "subans",
    "unsubscribe": "unsub",
    "inject start": "injstart",
    "inject stop": "injstop",
    "connect": "conn",
    "cli": "cli",
    "transform": "trnsfm",
    "create": "create",
    "create answer": "crtansw",
    "mesh": "mesh",
}
"""Command to its label in ``controlstatistics``, in that order (reference B.7)."""

OTHER_COMMANDS: Final = ""
"""Requests without a readable command, or with one that no ng server knows, are counted under this name."""

OTHER_PEERS: Final = "other"
"""Whatever peers beyond ``MAX_PEERS`` do is counted under this name."""

MAX_PEERS: Final = 1024


class Drop(Enum):
    """Why a datagram got no answer; the value is its name in metrics."""

    NO_COOKIE = "no cookie"
    NOT_ALLOWED = "not allowed"
    UNSENDABLE = "reply could not be sent"


@dataclass(slots=True)
class CommandCounter:
    """One command of one peer: how often, how often in vain, and how long it took in all."""

    count: int = 0
    errors: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class PeerCounter:
    """One client, by its IP address."""

    commands: dict[str, CommandCounter] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        return sum(counter.errors for counter in self.commands.values())


@dataclass(slots=True)
class ControlCounters:
    """All counters of the control listeners.

    Attributes:
        peers: by IP address; at most ``MAX_PEERS`` of them and ``OTHER_PEERS``.
        drops: datagrams that got no answer.
        retransmissions: requests that were answered from the reply cache; they are not in ``peers``.
        internal_errors: requests that ended in a bug of ours.
        oversized: replies too large for UDP.
        evicted_replies: replies that left the cache before their time.
    """

    peers: dict[str, PeerCounter] = field(default_factory=dict)
    drops: dict[Drop, int] = field(default_factory=lambda: dict.fromkeys(Drop, 0))
    retransmissions: int = 0
    internal_errors: int = 0
    oversized: int = 0
    evicted_replies: int = 0

    def add_request(self, peer: str, command: str, seconds: float, *, failed: bool) -> None:
        """Count one executed request.

        Args:
            peer: IP address of the client.
            command: as it came; names that no ng server knows are counted together.
            seconds: from the datagram to the encoded reply.
        """
        of_peer = self.peers.get(peer)
        if of_peer is None:
            of_peer = self.peers.setdefault(peer if len(self.peers) < MAX_PEERS else OTHER_PEERS, PeerCounter())
        counter = of_peer.commands.get(command)
        if counter is None:
            name = command if command in COMMAND_LABELS else OTHER_COMMANDS
            counter = of_peer.commands.setdefault(name, CommandCounter())
        counter.count += 1
        counter.seconds += seconds
        if failed:
            counter.errors += 1

    def totals(self) -> dict[str, CommandCounter]:
        """The sums over all peers, by command."""
        sums: dict[str, CommandCounter] = {}
        for peer in self.peers.values():
            for command, counter in peer.commands.items():
                total = sums.setdefault(command, CommandCounter())
                total.count += counter.count
                total.errors += counter.errors
                total.seconds += counter.seconds
        return sums
