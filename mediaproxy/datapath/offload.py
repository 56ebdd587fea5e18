"""A relay whose RTP the kernel forwards where it can: the relay of sockets with a kernel path beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mediaproxy.datapath.carried import Carried
from mediaproxy.datapath.flow import InstalledFlow, Verdict
from mediaproxy.datapath.kernel import DatapathEvent, FlowDrop
from mediaproxy.datapath.kernel_path import KernelPath, PathChange, SocketRelay
from mediaproxy.datapath.relay import (
    DropReason,
    KernelReport,
    RelayTotals,
    StreamCounters,
    TransportConfig,
    TransportCounters,
    TransportHandle,
)
from mediaproxy.net import Endpoint

_DROPS: Final = {
    FlowDrop.WRONG_SOURCE: DropReason.WRONG_SOURCE,
    FlowDrop.BLOCKED: DropReason.BLOCKED,
    FlowDrop.TTL: DropReason.SEND_FAILED,
    FlowDrop.FAILED: DropReason.SEND_FAILED,
}


class OffloadingRelay:
    """``datapath.Relay`` over both paths; what it reports is the sum of them."""

    def __init__(
        self, sockets: SocketRelay, kernel: KernelPath, backend: str, rejected: tuple[tuple[str, str], ...]
    ) -> None:
        """Args:
        backend: name of the kernel path.
        rejected: backends that were tried before, with the reasons.
        """
        self._sockets = sockets
        self._kernel = kernel
        self._backend = backend
        self._rejected = rejected

    # -- beyond the contract, for the loop ----------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """See ``KernelPath.settle``."""
        self._kernel.settle(now)

    def take_back_all(self) -> None:
        """See ``KernelPath.take_back_all``."""
        self._kernel.take_back_all()

    def next_deadline(self) -> float | None:
        """See ``KernelPath.next_deadline``."""
        return self._kernel.next_deadline()

    def take_changes(self) -> list[PathChange]:
        """See ``KernelPath.take_changes``."""
        return self._kernel.take_changes()

    @property
    def has_events(self) -> bool:
        """See ``KernelPath.has_events``."""
        return self._kernel.has_events

    def take_datapath_events(self) -> list[DatapathEvent]:
        """See ``KernelPath.take_datapath_events``."""
        return self._kernel.take_datapath_events()

    @property
    def orphans(self) -> tuple[InstalledFlow, ...]:
        """See ``KernelPath.orphans``."""
        return self._kernel.orphans

    def orphan_last_seen(self, orphan: InstalledFlow) -> float | None:
        """See ``KernelPath.orphan_last_seen``."""
        return self._kernel.orphan_last_seen(orphan)

    def remove_orphans(self, orphans: Sequence[InstalledFlow]) -> None:
        """See ``KernelPath.remove_orphans``."""
        self._kernel.remove_orphans(orphans)

    # -- datapath.Relay -----------------------------------------------------------------------------------------------

    def open_pair(self, address: str, port: int, group: int) -> tuple[TransportHandle, TransportHandle]:
        """See ``datapath.Relay``."""
        rtp, rtcp = self._sockets.open_pair(address, port, group)
        self._kernel.open(rtp, Endpoint(address, port))
        self._kernel.open(rtcp, Endpoint(address, port + 1))
        return rtp, rtcp

    def close(self, handles: Sequence[TransportHandle]) -> None:
        """See ``datapath.Relay``. The flows go first: their ports may be somebody else's a moment later."""
        self._kernel.close(handles)
        self._sockets.close(handles)

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        """See ``datapath.Relay``; the kernel follows with ``settle``."""
        self._sockets.configure(configs)
        self._kernel.configure(configs)

    def counters(self, handle: TransportHandle) -> TransportCounters:
        """See ``datapath.Relay``."""
        counters = self._sockets.counters(handle)
        carried, out = self._kernel.carried(handle), self._kernel.out(handle)
        rtp = counters.rtp
        if out.packets:
            rtp = replace(rtp, packets_out=rtp.packets_out + out.packets, bytes_out=rtp.bytes_out + out.bytes)
        drops = counters.drops
        if carried is not None:
            rtp = self._add(handle, rtp, carried)
            summed = list(drops)
            for reason, count in zip(FlowDrop, carried.drops, strict=True):
                summed[_DROPS[reason]] += count
            drops = tuple(summed)
        return replace(counters, rtp=rtp, drops=drops)

    def _add(self, handle: TransportHandle, rtp: StreamCounters, carried: Carried) -> StreamCounters:
        merged = self._sockets.merge_rtp([self._sockets.rtp_state(handle), *carried.rtp])
        return replace(
            rtp,
            packets=rtp.packets + carried.packets,
            bytes=rtp.bytes + carried.bytes,
            errors=rtp.errors + sum(carried.drops),
            ssrcs=self._sockets.ssrc_counters(merged) or rtp.ssrcs,
            kernel_packets=carried.packets,
            kernel_bytes=carried.bytes,
            last_kernel=carried.last_seen,
            kernel_ups=tuple(carried.ups),
            kernel_drops=tuple(carried.drops),
        )

    def last_seen(self, handle: TransportHandle) -> float | None:
        """See ``datapath.Relay``."""
        by_socket, by_kernel = self._sockets.last_seen(handle), self._kernel.last_seen(handle)
        if by_socket is None or by_kernel is None:
            return by_kernel if by_socket is None else by_socket
        return max(by_socket, by_kernel)

    def totals(self) -> RelayTotals:
        """See ``datapath.Relay``."""
        sockets, kernel = self._sockets.totals(), self._kernel.totals()
        return replace(
            sockets,
            packets=sockets.packets + kernel.packets,
            bytes=sockets.bytes + kernel.bytes,
            errors=sockets.errors + kernel.errors,
            kernel_packets=kernel.packets,
            kernel_bytes=kernel.bytes,
            kernel_errors=kernel.errors,
        )

    def path(self, handle: TransportHandle) -> Verdict | None:
        """See ``datapath.Relay``."""
        return self._kernel.verdict(handle)

    def kernel(self) -> KernelReport:
        """See ``datapath.Relay``."""
        kernel = self._kernel
        return KernelReport(
            backend=self._backend if kernel.failure is None else "userspace",
            flows=kernel.installed,
            installations=kernel.installations,
            reasons={reason: count for reason, count in kernel.reasons.items() if count},
            refusals=dict(kernel.refusals),
            orphans=len(kernel.orphans),
            rejected=self._rejected,
            failure=kernel.failure or "",
        )
