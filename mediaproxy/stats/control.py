"""What the control listeners have seen: requests by peer and command, and datagrams that were no requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

MAX_PEERS: Final = 256
"""Peers that are counted by address; more are counted together, so that nobody can make the table grow."""

OTHER_PEERS: Final = "other"


class DropReason(Enum):
    """Why a datagram on a control port was not answered; the value is the name in logs and statistics."""

    NOT_NG = "not ng"
    """No cookie to answer to."""
    NOT_ALLOWED = "peer not allowed"
    """Its sender is not in the access list."""
    SEND_FAILED = "reply not sent"
    """The kernel refused the reply."""


@dataclass(slots=True)
class CommandCounters:
    """One command: how often it came and how long it took in all (seconds)."""

    count: int = 0
    errors: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class PeerCounters:
    """One peer: its commands by name, and error replies to it."""

    commands: dict[str, CommandCounters] = field(default_factory=dict)
    errors: int = 0


@dataclass(slots=True)
class ControlCounters:
    """Filled by the listeners, read by ``statistics``.

    Attributes:
        peers: by IP address; beyond ``MAX_PEERS`` under ``OTHER_PEERS``.
        retransmissions: requests answered from the cache.
        internal_errors: requests that ended in a bug of ours.
        oversized_replies: replies too large for their transport.
    """

    peers: dict[str, PeerCounters] = field(default_factory=dict)
    dropped: dict[DropReason, int] = field(default_factory=lambda: dict.fromkeys(DropReason, 0))
    retransmissions: int = 0
    internal_errors: int = 0
    oversized_replies: int = 0

    def count(self, peer: str, command: str, seconds: float, *, error: bool) -> None:
        """Count one executed request.

        Args:
            command: one that exists, or a fixed word for all that don't: names come from the network.
        """
        counters = self.peers.get(peer)
        if counters is None:
            if len(self.peers) >= MAX_PEERS:
                peer = OTHER_PEERS
            counters = self.peers.setdefault(peer, PeerCounters())
        of_command = counters.commands.setdefault(command, CommandCounters())
        of_command.count += 1
        of_command.seconds += seconds
        if error:
            of_command.errors += 1
            counters.errors += 1
