"""What the core asks of a kernel path: one protocol, and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NewType, Protocol

from mediaproxy.datapath.flow import Capabilities, FlowReason, InstalledFlow, Slot
from mediaproxy.datapath.relay import SsrcCounters

RtpState = NewType("RtpState", bytes)
"""``struct mpo_rtp_state``: sequence, loss and jitter of up to four SSRCs, to be handed from path to path; opaque."""


class FlowDrop(IntEnum):
    """Why the kernel dropped a packet of a flow (numbers are those of ``mpo_abi.h``)."""

    WRONG_SOURCE = 0
    BLOCKED = 1
    TTL = 2
    FAILED = 3


class FlowUp(IntEnum):
    """Why a packet went up to the socket although its port has a flow (numbers are those of ``mpo_abi.h``)."""

    NOT_RTP = 0
    RTCP = 1
    SOURCE = 2
    OPTIONS = 3
    FRAGMENT = 4
    MTU = 5
    LOCAL = 6
    FAILED = 7


@dataclass(frozen=True, slots=True)
class FlowCounters:
    """What a flow has counted; ``bytes`` are UDP payload, ``last_seen`` is monotonic seconds.

    Attributes:
        drops: by ``FlowDrop``.
        ups: by ``FlowUp``.
        rtp: where the backend has no RTP statistics: what was seeded, and that the kernel went on from there by an
            unknown number of packets, so that the sockets take none of them for lost when they resume.
    """

    packets: int
    bytes: int
    last_seen: float | None
    drops: tuple[int, ...]
    ups: tuple[int, ...]
    rtp: RtpState


@dataclass(frozen=True, slots=True)
class FlowTotals:
    """Sums over all flows whose slots are in the statistics now. ``errors`` are drops."""

    packets: int = 0
    bytes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A flow that was not installed; ``errno`` is 0 where the reason says all."""

    flow: InstalledFlow
    reason: FlowReason
    errno: int = 0


class DatapathEventKind(Enum):
    LOST = "kernel path lost"
    """Hooks or tables vanished; whether flows vanished with them says ``flows_gone``."""
    RESTORED = "kernel path restored"
    """Hooks and tables are back; flows that were gone have to be set again."""
    NOTE = "kernel path"
    """Something else that an operator wants to know: a new interface, a hook that could not be attached."""
    TAKEN_OUT = "flows were taken out of the kernel"
    """Their way out has vanished; ``flows`` names them. Whoever has set them removes them: until then they may be put
    back."""
    WAYS_BACK = "ways out are back"
    """Flows that had no way out may have one again; they have to be set."""


@dataclass(frozen=True, slots=True)
class DatapathEvent:
    """What happened to the kernel path that nobody here asked for; ``text`` names it in one line."""

    kind: DatapathEventKind
    text: str
    flows_gone: bool = False
    flows: tuple[Refusal, ...] = ()


class Datapath(Protocol):
    """A kernel path that flows can be given to. Nothing blocks for longer than a few milliseconds.

    Raises of all methods: ``OffloadError`` when the kernel path as a whole no longer answers; it is of no use after.
    """

    @property
    def name(self) -> str:
        """``tc``, ``nft``, ``iptables`` or ``xdp``."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def slots(self) -> int:
        """How many slots the statistics have: indices 0 to ``slots`` - 1."""
        ...

    def apply(self, sets: Sequence[InstalledFlow], removals: Sequence[InstalledFlow]) -> list[Refusal]:
        """Remove flows, then set others, each replaced as a whole; a replaced flow goes on in the slot that is named.

        A removal of what is not there is no error. Returns the flows that could not be set: they are not installed,
        and what stood at their key before is removed.
        """
        ...

    def installed(self) -> list[InstalledFlow]:
        """All flows that are in the kernel now, also those of a daemon that died."""
        ...

    def clear(self, kept: Sequence[InstalledFlow]) -> None:
        """Forget what all slots have counted but those of these flows; to be called before any is seeded."""
        ...

    def seed(self, slot: Slot, state: RtpState | None) -> None:
        """Clear the statistics of a slot for a new flow, which goes on counting where ``state`` has come to.

        What it counts then are its own packets; only sequence numbers, windows and jitter go on.
        """
        ...

    def read(self, slot: Slot) -> FlowCounters:
        """Read from shared memory. All zero when the slot belongs to another generation."""
        ...

    def last_seen(self, slot: Slot) -> float | None:
        """When the flow forwarded its last packet, monotonic seconds. Quick."""
        ...

    def totals(self) -> FlowTotals:
        """Sums over all slots as they stand, flows removed since included. Quick."""
        ...

    @property
    def has_events(self) -> bool:
        """Whether ``take_events`` has something already, come in during another call."""
        ...

    def take_events(self) -> list[DatapathEvent]:
        """What happened since the last call."""
        ...


class RtpStates(Protocol):
    """The relay's side of ``RtpState``: what the sockets have counted, and sums over paths.

    A stream is handed to the kernel by ``Datapath.seed`` with the sum of all its states, then ``apply``. On the way
    back the sockets are told (``resume_rtp``) before the flow is removed, so that they take nothing for a restart, and
    once more after that. The state of a slot that is given up is kept: it counts in the sum. While packets go up beside
    a flow (MTU, IP options), the sockets want to be told again before the kernel has forwarded 3000 more.
    """

    def rtp_state(self, handle: int) -> RtpState:
        """What the sockets of a transport have counted so far; of no SSRC if the handle is closed."""
        ...

    def resume_rtp(self, handle: int, state: RtpState) -> None:
        """Tell the sockets of a transport where another path has come to; packets and bytes are not taken over."""
        ...

    def merge_rtp(self, states: Sequence[RtpState]) -> RtpState:
        """One state for several paths of one transport: each packet was counted by exactly one of them."""
        ...

    def ssrc_counters(self, state: RtpState) -> tuple[SsrcCounters, ...]:
        """What a state says, most recently heard first."""
        ...
