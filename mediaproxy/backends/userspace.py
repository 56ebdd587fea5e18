"""The relay that is always there: sockets and worker threads of the C helper.

Python opens, configures, reads counters and takes reports; it never sees a packet. Every call here is a call into C
that takes no lock a worker holds; one object may be used from one thread at a time.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from mediaproxy.backends.helper import relay as helper
from mediaproxy.backends.helper import rtp
from mediaproxy.backends.helper.relay import functions, memory
from mediaproxy.backends.packed_address import NOWHERE, pack_address, unpack_address
from mediaproxy.backends.rtp_states import NO_RTP, merge_states, read_ssrcs, state_counters
from mediaproxy.datapath import (
    FlowReason,
    KernelReport,
    PacketClass,
    RelayTotals,
    SourceEvent,
    SourceEventKind,
    SsrcCounters,
    StreamCounters,
    TransportConfig,
    TransportCounters,
    TransportHandle,
    Verdict,
)
from mediaproxy.datapath.kernel import RtpState
from mediaproxy.errors import PortBusyError, RelayError
from mediaproxy.net import Endpoint

_EVENTS: Final = 256
"""How many reports one call into C fetches."""
_WORKERS_MAX: Final = 64

_STATS_WORDS: Final = helper.STATS_SIZE // 8
_SLOT: Final = 0xFFFFFFFF
_NO_KERNEL: Final = Verdict(FlowReason.NO_BACKEND)
_NO_STREAM: Final = StreamCounters(0, 0, 0, 0, 0, None, ())
_NO_COUNTERS: Final = TransportCounters(_NO_STREAM, _NO_STREAM, (0,) * helper.DROP_REASONS, 0)


def _pack_address(address: str) -> bytes:
    """See ``pack_address``.

    Raises:
        RelayError: it is not an address literal.
    """
    try:
        return pack_address(address)
    except ValueError as error:
        raise RelayError(str(error)) from error


def _seconds(nanoseconds: int) -> float | None:
    return nanoseconds * 1e-9 if nanoseconds else None


@dataclass(frozen=True, slots=True)
class RelayActivity:
    """What the relay has done since it started and what it holds now: ``struct mpo_relay_totals``, in its order.

    Attributes:
        packets: received and sent on to one sink at least.
        bytes: of those, UDP payload.
        errors: received and sent on to none.
        packets_out: sent; several per received packet where there are several sinks.
        wakeups: how often a worker found something to do.
        receive_calls: recvmmsg system calls.
        send_calls: sendmmsg system calls.
        reports: source events put into the rings.
        reports_suppressed: held back by the rate limit of one transport.
        ring_overflows: held back because Python did not take them quickly enough.
        transports: open now.
        descriptors: sockets held now, second sockets of connected transports included.
    """

    packets: int
    bytes: int
    errors: int
    packets_out: int
    wakeups: int
    receive_calls: int
    send_calls: int
    reports: int
    reports_suppressed: int
    ring_overflows: int
    transports: int
    descriptors: int


class UserspaceRelay:
    """``datapath.Relay`` and ``datapath.RtpStates`` on the C helper.

    Beyond the contract: under ``SourcePolicy.OPEN`` the source reported last is reported again when it sends a
    ``PacketClass`` with a lower number than before (RTP after mere STUN). At most 8 reports at once and 4 a second
    per transport; what is held back is reported with a later packet. On an ``opaque`` transport the class is
    ``OTHER``. A source that is ``expected`` and ``remote`` in one under ``LOCKED`` gets a connected socket as soon as
    it sends RTP, and its transport a second descriptor for everybody else.

    ``packets`` and ``bytes`` of a stream count what was accepted, ``errors`` what was dropped for any reason (once per
    sink where there are several). The RTP stream is all that goes to ``rtp_sinks``: STUN and the like are in its
    totals, but not in ``ssrcs``, which come most recently heard first.

    Args:
        workers: threads, 1..64. Transports of one ``group`` are served by thread ``group % workers``.
        capacity: how many transports may be open at a time, those closed within the last second included.
    Raises:
        RelayError: a value is out of range, or there is no memory, descriptor or thread for it.
    """

    def __init__(self, workers: int, capacity: int) -> None:
        if not 1 <= workers <= _WORKERS_MAX:
            raise RelayError(f"{workers} relay threads: 1 to {_WORKERS_MAX} are possible")
        result, self._relay = helper.create_relay(workers, capacity)
        if result < 0:
            raise RelayError(f"the relay can't start {workers} threads for {capacity} transports: {_why(result)}")
        self._stats = helper.view_stats(self._relay)
        self._running = True
        self.kernel_report = KernelReport()
        """Why there is no kernel path beside it, as whoever looked for one found."""
        self._workers = workers
        # Scratch memory for the calls, made once: nothing of it outlives a call.
        self._local = bytearray(helper.ENDPOINT.size)
        self._local_pointer = memory.from_buffer("struct mpo_endpoint[]", self._local)
        self._pair = bytearray(16)
        self._pair_pointer = memory.from_buffer("__u64[]", self._pair)
        self._counters = bytearray(helper.STATS_SIZE)
        self._counters_pointer = memory.from_buffer("struct mpo_transport_stats[]", self._counters)
        self._events = bytearray(helper.EVENT.size * _EVENTS)
        self._events_pointer = memory.from_buffer("struct mpo_event[]", self._events)

    def __enter__(self) -> UserspaceRelay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the threads and close every socket. Nothing else may be called afterwards; a second call does nothing."""
        if self._running:
            self._running = False
            self._stats.release()
            functions.mpo_relay_destroy(self._relay)

    @property
    def event_fd(self) -> int:
        """Readable while there are reports for ``take_events``; not to be read from. Valid until ``stop``."""
        return functions.mpo_relay_event_fd(self._relay)

    def take_events(self) -> list[SourceEvent]:
        """All reports since the last call; those of transports closed meanwhile may be among them."""
        taken: list[SourceEvent] = []
        while True:
            count = functions.mpo_relay_take_events(self._relay, self._events_pointer, _EVENTS)
            with memoryview(self._events)[: count * helper.EVENT.size] as view:
                taken += [
                    SourceEvent(
                        SourceEventKind(kind),
                        TransportHandle(handle),
                        PacketClass(packet_class),
                        Endpoint(unpack_address(address), port),
                        ssrc,
                    )
                    for handle, address, port, ssrc, kind, packet_class in helper.EVENT.iter_unpack(view)
                ]
            if count < _EVENTS:
                return taken

    def open_pair(self, address: str, port: int, group: int) -> tuple[TransportHandle, TransportHandle]:
        """See ``datapath.Relay``."""
        if not 0 < port < 0xFFFF or port % 2:
            raise RelayError(f"port {port} can't begin a port pair: it must be even")
        helper.ENDPOINT.pack_into(self._local, 0, _pack_address(address), port)
        worker = group % self._workers
        result = functions.mpo_relay_open_pair(self._relay, self._local_pointer, worker, self._pair_pointer)
        if result < 0:
            raise _open_error(result, Endpoint(address, port))
        rtp, rtcp = helper.HANDLES[2].unpack(self._pair)
        return TransportHandle(rtp), TransportHandle(rtcp)

    def close(self, handles: Sequence[TransportHandle]) -> None:
        """See ``datapath.Relay``."""
        if handles:
            packed = bytearray(array("Q", handles))
            functions.mpo_relay_close(self._relay, memory.from_buffer("__u64[]", packed), len(handles))

    def close_all(self) -> int:
        """Close every transport. Returns how many were open."""
        return functions.mpo_relay_close_all(self._relay)

    def configure(self, configs: Sequence[TransportConfig]) -> None:
        """See ``datapath.Relay``.

        Raises:
            RelayError: more than 8 sinks or 16 clock rates, or a value out of range; nothing was changed.
        """
        if not configs:
            return
        packed = bytearray(helper.CONFIG_SIZE * len(configs))
        offset = 0
        for config in configs:
            _pack_config(packed, offset, config)
            offset += helper.CONFIG_SIZE
        pointer = memory.from_buffer("struct mpo_transport_config[]", packed)
        result = functions.mpo_relay_configure(self._relay, pointer, len(configs))
        if result < 0:
            raise RelayError(f"the relay refuses a configuration: {_why(result)}")

    def counters(self, handle: TransportHandle) -> TransportCounters:
        """See ``datapath.Relay``. All zero when the slot belongs to another transport by now (a second later)."""
        if functions.mpo_relay_read_stats(self._relay, handle, self._counters_pointer) < 0:
            return _NO_COUNTERS
        _, _, _, reports, _, *drops = helper.STATS_HEAD.unpack_from(self._counters)
        return TransportCounters(
            _unpack_stream(self._counters, helper.STATS_HEAD.size),
            _unpack_stream(self._counters, helper.STATS_HEAD.size + helper.STREAM_SIZE),
            tuple(drops),
            reports,
        )

    def last_seen(self, handle: TransportHandle) -> float | None:
        """See ``datapath.Relay``. ``None`` also when the slot belongs to another transport by now."""
        word = (handle & _SLOT) * _STATS_WORDS
        try:
            if self._stats[word] != handle:
                return None
            nanoseconds = self._stats[word + 1]
        except IndexError:
            return None
        return nanoseconds * 1e-9 if nanoseconds else None

    def totals(self) -> RelayTotals:
        """See ``datapath.Relay``. A packet is an error when it was sent on to no sink at all."""
        done = self.activity()
        return RelayTotals(
            packets=done.packets,
            bytes=done.bytes,
            errors=done.errors,
            reports=done.reports,
            reports_suppressed=done.reports_suppressed,
            reports_lost=done.ring_overflows,
        )

    def path(self, _handle: TransportHandle) -> Verdict | None:
        """See ``datapath.Relay``: never the kernel."""
        return _NO_KERNEL

    def kernel(self) -> KernelReport:
        """See ``datapath.Relay``."""
        return self.kernel_report

    def activity(self) -> RelayActivity:
        """Sums over all workers, from memory."""
        packed = bytearray(helper.TOTALS.size)
        functions.mpo_relay_read_totals(self._relay, memory.from_buffer("struct mpo_relay_totals[]", packed))
        return RelayActivity(*helper.TOTALS.unpack(packed))

    def rtp_state(self, handle: int) -> RtpState:
        """See ``datapath.RtpStates``. From memory; the sockets of ``handle`` are not disturbed."""
        state = bytearray(rtp.STATE_SIZE)
        if functions.mpo_relay_read_rtp(self._relay, handle, rtp.state_pointer(state)) < 0:
            return NO_RTP
        return RtpState(bytes(state))

    def resume_rtp(self, handle: int, state: RtpState) -> None:
        """See ``datapath.RtpStates``. In force before the next packet is counted; closed handles are ignored.

        Raises:
            RelayError: no memory.
        """
        result = functions.mpo_relay_resume_rtp(self._relay, handle, rtp.state_pointer(state))
        if result < 0 and result != -errno.ESTALE:
            raise RelayError(f"the relay can't take over a stream: {_why(result)}")

    def merge_rtp(self, states: Sequence[RtpState]) -> RtpState:
        """See ``datapath.RtpStates``."""
        return merge_states(states)

    def ssrc_counters(self, state: RtpState) -> tuple[SsrcCounters, ...]:
        """See ``datapath.RtpStates``."""
        return state_counters(state)

    def worker_thread_ids(self) -> tuple[int, ...]:
        """The kernel's thread ids of the workers, by index (``/proc/self/task/ID``)."""
        packed = bytearray(4 * self._workers)
        functions.mpo_relay_thread_ids(self._relay, memory.from_buffer("__u32[]", packed), self._workers)
        return tuple(memoryview(packed).cast("I"))


