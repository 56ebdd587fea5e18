"""What the core asks of the relay, and what the relay reports: values and one protocol.

A *transport* is one bound UDP socket facing one party. What arrives on it is told apart (RFC 7983) and sent on to
its *sinks*: other transports, each of which sends from its own socket to its own ``remote``. Offer/answer makes two
one-element lists; forks, subscriptions and taps are further sinks. The core decides, the relay obeys: it never
changes a ``TransportConfig`` by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NewType, Protocol

from mediaproxy.datapath.flow import FlowReason, Verdict
from mediaproxy.net import Endpoint

MAX_CLOCK_RATES: Final = 16
"""How many payload types' clocks a transport can be told; browsers list more for video, the first ones count."""

TransportHandle = NewType("TransportHandle", int)
"""Slot in the low 32 bits, generation in the high 32 bits: a handle is never valid again once closed."""


class PacketClass(IntEnum):
    """What a datagram is, by its first bytes (RFC 7983, RFC 5761 section 4; numbers are those of ``mpo_abi.h``)."""

    RTP = 0
    RTCP = 1
    STUN = 2
    DTLS = 3
    ZRTP = 4
    KEEPALIVE = 5
    """Too short to be any of the others (an empty datagram or CR LF, RFC 6263 section 4.1)."""
    OTHER = 6


class SourcePolicy(IntEnum):
    """Whose packets a transport accepts (numbers are those of ``mpo_abi.h``)."""

    CLOSED = 0
    """Nobody's: drop and count. The state of a transport that has just been opened."""
    OPEN = 1
    """Anybody's. A source other than ``expected`` and than the one reported last since the last configure is reported,
    unless the packet is ``PacketClass.OTHER`` on a transport that is not opaque (rate-limited in C)."""
    LOCKED = 2
    """Only ``expected``'s. Others are dropped and counted; one that was not the last reported since the last configure
    is reported (rate-limited in C)."""
    TRUSTING = 3
    """Anybody's, nothing is reported: rtpengine's behaviour after learning (``source-lock = rtpengine``)."""


@dataclass(frozen=True, slots=True)
class TransportConfig:
    """All that the relay knows of one transport; replaced as a whole, atomically for the packet path.

    Attributes:
        remote: where packets that leave by this transport go; ``None`` drops and counts them.
        expected: the accepted source under ``LOCKED``; under ``OPEN`` the source that needs no report.
        opaque: no demultiplexing: everything goes to ``rtp_sinks`` unchanged (T.38 UDPTL, BFCP).
        rtp_sinks: where RTP (and STUN, DTLS, ZRTP and keep-alives that nobody terminates) goes.
        rtcp_sinks: where RTCP goes; while it is empty nothing is told apart as RTCP: on a port without rtcp-mux,
            payload types 64 to 95 with the marker bit only look like it (RFC 5761, section 4).
        tos: the TOS / traffic class byte of what leaves by this transport; ``None`` leaves the socket's as it is.
        drop: discard all media that arrives, counted (``drop-traffic``, blocked media).
        clock_rates: at most ``MAX_CLOCK_RATES`` of (payload type, Hz) for the jitter of what arrives; static types are
            known without.
    """

    handle: TransportHandle
    policy: SourcePolicy
    remote: Endpoint | None = None
    expected: Endpoint | None = None
    opaque: bool = False
    rtp_sinks: tuple[TransportHandle, ...] = ()
    rtcp_sinks: tuple[TransportHandle, ...] = ()
    tos: int | None = None
    drop: bool = False
    clock_rates: tuple[tuple[int, int], ...] = ()


class SourceEventKind(IntEnum):
    """Numbers are those of ``mpo_abi.h``."""

    SEEN = 1
    """Under ``OPEN``: a packet from a source that was not the last one reported. The packet was forwarded."""
    REFUSED = 2
    """Under ``LOCKED``: a packet from another source, which was not the last one reported. It was dropped."""


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """A report of the relay; ``ssrc`` is 0 unless ``packet_class`` is RTP or RTCP."""

    kind: SourceEventKind
    handle: TransportHandle
    packet_class: PacketClass
    source: Endpoint
    ssrc: int


class DropReason(IntEnum):
    """Why a received packet was not forwarded (numbers are those of ``mpo_abi.h``)."""

    CLOSED = 0
    """The transport is not in use (no answer processed, call deleted)."""
    WRONG_SOURCE = 1
    """Another source than the learnt one (``SourcePolicy.LOCKED``)."""
    NO_SINK = 2
    """Nobody is to get this class of packet."""
    NO_DESTINATION = 3
    """The sink's remote endpoint is not known (not answered yet, or on hold with 0.0.0.0)."""
    BLOCKED = 4
    """``TransportConfig.drop``."""
    SEND_FAILED = 5
    """The kernel refused to send it (no route, buffer full), or it had gone round in a loop (TTL used up)."""
    TRUNCATED = 6
    """Larger than the relay's receive buffer."""


