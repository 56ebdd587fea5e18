"""What the eBPF program itself costs, without device, buffers and sink: BPF_PROG_TEST_RUN, statistics included."""

from __future__ import annotations

import struct
from statistics import median
from typing import Final

from mediaproxy.backends.flow_records import SET, FlowRecord, pack_record, results
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.backends.helper import bpf as helper
from mediaproxy.backends.helper.bpf import BpfPointer, Program, functions
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.bench.errors import BenchError
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.net import Endpoint

FLOWS: Final = 2000
"""As many as 1000 calls have."""
_RUNS: Final = 400
_HOPS: Final = 240
"""Runs over one frame: each takes one off the TTL, of 255."""
_TAP_BYTES: Final = 4096
_RELAY: Final = "10.199.1.1"
_AGENT: Final = "10.199.2.250"
_FIRST_PORT: Final = 10_000
_LOOPBACK: Final = 1
_PAYLOAD: Final = 160


def program_ns() -> float:
    """Mean nanoseconds of one run of the tc program that forwards a packet: look-ups, judgement, statistics, rewrite.

    A frame goes round: what one flow sends is what the next one receives, so that each run does all the work and meets
    another flow. The redirect itself comes after the program and is not in the figure.

    Raises:
        BenchError: the program can't be loaded here, or did not forward.
    """
    result, bpf, log = helper.open_bpf(None, FLOWS, _TAP_BYTES, False, 0)
    if result < 0:
        raise BenchError(f"the tc program can't be loaded here (error {-result}) {log[-200:]}".rstrip())
    try:
        return _measure(bpf)
    finally:
        functions.mpo_bpf_close(bpf)


def _measure(bpf: BpfPointer) -> float:
    records = bytearray().join(pack_record(FlowRecord(SET, _flow(number), _LOOPBACK)) for number in range(FLOWS))
    helper.apply_changes(bpf, records, FLOWS)
    if any(results(records)):
        raise BenchError("the flows for the tc program were refused")
    with FlowStatsMemory(functions.mpo_bpf_stats_fd(bpf), FLOWS) as stats:
        for number in range(FLOWS):
            stats.seed(_flow(number).slot, None)
        try:
            runs = [
                helper.run_program(bpf, Program.TC_ETHERNET, _frame(number), repeat=_HOPS).nanoseconds
                for number in range(_RUNS)
            ]
        except OSError as error:
            raise BenchError(f"the tc program can't be run by itself: {error}") from error
        moved = stats.totals().packets
    if moved != _RUNS * _HOPS:
        raise BenchError(f"the tc program forwarded {moved} of {_RUNS * _HOPS} packets when run by itself")
    return median(runs)


def _relay(number: int) -> Endpoint:
    return Endpoint(_RELAY, _FIRST_PORT + number % FLOWS)


def _agent(number: int) -> Endpoint:
    return Endpoint(_AGENT, _FIRST_PORT + number % FLOWS)


def _flow(number: int) -> InstalledFlow:
    """Sends what it gets from agent N as if agent N + 1 had sent it to the next flow."""
    flow = Flow(
        local=_relay(number),
        source=_agent(number),
        sender=_agent(number + 1),
        target=_relay(number + 1),
        clock_rates=((8, 8000),),
    )
    return InstalledFlow(flow, Slot(number, 1))


def _frame(number: int) -> bytes:
    """RTP number ``number`` of an agent: Ethernet to the loopback device, IPv4 with TTL 255, UDP without checksum."""
    start = number * _HOPS
    source, relay = _agent(start), _relay(start)
    rtp = struct.pack("!BBHII", 0x80, 8, number, 160 * number, 0x10000000) + bytes(_PAYLOAD)
    udp = struct.pack("!HHHH", source.port, relay.port, 8 + len(rtp), 0)
    head = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp) + len(rtp), 0, 0x4000, 255, 17, 0))
    head += pack_address(source.address)[-4:] + pack_address(relay.address)[-4:]
    total = sum(struct.unpack("!10H", head))
    total = (total >> 16) + (total & 0xFFFF)
    struct.pack_into("!H", head, 10, ~((total >> 16) + total) & 0xFFFF)
    return bytes(12) + b"\x08\x00" + bytes(head) + udp + rtp