def _pack_config(packed: bytearray, offset: int, config: TransportConfig) -> None:
    rtp_sinks, rtcp_sinks, clock_rates = config.rtp_sinks, config.rtcp_sinks, config.clock_rates
    remote, expected, tos = config.remote, config.expected, config.tos
    if len(rtp_sinks) > helper.SINKS_MAX or len(rtcp_sinks) > helper.SINKS_MAX:
        raise RelayError(f"a transport has at most {helper.SINKS_MAX} sinks per class")
    if len(clock_rates) > helper.CLOCK_RATES_MAX:
        raise RelayError(f"a transport has at most {helper.CLOCK_RATES_MAX} clock rates")
    if tos is not None and not 0 <= tos <= 0xFF:
        raise RelayError(f"{tos} is not a TOS byte")
    helper.CONFIG_HEAD.pack_into(
        packed,
        offset,
        config.handle,
        _pack_address(remote.address) if remote else NOWHERE,
        remote.port if remote else 0,
        _pack_address(expected.address) if expected else NOWHERE,
        expected.port if expected else 0,
        config.policy,
        config.opaque * helper.CONFIG_OPAQUE | config.drop * helper.CONFIG_DROP | (tos is not None) * helper.CONFIG_TOS,
        tos or 0,
        len(rtp_sinks),
        len(rtcp_sinks),
        len(clock_rates),
    )
    helper.HANDLES[len(rtp_sinks)].pack_into(packed, offset + helper.CONFIG_RTP_SINKS, *rtp_sinks)
    helper.HANDLES[len(rtcp_sinks)].pack_into(packed, offset + helper.CONFIG_RTCP_SINKS, *rtcp_sinks)
    offset += helper.CONFIG_CLOCK_RATES
    for payload_type, rate_hz in clock_rates:
        helper.CLOCK_RATE.pack_into(packed, offset, rate_hz, payload_type)
        offset += helper.CLOCK_RATE.size


