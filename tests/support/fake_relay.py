"""A relay that binds nothing: it remembers what it was asked for and counts what a test says arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mediaproxy.datapath import (
    FlowReason,
    KernelReport,
    RelayTotals,
    SsrcCounters,
    StreamCounters,
    TransportConfig,
    TransportCounters,
    TransportHandle,
    Verdict,
)
from mediaproxy.datapath.kernel import RtpState
from mediaproxy.errors import PortBusyError, RelayError

NOTHING = StreamCounters(0, 0, 0, 0, 0, None, ())


@dataclass
class FakeTransport:
    address: str
    port: int
    config: TransportConfig | None = None
    rtp: StreamCounters = NOTHING
    rtcp: StreamCounters = NOTHING
    closed: bool = False


@dataclass
class FakeRelay:
    """Attributes:
    busy: (address, even port) pairs that somebody else has bound.
    capacity: open transports at most.
    """

    busy: set[tuple[str, int]] = field(default_factory=set)
    capacity: int = 1_000_000
    resumed: list[tuple[TransportHandle, RtpState]] = field(default_factory=list)
    verdicts: dict[TransportHandle, Verdict | None] = field(default_factory=dict)
    kernel_report: KernelReport = field(default_factory=KernelReport)
    transports: dict[TransportHandle, FakeTransport] = field(default_factory=dict)
    _bound: dict[tuple[str, int], TransportHandle] = field(default_factory=dict)

    @property
    def open(self) -> list[FakeTransport]:
        return [self.transports[handle] for handle in self._bound.values()]

    @property
    def open_handles(self) -> list[TransportHandle]:
        return list(self._bound.values())

    def open_pair(self, address: str, port: int, group: int) -> tuple[TransportHandle, TransportHandle]:
        if (address, port) in self.busy or (address, port) in self._bound:
            raise PortBusyError(f"{address}:{port} is in use")
        if len(self._bound) + 2 > self.capacity:
            raise RelayError("out of descriptors")
        handles = []
        for number in (port, port + 1):
            handle = TransportHandle(len(self.transports) + 1)
            self.transports[handle] = FakeTransport(address, number)
            self._bound[address, number] = handle
            handles.append(handle)
        return handles[0], handles[1]

    def close(self, handles: Sequence[TransportHandle]) -> None:
        for handle in handles:
            transport = self.transports[handle]
            assert not transport.closed, "closed twice"
            transport.closed = True
            del self._bound[transport.address, transport.port]

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        for config in configs:
            self.transports[config.handle].config = config

    def counters(self, handle: TransportHandle) -> TransportCounters:
        transport = self.transports[handle]
        return TransportCounters(transport.rtp, transport.rtcp, (0,) * 7, 0)

    def last_seen(self, handle: TransportHandle) -> float | None:
        transport = self.transports[handle]
        seen = [one.last_seen for one in (transport.rtp, transport.rtcp) if one.last_seen is not None]
        return max(seen, default=None)

    def totals(self) -> RelayTotals:
        streams = [stream for one in self.transports.values() for stream in (one.rtp, one.rtcp)]
        return RelayTotals(
            sum(one.packets for one in streams), sum(one.bytes for one in streams), sum(one.errors for one in streams)
        )

    # datapath.kernel.RtpStates: a state is how many packets of SSRC 0x1234 a path has counted, in digits.

    def rtp_state(self, handle: int) -> RtpState:
        return RtpState(str(self.transports[TransportHandle(handle)].rtp.packets).encode())

    def resume_rtp(self, handle: int, state: RtpState) -> None:
        self.resumed.append((TransportHandle(handle), state))

    def merge_rtp(self, states: Sequence[RtpState]) -> RtpState:
        return RtpState(str(sum(map(int, states))).encode())

    def ssrc_counters(self, state: RtpState) -> tuple[SsrcCounters, ...]:
        packets = int(state)
        return (SsrcCounters(0x1234, packets, packets * 172, 160 * packets, packets, 0, 0, 0, 0.0, 0),)

    def path(self, handle: TransportHandle) -> Verdict | None:
        return self.verdicts.get(handle, Verdict(FlowReason.NO_BACKEND))

    def kernel(self) -> KernelReport:
        return self.kernel_report

    def find(self, address: str, port: int) -> TransportHandle | None:
        """The open transport on a local address and port, if there is one."""
        return self._bound.get((address, port))

    def handle_at(self, address: str, port: int) -> TransportHandle:
        """The open transport on a local address and port.

        Raises:
            KeyError: there is none.
        """
        return self._bound[address, port]

    def receive(self, address: str, port: int, packets: int, last_seen: float, ssrc: int = 0x1234) -> None:
        """Let RTP arrive: G.711 of 20 ms."""
        transport = self.transports[self.handle_at(address, port)]
        one = SsrcCounters(ssrc, packets, packets * 172, 160 * packets, packets, 0, 0, 0, 0.0, 0)
        transport.rtp = StreamCounters(packets, packets * 172, 0, 0, 0, last_seen, (one,))
