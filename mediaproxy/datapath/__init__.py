"""How media moves, as the core sees it: values and protocols, no mechanism."""

from mediaproxy.datapath.flow import FlowReason, Verdict
from mediaproxy.datapath.relay import (
    MAX_CLOCK_RATES,
    DropReason,
    KernelReport,
    PacketClass,
    Relay,
    RelayTotals,
    SourceEvent,
    SourceEventKind,
    SourcePolicy,
    SsrcCounters,
    StreamCounters,
    TransportConfig,
    TransportCounters,
    TransportHandle,
)

__all__ = [
    "MAX_CLOCK_RATES",
    "DropReason",
    "FlowReason",
    "KernelReport",
    "PacketClass",
    "Relay",
    "RelayTotals",
    "SourceEvent",
    "SourceEventKind",
    "SourcePolicy",
    "SsrcCounters",
    "StreamCounters",
    "TransportConfig",
    "TransportCounters",
    "TransportHandle",
    "Verdict",
]
