"""The iptables backend: a destination and a source NAT per flow, for hosts with neither BPF nor nftables.

Connection tracking carries the packets; rules are walked by a flow's first packet only, but for the short way through
the raw table (``iptables_chains``). It counts as well, once a second into the statistics memory. Good for hundreds of
calls: each change reads and writes whole tables. What is not RTP of the learnt source goes up: strangers, RTCP, STUN.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediaproxy.backends import flow_records
from mediaproxy.backends.conntrack import Conntrack, Entry, Tuple
from mediaproxy.backends.flow_records import FlowRecord
from mediaproxy.backends.flow_stats import FlowStatsMemory, FlowStatsWriter
from mediaproxy.backends.iptables_chains import MARK, MARK_MASK, FlowChains, ZonedFlow
from mediaproxy.backends.kernel_backend import BackendSettings, Link
from mediaproxy.backends.xtables import TablesBusyError, TableSizes, xtables_lock
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.net import AddressFamily, Endpoint

MAX_FLOWS: Final = 1000

_NET: Final = Path("/proc/sys/net")
_FORWARDING: Final[dict[int, str]] = {socket.AF_INET: "ipv4/ip_forward", socket.AF_INET6: "ipv6/conf/all/forwarding"}
_ACCOUNTING: Final = "netfilter/nf_conntrack_acct"
_HEADERS: Final[dict[int, int]] = {socket.AF_INET: 28, socket.AF_INET6: 48}
"""What connection tracking counts beside the UDP payload: only packets with plain IP headers get there."""
_FIRST_ZONE: Final = 0x8000
_ZONES: Final = 0x8000
_VERSION: Final = "v1"
_CROWDED: Final = 0.9
_ON_ITS_WAY: Final = 0.002
"""Seconds in which a packet has come through the rules that it has met the first of."""


def open_iptables(settings: BackendSettings) -> IptablesBackend:
    """Make the backend in the network namespace of the calling thread, which alone is to use it.

    Flows of a dead daemon of this instance go on forwarding and are taken over.

    Raises:
        OffloadError: python-iptables, a table, connection tracking, a privilege or a sysctl is missing; the text says
            which, and what to set.
    """
    return IptablesBackend(settings)


@dataclass(slots=True)
class _Installed:
    """A flow that is in the kernel, its entry's tuple, and what that entry was seen to have counted."""

    record: FlowRecord
    zoned: ZonedFlow
    family: int
    tuple: Tuple
    entry: int = 0
    packets: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Counted:
    """What a slot has counted since it was seeded, whatever flow and entry it was."""

    generation: int
    packets: int = 0
    bytes: int = 0


