"""Flows as memory: ``struct mpo_flow_change`` of ``mpo_abi.h``, packed and unpacked.

An array of these is what the daemon sends to the privileged process, what that one gives to C, and what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from mediaproxy.backends.packed_address import NOWHERE, pack_address, unpack_address
from mediaproxy.datapath.flow import MAX_FLOW_CLOCK_RATES, Flow, InstalledFlow, Slot
from mediaproxy.net import Endpoint

SET: Final = 1
REMOVE: Final = 2

STRICT: Final = 1
OPAQUE: Final = 2
TAP: Final = 4
DROP: Final = 8
LOCAL: Final = 16
FLAGS: Final = 31

CHANGE: Final = Struct("=16sHxx HH 16sHxx 16sHxx 16sHxx IIII HBB" + "IB3x" * MAX_FLOW_CLOCK_RATES + "i")
"""``struct mpo_flow_change``: key address, port; operation, zero; source, sender, target (address, port each); slot,
generation, ifindex, mtu; flags, tos, count of clock rates; clock rates (Hz, payload type); result."""

OPERATION: Final = Struct("=H")
OPERATION_OFFSET: Final = 20
IFINDEX: Final = Struct("=I")
IFINDEX_OFFSET: Final = 92
RESULT: Final = Struct("=i")
RESULT_OFFSET: Final = CHANGE.size - RESULT.size

_NO_RATES: Final = (0, 0) * MAX_FLOW_CLOCK_RATES


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """One unpacked ``struct mpo_flow_change``; ``ifindex``, ``mtu`` and ``local_peer`` are the installer's."""

    operation: int
    installed: InstalledFlow
    ifindex: int = 0
    mtu: int = 0
    local_peer: bool = False
    result: int = 0


def pack_changes(sets: Iterable[InstalledFlow], removals: Iterable[InstalledFlow]) -> bytearray:
    """Removals, then sets, as an array of ``struct mpo_flow_change``. Ways out are left open (ifindex 0)."""
    return bytearray().join(
        [
            *(_pack(REMOVE, installed) for installed in removals),
            *(_pack(SET, installed) for installed in sets),
        ]
    )


def pack_record(record: FlowRecord) -> bytes:
    """One record with all that the installer has added."""
    return _pack(
        record.operation, record.installed, record.ifindex, record.mtu, record.local_peer * LOCAL, record.result
    )


def _pack(
    operation: int, installed: InstalledFlow, ifindex: int = 0, mtu: int = 0, more_flags: int = 0, result: int = 0
) -> bytes:
    flow, slot = installed.flow, installed.slot
    rates = flow.clock_rates[:MAX_FLOW_CLOCK_RATES]
    flat = [value for payload_type, hz in rates for value in (hz, payload_type)]
    return CHANGE.pack(
        pack_address(flow.local.address),
        flow.local.port,
        operation,
        0,
        pack_address(flow.source.address) if flow.source else NOWHERE,
        flow.source.port if flow.source else 0,
        pack_address(flow.sender.address),
        flow.sender.port,
        pack_address(flow.target.address),
        flow.target.port,
        slot.index,
        slot.generation,
        ifindex,
        mtu,
        flow.strict * STRICT | flow.opaque * OPAQUE | flow.tap * TAP | flow.drop * DROP | more_flags,
        flow.tos,
        len(rates),
        *flat,
        *_NO_RATES[len(flat) :],
        result,
    )


def unpack_changes(records: bytes | bytearray | memoryview) -> Iterator[FlowRecord]:
    """The records of an array whose length is a multiple of ``CHANGE.size``.

    Raises:
        ValueError: a value cannot be one of a flow (port 0 of the sender or target, too many clock rates).
    """
    for fields in CHANGE.iter_unpack(records):
        address, port, operation, _, source, source_port, sender, sender_port, target, target_port = fields[:10]
        index, generation, ifindex, mtu, flags, tos, count = fields[10:17]
        if count > MAX_FLOW_CLOCK_RATES:
            raise ValueError(f"{count} clock rates")
        rates = tuple((fields[18 + 2 * number], fields[17 + 2 * number]) for number in range(count))
        flow = Flow(
            local=Endpoint(unpack_address(address), port),
            source=Endpoint(unpack_address(source), source_port) if source_port else None,
            sender=Endpoint(unpack_address(sender), sender_port),
            target=Endpoint(unpack_address(target), target_port),
            strict=bool(flags & STRICT),
            tos=tos,
            opaque=bool(flags & OPAQUE),
            clock_rates=rates,
            tap=bool(flags & TAP),
            drop=bool(flags & DROP),
        )
        yield FlowRecord(
            operation, InstalledFlow(flow, Slot(index, generation)), ifindex, mtu, bool(flags & LOCAL), fields[-1]
        )


def results(records: bytearray) -> list[int]:
    """0 or -errno of each record, as C has left them."""
    return [RESULT.unpack_from(records, at)[0] for at in range(RESULT_OFFSET, len(records), CHANGE.size)]