def _unpack_stream(packed: bytearray, offset: int) -> StreamCounters:
    packets, octets, errors, packets_out, bytes_out, last_seen_ns = helper.STREAM_HEAD.unpack_from(packed, offset)
    ssrcs: tuple[SsrcCounters, ...] = ()
    if packets:
        first = offset + helper.STREAM_HEAD.size
        with memoryview(packed)[first : first + rtp.SSRC_STATS.size * rtp.SSRCS_MAX] as entries:
            ssrcs = read_ssrcs(rtp.SSRC_STATS.iter_unpack(entries))
    return StreamCounters(packets, octets, errors, packets_out, bytes_out, _seconds(last_seen_ns), ssrcs)


def _why(result: int) -> str:
    return os.strerror(-result)


def _open_error(result: int, local: Endpoint) -> RelayError:
    """Say what an operator can do about it."""
    pair = f"port pair {local}"
    match -result:
        case errno.EADDRINUSE:
            return PortBusyError(f"{pair}: in use")
        case errno.EMFILE:
            return RelayError(f"{pair}: this process may open no more descriptors (raise LimitNOFILE / ulimit -n)")
        case errno.ENFILE:
            return RelayError(f"{pair}: this host may open no more descriptors (raise fs.file-max)")
        case errno.EADDRNOTAVAIL:
            return RelayError(f"{pair}: this host has no such address")
        case errno.EACCES:
            return RelayError(
                f"{pair}: needs rights, and the daemon has given up its own (lower net.ipv4.ip_unprivileged_port_start)"
            )
        case errno.ENOSPC:
            return RelayError(f"{pair}: no transport is free (a closed one rests for a second)")
        case _:
            return RelayError(f"{pair}: {_why(result)}")