@dataclass(frozen=True, slots=True)
class SsrcCounters:
    """RTP reception statistics of one SSRC (RFC 3550, section 6.4 and appendices A.1, A.3, A.8).

    Attributes:
        ssrc: host order.
        extended_sequence: highest sequence number with cycles in the upper 16 bits.
        lost: expected less received (duplicates don't count as received), never below 0.
        jitter_ts: interarrival jitter in RTP timestamp units; 0.0 where the clock rate is not known.
    """

    ssrc: int
    packets: int
    bytes: int
    last_timestamp: int
    extended_sequence: int
    lost: int
    duplicates: int
    reordered: int
    jitter_ts: float
    payload_type: int


@dataclass(frozen=True, slots=True)
class StreamCounters:
    """One stream (the RTP or the RTCP of a transport): what was received and what was sent on it, by any path.

    ``bytes`` count UDP payload. ``errors`` are received packets that were dropped or could not be sent on.
    Times are on the monotonic clock, in seconds; ``None`` before the first packet.
    ``kernel_packets`` and ``kernel_bytes`` are the part of ``packets`` and ``bytes`` that the kernel forwarded by
    itself; ``last_kernel`` is when it last did, ``last_user`` when a packet last came by socket. ``kernel_ups`` is why
    packets came by socket though there was a flow (by ``FlowUp``), ``kernel_drops`` why the kernel dropped some (by
    ``FlowDrop``; part of ``errors``); both are empty where nothing ever was the kernel's.
    """

    packets: int
    bytes: int
    errors: int
    packets_out: int
    bytes_out: int
    last_user: float | None
    ssrcs: tuple[SsrcCounters, ...]
    kernel_packets: int = 0
    kernel_bytes: int = 0
    last_kernel: float | None = None
    kernel_ups: tuple[int, ...] = ()
    kernel_drops: tuple[int, ...] = ()

    @property
    def last_seen(self) -> float | None:
        """When a packet last arrived, by any path."""
        seen = [time for time in (self.last_user, self.last_kernel) if time is not None]
        return max(seen, default=None)


@dataclass(frozen=True, slots=True)
class TransportCounters:
    """Both streams of a transport (RTCP is separate also when muxed) and its drops, indexed by ``DropReason``."""

    rtp: StreamCounters
    rtcp: StreamCounters
    drops: tuple[int, ...]
    reports: int
    """How many source events this transport has put into the ring: what Python was told of it."""


@dataclass(frozen=True, slots=True)
class RelayTotals:
    """All that the relay has received since it started, whatever became of the transports: never goes back.

    ``errors`` are dropped packets, which ``packets`` and ``bytes`` (UDP payload) don't count. ``reports`` are source
    events given to the core, ``reports_suppressed`` those that a transport's rate limit held back, ``reports_lost``
    those that found the ring full. The ``kernel_`` ones are the part that the kernel forwarded or dropped by itself.
    """

    packets: int
    bytes: int
    errors: int
    reports: int = 0
    reports_suppressed: int = 0
    reports_lost: int = 0
    kernel_packets: int = 0
    kernel_bytes: int = 0
    kernel_errors: int = 0


@dataclass(frozen=True, slots=True)
class KernelReport:
    """How the kernel path does.

    Attributes:
        backend: its name; ``userspace`` where there is none.
        flows: in the kernel now.
        installations: how many were ever put there.
        reasons: how many open transports have no flow, by reason.
        refusals: how many times a flow was refused or taken back, by reason.
        orphans: flows that a dead daemon left, which go on.
        rejected: backends that were tried and do not work here, with the reason.
        failure: why the kernel path was given up; empty while it works.
    """

    backend: str = "userspace"
    flows: int = 0
    installations: int = 0
    reasons: Mapping[FlowReason, int] = field(default_factory=dict)
    refusals: Mapping[FlowReason, int] = field(default_factory=dict)
    orphans: int = 0
    rejected: tuple[tuple[str, str], ...] = ()
    failure: str = ""


class Relay(Protocol):
    """What the core needs from outside to move media. Each call is quick and never blocks on the network."""

    def open_pair(self, address: str, port: int, group: int) -> tuple[TransportHandle, TransportHandle]:
        """Bind UDP sockets to ``port`` (RTP) and ``port + 1`` (RTCP) of a local address, both ``CLOSED``.

        Args:
            address: canonical local address.
            port: even, host order.
            group: transports of one group are served by one worker thread: give the transports of a call the same.
        Raises:
            PortBusyError: one of the two is in use; nothing stays open.
            RelayError: no descriptor, no slot, no such address; the text says which. Nothing stays open.
        """
        ...

    def close(self, handles: Sequence[TransportHandle]) -> None:
        """Close transports. Unknown and already closed handles are ignored."""
        ...

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        """Replace the configuration of open transports; closed handles are ignored."""
        ...

    def counters(self, handle: TransportHandle) -> TransportCounters:
        """Read from shared memory, no system call. A closed handle yields its last values while its slot is free."""
        ...

    def last_seen(self, handle: TransportHandle) -> float | None:
        """When the last accepted packet (RTP, RTCP or opaque) arrived, monotonic seconds; ``None`` before the first."""
        ...

    def totals(self) -> RelayTotals:
        """Sums over all transports, open and closed; no system call."""
        ...

    def path(self, handle: TransportHandle, /) -> Verdict | None:
        """Why the RTP of a transport is not forwarded by the kernel; ``None`` if it is."""
        ...

    def kernel(self) -> KernelReport:
        """How the kernel path does."""
        ...
