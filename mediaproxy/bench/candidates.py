"""What is measured: anything that can be given calls and then carries their media."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow


class OpenCandidate(Protocol):
    """A candidate with its calls up.

    Attributes:
        calls: how many there are; fewer than asked for where a limit ended them, which ``notes`` say.
        flows: their media, two a call.
        setup_per_s: flows a second that were set up; ``None`` where that was not measured.
    """

    calls: int
    flows: Sequence[MediaFlow]
    notes: Sequence[str]
    setup_per_s: float | None

    def cpu_ns(self) -> int:
        """Exact CPU time so far of all that works for the relay, the receive path included, in nanoseconds."""
        ...

    def own_cpu_ns(self) -> int:
        """The part of it that is not the kernel threads which receive."""
        ...


class Candidate(Protocol):
    """One way to relay, in the relay's namespace of a lab.

    Attributes:
        bears_overload: what is too much is lost before it costs anything, so it can be measured flat out. What has
            sockets starves behind its own receive path then.
    """

    name: str
    lab: Lab
    bears_overload: bool

    def open(self, calls: int) -> AbstractContextManager[OpenCandidate]:
        """Set up so many calls; all is gone afterwards.

        Raises:
            BenchError: it can't be had here, or cannot hold that many calls; in words for the table.
        """
        ...
