"""Flows: what the kernel is to forward by itself, what it can, and why it does not.

A *flow* is a key (the relay endpoint where packets arrive) and a forward (from which of our endpoints to which remote
one they leave). It is derived from the ``TransportConfig`` of the transport that receives and of its one sink; whatever
one kernel entry cannot express stays with the sockets, for a reason that has a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mediaproxy.net import Endpoint

MAX_FLOW_CLOCK_RATES: Final = 8
"""How many payload types' clocks a flow can be told."""


class FlowReason(Enum):
    """Why the RTP of a transport does not take the kernel path; the values are what people read."""

    NO_BACKEND = "no kernel path on this host"
    CLOSED = "not in use"
    NOT_LEARNT = "source not learnt yet"
    NO_SINK = "nobody to send to"
    NO_DESTINATION = "destination not known, or on hold"
    SEVERAL_SINKS = "several sinks"
    RTCP = "RTCP"
    NEEDS_SRTP = "needs SRTP"
    NEEDS_FAMILY_CHANGE = "needs a change of IP family"
    NEEDS_ANY_SOURCE = "takes any source"
    NEEDS_TAP = "tapped, and the backend has no tap"
    OPAQUE = "not RTP"
    LOCAL_PEER = "the destination is on this host"
    NO_ROUTE = "no route to the destination"
    NOT_ATTACHED = "the relay address is on an interface that the kernel path does not watch"
    MAP_FULL = "kernel map full"
    REFUSED = "the kernel refused"
    MOVED_NOTHING = "installed, but the kernel moved no packet"
    LOST = "the kernel path was removed by somebody else"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a transport's RTP stays with the sockets; ``detail`` says more where there is more (an errno)."""

    reason: FlowReason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


@dataclass(frozen=True, slots=True)
class Flow:
    """What arrives at ``local`` from ``source`` leaves from ``sender`` to ``target``.

    Attributes:
        local: the key: one of our endpoints.
        source: whose packets are forwarded; ``None`` for anybody's.
        strict: others' packets are dropped and counted, but for a few that go up to be reported; else all go up.
        sender: another one of our endpoints.
        tos: TOS or traffic class byte of what leaves.
        opaque: not RTP: everything from the source is forwarded, not only RTP.
        clock_rates: at most ``MAX_FLOW_CLOCK_RATES`` of (payload type, Hz); see ``TransportConfig``.
        tap: copy what is forwarded to user space.
        drop: discard what the source sends, counted.
    """

    local: Endpoint
    source: Endpoint | None
    sender: Endpoint
    target: Endpoint
    strict: bool = True
    tos: int = 0
    opaque: bool = False
    clock_rates: tuple[tuple[int, int], ...] = ()
    tap: bool = False
    drop: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a flow counts: a place in the statistics and the generation that tells its users apart."""

    index: int
    generation: int


@dataclass(frozen=True, slots=True)
class InstalledFlow:
    """A flow with the slot it counts in."""

    flow: Flow
    slot: Slot


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do for a flow.

    Attributes:
        rtp_statistics: sequence, loss and jitter; else only packets and bytes.
        strict_source: strangers are dropped in the kernel; else they go up, and the relay drops them.
        max_flows: ``None`` for as many as there are slots.
    """

    family_change: bool = False
    rtp_statistics: bool = False
    any_source: bool = False
    strict_source: bool = False
    opaque: bool = False
    tap: bool = False
    max_flows: int | None = None