class IptablesBackend:
    """See ``KernelBackend`` and ``open_iptables``."""

    name = "iptables"
    capabilities = Capabilities(opaque=True, max_flows=MAX_FLOWS)
    tap_fd = -1
    watch_fds: Sequence[int] = ()

    def __init__(self, settings: BackendSettings) -> None:
        self.slots = settings.slots
        self._flows: dict[Endpoint, _Installed] = {}
        self._counted: dict[int, _Counted] = {}
        self._next_zone = 0
        self._lost = ""
        self._emptied = False
        self._crowded = False
        self._events = [
            DatapathEvent(
                DatapathEventKind.NOTE,
                f"iptables carries at most {MAX_FLOWS} flows ({MAX_FLOWS // 2} calls) and sets up some hundred of them "
                "a second; what is beyond that stays in user space",
            )
        ]
        with contextlib.ExitStack() as stack:
            self._sizes = TableSizes()
            stack.callback(self._sizes.close)
            # After what needs privileges: who has none is told of that first.
            if not _sysctl_is_on(_FORWARDING[socket.AF_INET]):
                raise OffloadError(
                    "iptables forwards only where the host does: set net.ipv4.ip_forward = 1 "
                    "(sysctl -w net.ipv4.ip_forward=1)"
                )
            self._conntrack = Conntrack()
            stack.callback(self._conntrack.close)
            self._chains: dict[int, FlowChains] = {socket.AF_INET: FlowChains(socket.AF_INET, settings.instance)}
            self._open_ip6(settings.instance)
            self._statistics = FlowStatsWriter(settings.slots)
            stack.callback(self._statistics.close)
            with xtables_lock():
                self._take_over()
                # Only now is connection tracking, and with it this sysctl, there for certain.
                if not _sysctl_is_on(_ACCOUNTING):
                    if not self._flows:
                        self._withdraw_chains()
                    raise OffloadError(
                        "connection tracking counts nothing here: set net.netfilter.nf_conntrack_acct = 1 "
                        "(sysctl -w net.netfilter.nf_conntrack_acct=1)"
                    )
            stack.pop_all()

    def _open_ip6(self, instance: str) -> None:
        """IPv6 is served where its tables are."""
        chains = FlowChains(socket.AF_INET6, instance)
        try:
            for table in chains.tables.values():
                table.begin()
        except OffloadError as error:
            self._note(f"IPv6 stays in user space: {error}")
            return
        self._chains[socket.AF_INET6] = chains
        if not _sysctl_is_on(_FORWARDING[socket.AF_INET6]):
            self._note("IPv6 stays in user space: net.ipv6.conf.all.forwarding is 0")

    def _note(self, text: str) -> None:
        self._events.append(DatapathEvent(DatapathEventKind.NOTE, text))

    def _take_over(self) -> None:
        """Read what a dead daemon has left, write it anew in one piece, and go on counting.

        Raises:
            OffloadError: a table is missing or can't be changed; chains that were begun are gone again, if new.
        """
        try:
            for family, chains in self._chains.items():
                for comment in chains.found():
                    self._adopt(family, comment)
            for family in self._chains:
                self._rebuild(family)
        except OffloadError:
            if not self._flows:
                with contextlib.suppress(OffloadError):
                    self._withdraw_chains()
            raise
        if self._flows:
            with FlowStatsMemory(self._statistics.fd, self.slots) as memory:
                for flow in self._flows.values():
                    memory.seed(flow.record.installed.slot, None)  # who had seeded it is dead
        self._count()

    def _adopt(self, family: int, comment: str) -> None:
        try:
            version, zone, packed = comment.split(" ")
            (record,) = flow_records.unpack_changes(base64.b64decode(packed, validate=True))
            zoned = ZonedFlow(record.installed.flow, int(zone), comment)
        except (ValueError, binascii.Error):
            return  # somebody's own rule in our chain goes with it
        if version == _VERSION and not _refusal(record, self.slots):
            self._flows[record.installed.flow.local] = _Installed(record, zoned, family, _tuple(zoned))

    def _rebuild(self, family: int) -> None:
        """Write all chains of a family from what is in ``_flows``."""
        self._chains[family].rebuild([flow.zoned for flow in self._flows.values() if flow.family == family])

    def _withdraw_chains(self) -> None:
        for chains in self._chains.values():
            chains.withdraw()

    @property
    def stats_fd(self) -> int:
        return self._statistics.fd

    @property
    def unattached(self) -> Collection[int]:
        """None: rules look at all devices."""
        return ()

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:  # noqa: ARG002  (rules look at all devices)
        """See ``KernelBackend``. The first call yields what an operator is to know."""
        events, self._events = self._events, []
        return events

    def apply(self, records: bytearray) -> None:
        """See ``KernelBackend``.

        -EOPNOTSUPP: any source, tap or drop. -EAFNOSUPPORT: change of IP family, or no IPv6 tables. -ENETUNREACH: the
        host does not forward this family. -ENOSPC: ``MAX_FLOWS``. -EINVAL: a value out of range. -EAGAIN: the tables
        can't be changed now; then nothing is installed at the key.
        """
        forwards = {family: family in self._chains and _sysctl_is_on(_FORWARDING[family]) for family in _FORWARDING}
        wanted: dict[Endpoint, FlowRecord | None] = {}
        total = len(self._flows)
        size = flow_records.CHANGE.size
        for at in range(0, len(records), size):
            result = 0
            try:
                (record,) = flow_records.unpack_changes(records[at : at + size])
            except ValueError:
                flow_records.RESULT.pack_into(records, at + flow_records.RESULT_OFFSET, -errno.EINVAL)
                continue
            local = record.installed.flow.local
            stands = wanted[local] if local in wanted else _record_of(self._flows.get(local))
            if record.operation == flow_records.SET:
                result = _refusal(record, self.slots) or self._refusal_now(record, forwards)
                total -= stands is not None
                if not result and total >= MAX_FLOWS:
                    result = -errno.ENOSPC
                total += not result
                wanted[local] = None if result else record
            elif record.operation != flow_records.REMOVE:
                result = -errno.EINVAL
            elif stands is not None and stands.installed.slot == record.installed.slot:
                total -= 1
                wanted[local] = None
            flow_records.RESULT.pack_into(records, at + flow_records.RESULT_OFFSET, result)
        try:
            self._change(wanted)
        except OffloadError:
            for at in range(0, len(records), size):
                operation = flow_records.CHANGE.unpack_from(records, at)[2]
                if operation == flow_records.SET and not flow_records.results(records[at : at + size])[0]:
                    flow_records.RESULT.pack_into(records, at + flow_records.RESULT_OFFSET, -errno.EAGAIN)

    def _refusal_now(self, record: FlowRecord, forwards: dict[int, bool]) -> int:
        family = _family(record)
        if self._lost:
            return -errno.EAGAIN
        if family not in self._chains:
            return -errno.EAFNOSUPPORT
        return 0 if forwards[family] else -errno.ENETUNREACH

    def _change(self, wanted: dict[Endpoint, FlowRecord | None]) -> None:
        """Bring the kernel to what is wanted: packets go up for the moment in which a flow is being replaced, by an
        entry in the new zone that translates nothing, so none is lost and each is counted once.

        Raises:
            OffloadError: the tables can't be changed; what was wanted to be set is not.
        """
        gone = [self._flows[local] for local in wanted if local in self._flows]
        used = {flow.zoned.zone for flow in self._flows.values()}
        new = [self._install(record, used) for record in wanted.values() if record is not None]
        if not gone and not new:
            return
        try:
            with xtables_lock():
                for family, chains in self._chains.items():
                    old = [flow.zoned for flow in gone if flow.family == family]
                    fresh = [flow.zoned for flow in new if flow.family == family]
                    if old:
                        chains.stop_translating(old)
                    if old or fresh:
                        chains.lead(old, fresh)
                self._finish(gone)
                self._flows.update({flow.record.installed.flow.local: flow for flow in new})
                for family, chains in self._chains.items():
                    if fresh := [flow.zoned for flow in new if flow.family == family]:
                        chains.translate(fresh)
            self._conntrack.drop_untranslated([flow.tuple for flow in new])
            if new:
                # And the entry of a packet that was on its way through the rules: it would keep the flow local.
                time.sleep(_ON_ITS_WAY)
                self._conntrack.drop_untranslated([flow.tuple for flow in new])
        except OffloadError as error:
            # Somebody has changed our chains, or the tables are not to be had: check() begins anew. It also has to when
            # nothing was done yet but something should be gone, for its port may have another call's packets next.
            if gone or not isinstance(error, TablesBusyError):
                self._lose(str(error))
            raise

    def _install(self, record: FlowRecord, used: set[int]) -> _Installed:
        while True:
            zone = _FIRST_ZONE + self._next_zone
            self._next_zone = (self._next_zone + 1) % _ZONES
            if zone not in used:
                break
        packed = base64.b64encode(flow_records.pack_record(record)).decode("ascii")
        zoned = ZonedFlow(record.installed.flow, zone, f"{_VERSION} {zone} {packed}")
        return _Installed(record, zoned, _family(record), _tuple(zoned))

    def _finish(self, gone: Sequence[_Installed]) -> None:
        """Count what entries have counted that get no more packets, delete them, and forget their flows."""
        if gone:
            for flow, entry in zip(gone, self._conntrack.take([flow.tuple for flow in gone]), strict=True):
                if entry is not None and entry.translated:
                    self._add(flow, entry)
                self._flows.pop(flow.record.installed.flow.local, None)

    def _add(self, flow: _Installed, entry: Entry) -> None:
        # Fewer than before: somebody has set its counters to zero (conntrack -L -z).
        if entry.identity != flow.entry or entry.packets < flow.packets:
            flow.entry, flow.packets, flow.bytes = entry.identity, 0, 0
        packets, octets = entry.packets - flow.packets, entry.bytes - flow.bytes
        if packets > 0:
            flow.packets, flow.bytes = entry.packets, entry.bytes
            slot = flow.record.installed.slot
            counted = self._counted.get(slot.index)
            if counted is None or counted.generation != slot.generation:
                counted = self._counted[slot.index] = _Counted(slot.generation)
            counted.packets += packets
            counted.bytes += octets - packets * _HEADERS[flow.family]
            now_ns = time.monotonic_ns()
            self._statistics.set(slot.index, slot.generation, counted.packets, counted.bytes, now_ns)

    def _count(self) -> None:
        """Bring all counters into the shared memory."""
        by_tuple = {flow.tuple: flow for flow in self._flows.values()}
        weak = []
        for family in self._chains:
            for entry in self._conntrack.marked(family, MARK, MARK_MASK) if by_tuple else ():
                flow = by_tuple.get(entry.tuple)
                if flow is not None:
                    self._add(flow, entry)
                    if not entry.assured:
                        weak.append(entry)
        self._conntrack.assure(weak)
        # One that a packet made at the very moment of its flow's installation keeps the flow with the socket.
        self._conntrack.drop_untranslated([flow.tuple for flow in self._flows.values() if not flow.entry])

    def dump(self) -> bytearray:
        """See ``KernelBackend``."""
        return bytearray(b"".join(flow_records.pack_record(flow.record) for flow in self._flows.values()))

    def check(self) -> list[DatapathEvent]:
        """See ``KernelBackend``."""
        events, self._events = self._events, []
        if not self._lost:
            try:
                self._count()
                self._look()
            except OffloadError as error:
                self._lose(str(error))
            events += self._events
            self._events = []
        if self._lost:
            events += self._restore()
        self._watch_table(events)
        return events

    def _look(self) -> None:
        """See that the tables are as they were left, and that the host still forwards.

        Raises:
            OffloadError: they are not.
        """
        for family in {flow.family for flow in self._flows.values()} | {socket.AF_INET}:
            if not _sysctl_is_on(_FORWARDING[family]):
                raise OffloadError(f"net.{_FORWARDING[family].replace('/', '.')} was set to 0")
        for chains in self._chains.values():
            sizes = {name: self._sizes.read(table) for name, table in chains.tables.items()}
            if sizes != chains.sizes:
                try:
                    with xtables_lock():
                        intact = chains.intact()
                except TablesBusyError:
                    return  # another second, then
                if not intact:
                    raise OffloadError("somebody has removed rules of ours (iptables -F, iptables-restore)")
                chains.sizes = sizes

    def _lose(self, why: str) -> None:
        """Nothing of ours forwards any more; what is left of it is taken out as soon as can be."""
        if not self._lost:
            self._lost = why
            self._emptied = False
            self._events.append(DatapathEvent(DatapathEventKind.LOST, f"iptables: {why}", flows_gone=True))

    def _restore(self) -> list[DatapathEvent]:
        """Lead everything up, count what entries have counted, and stand ready again, without flows."""
        try:
            if not self._emptied:
                with xtables_lock():
                    self._empty()
                self._emptied = True
        except OffloadError:
            return []
        if not _sysctl_is_on(_FORWARDING[socket.AF_INET]):
            return []
        self._lost = ""
        return [DatapathEvent(DatapathEventKind.RESTORED, "iptables: chains are back")]

    def _empty(self) -> None:
        for chains in self._chains.values():
            chains.rebuild([])
        self._finish(list(self._flows.values()))

    def _watch_table(self, events: list[DatapathEvent]) -> None:
        """Say once that the table of connections is nearly full: what finds it full is dropped."""
        used, limit = (_number(f"netfilter/nf_conntrack_{what}") for what in ("count", "max"))
        crowded = limit > 0 and used > limit * _CROWDED
        if crowded and not self._crowded:
            events.append(
                DatapathEvent(
                    DatapathEventKind.NOTE,
                    f"connection tracking holds {used} of {limit} entries; packets are dropped when it is full: "
                    "raise net.netfilter.nf_conntrack_max",
                )
            )
        self._crowded = crowded

    def leave(self) -> None:
        """See ``KernelBackend``."""
        for chains in self._chains.values():
            with contextlib.suppress(OffloadError):
                chains.close()
        self._sizes.close()
        self._conntrack.close()
        self._statistics.close()

    def remove(self) -> None:
        """See ``KernelBackend``.

        Raises:
            OffloadError: the tables can't be changed; the text says why. The backend has ended all the same.
        """
        try:
            with xtables_lock():
                self._withdraw_chains()
            self._finish(list(self._flows.values()))
        finally:
            self.leave()


def _record_of(flow: _Installed | None) -> FlowRecord | None:
    return None if flow is None else flow.record


def _family(record: FlowRecord) -> int:
    return socket.AF_INET6 if record.installed.flow.local.family is AddressFamily.IP6 else socket.AF_INET


def _tuple(zoned: ZonedFlow) -> Tuple:
    flow = zoned.flow
    source = flow.source or flow.local
    kind = socket.AF_INET6 if flow.local.family is AddressFamily.IP6 else socket.AF_INET
    return Tuple(
        socket.inet_pton(kind, source.address),
        source.port,
        socket.inet_pton(kind, flow.local.address),
        flow.local.port,
        zoned.zone,
    )


def _refusal(record: FlowRecord, slots: int) -> int:
    """Why a flow can never be installed: 0 or -errno."""
    flow, slot = record.installed.flow, record.installed.slot
    if not 0 <= slot.index < slots or not slot.generation or 0 in (flow.local.port, flow.sender.port, flow.target.port):
        return -errno.EINVAL
    if flow.source is None or flow.tap or flow.drop:
        return -errno.EOPNOTSUPP
    if len({flow.local.family, flow.source.family, flow.sender.family, flow.target.family}) > 1:
        return -errno.EAFNOSUPPORT
    return 0


def _number(name: str) -> int:
    try:
        return int((_NET / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _sysctl_is_on(name: str) -> bool:
    return _number(name) > 0
