"""The typed face of the C helper: layouts and numbers agree with what the compiler made of ``mpo_abi.h``."""

from __future__ import annotations

import re
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from struct import Struct

import pytest
from _mediaproxy_offload import ffi, lib

from mediaproxy.backends.helper import flow_stats, load, rtp
from mediaproxy.backends.helper import relay as helper
from mediaproxy.backends.userspace import RelayActivity
from mediaproxy.datapath import DropReason, PacketClass, SourceEventKind, SourcePolicy
from mediaproxy.datapath.kernel import FlowDrop, FlowUp

HELPER_SOURCE = Path(__file__).parents[3] / "kernel_offload"


@pytest.mark.parametrize(
    ("struct", "name"),
    [
        (helper.ENDPOINT, "mpo_endpoint"),
        (helper.CLOCK_RATE, "mpo_clock_rate"),
        (helper.EVENT, "mpo_event"),
        (rtp.SSRC_STATS, "mpo_ssrc_stats"),
        (helper.TOTALS, "mpo_relay_totals"),
        (load.FLOW, "mpo_load_flow"),
        (load.RESULT, "mpo_load_result"),
        (flow_stats.TOTALS, "mpo_flow_totals"),
    ],
)
def test_layout_of_a_whole_structure_has_its_size(struct: Struct, name: str) -> None:
    assert struct.size == ffi.sizeof(f"struct {name}")


def test_layout_of_the_transport_config_has_the_offsets_of_c() -> None:
    name = "struct mpo_transport_config"
    assert ffi.offsetof(name, "rtp_sinks") == helper.CONFIG_RTP_SINKS
    assert ffi.offsetof(name, "rtcp_sinks") == helper.CONFIG_RTCP_SINKS
    assert ffi.offsetof(name, "clock_rates") == helper.CONFIG_CLOCK_RATES
    assert ffi.sizeof(name) == helper.CONFIG_SIZE


def test_layout_of_the_statistics_has_the_offsets_of_c() -> None:
    assert ffi.offsetof("struct mpo_transport_stats", "handle") == 0
    assert ffi.offsetof("struct mpo_transport_stats", "last_seen_ns") == 8
    assert ffi.offsetof("struct mpo_transport_stats", "rtp") == helper.STATS_HEAD.size
    assert ffi.offsetof("struct mpo_transport_stats", "rtcp") == helper.STATS_HEAD.size + helper.STREAM_SIZE
    assert ffi.sizeof("struct mpo_transport_stats") == helper.STATS_SIZE
    assert ffi.offsetof("struct mpo_stream_stats", "ssrcs") == helper.STREAM_HEAD.size
    assert ffi.sizeof("struct mpo_stream_stats") == helper.STREAM_SIZE


def test_config_head_packs_each_field_where_c_reads_it() -> None:
    packed = bytearray(helper.CONFIG_SIZE)
    helper.CONFIG_HEAD.pack_into(packed, 0, 1 << 40 | 2, b"R" * 16, 5004, b"E" * 16, 5006, 2, 4, 184, 3, 4, 5)
    config = ffi.from_buffer("struct mpo_transport_config *", packed)
    assert (config.handle, config.policy, config.flags, config.tos) == (1 << 40 | 2, 2, 4, 184)
    assert (bytes(config.remote.address), config.remote.port) == (b"R" * 16, 5004)
    assert (bytes(config.expected.address), config.expected.port) == (b"E" * 16, 5006)
    assert (config.rtp_sink_count, config.rtcp_sink_count, config.clock_rate_count) == (3, 4, 5)


def test_event_unpacks_each_field_as_c_wrote_it() -> None:
    event = ffi.new("struct mpo_event *")
    event.handle, event.ssrc, event.kind, event.packet_class = 1 << 40, 0xDEADBEEF, 2, 1
    event.source.address, event.source.port = bytes(range(16)), 5004
    assert helper.EVENT.unpack(ffi.buffer(event)) == (1 << 40, bytes(range(16)), 5004, 0xDEADBEEF, 2, 1)


def test_ssrc_stats_unpack_each_field_as_c_wrote_it() -> None:
    stats = ffi.new("struct mpo_ssrc_stats *")
    stats.packets, stats.bytes, stats.last_seen_ns, stats.ssrc, stats.last_timestamp = 1, 2, 3, 4, 5
    stats.extended_sequence, stats.lost, stats.duplicates, stats.reordered = 6, 7, 8, 9
    stats.jitter_q4, stats.payload_type = 10, 11
    assert rtp.SSRC_STATS.unpack(ffi.buffer(stats)) == tuple(range(1, 12))


def test_stats_head_unpacks_each_field_as_c_wrote_it() -> None:
    stats = ffi.new("struct mpo_transport_stats *")
    stats.handle, stats.last_seen_ns, stats.version, stats.reports, stats.suppressed = 1, 2, 3, 4, 5
    stats.drops = list(range(6, 13))
    assert helper.STATS_HEAD.unpack_from(ffi.buffer(stats)) == tuple(range(1, 13))


def test_layout_of_the_rtp_state_has_the_offsets_of_c() -> None:
    assert ffi.sizeof("struct mpo_rtp_source") == rtp.SOURCE_SIZE
    assert ffi.offsetof("struct mpo_rtp_state", "sources") == rtp.SSRCS_MAX * rtp.SSRC_STATS.size
    assert ffi.sizeof("struct mpo_rtp_state") == rtp.STATE_SIZE


def test_layout_of_the_flow_statistics_has_the_offsets_of_c() -> None:
    name = "struct mpo_flow_stats"
    assert ffi.offsetof(name, "generation") == 0
    assert ffi.offsetof(name, "packets") == flow_stats.COUNTERS_OFFSET
    assert ffi.offsetof(name, "bytes") == flow_stats.COUNTERS_OFFSET + 8
    assert ffi.offsetof(name, "last_seen_ns") == flow_stats.LAST_SEEN_OFFSET == flow_stats.COUNTERS_OFFSET + 16
    assert ffi.offsetof(name, "ssrcs") == flow_stats.HEAD.size
    assert ffi.sizeof(name) == flow_stats.STATS_SIZE


def test_flow_stats_head_unpacks_each_field_as_c_wrote_it() -> None:
    stats = ffi.new("struct mpo_flow_stats *")
    stats.generation, stats.packets, stats.bytes, stats.last_seen_ns, stats.stranger_ns = 1, 2, 3, 4, 5
    stats.drops, stats.ups = list(range(6, 10)), list(range(10, 18))
    assert flow_stats.HEAD.unpack_from(ffi.buffer(stats)) == tuple(range(1, 18))


def test_totals_have_the_fields_of_c_in_its_order() -> None:
    assert [field.name for field in fields(RelayActivity)] == [
        name for name, _ in ffi.typeof("struct mpo_relay_totals").fields
    ]


@pytest.mark.parametrize(
    ("enum", "prefix", "count"),
    [
        (PacketClass, "MPO_CLASS_", "MPO_CLASSES"),
        (SourcePolicy, "MPO_POLICY_", "MPO_POLICIES"),
        (SourceEventKind, "MPO_EVENT_", None),
        (DropReason, "MPO_DROP_", "MPO_DROP_REASONS"),
        (FlowDrop, "MPO_FLOW_DROP_", "MPO_FLOW_DROPS"),
        (FlowUp, "MPO_FLOW_UP_", "MPO_FLOW_UPS"),
    ],
)
def test_numbers_of_the_core_are_those_of_c(enum: type[IntEnum], prefix: str, count: str | None) -> None:
    assert {member.name: member.value for member in enum} == {
        name.removeprefix(prefix): getattr(lib, name)
        for name in dir(lib)
        if name.startswith(prefix) and name != "MPO_DROP_REASONS"
    }
    if count is not None:
        assert getattr(lib, count) == len(enum)


def test_limits_are_those_of_c() -> None:
    assert (lib.MPO_SINKS_MAX, lib.MPO_CLOCK_RATES_MAX, lib.MPO_SSRCS_MAX, lib.MPO_DROP_REASONS) == (
        helper.SINKS_MAX,
        helper.CLOCK_RATES_MAX,
        rtp.SSRCS_MAX,
        helper.DROP_REASONS,
    )
    assert (lib.MPO_FLOW_SSRCS_MAX, lib.MPO_FLOW_DROPS, lib.MPO_FLOW_UPS) == (
        flow_stats.SSRCS_MAX,
        flow_stats.DROPS,
        flow_stats.UPS,
    )
    assert (lib.MPO_CONFIG_OPAQUE, lib.MPO_CONFIG_DROP, lib.MPO_CONFIG_TOS) == (
        helper.CONFIG_OPAQUE,
        helper.CONFIG_DROP,
        helper.CONFIG_TOS,
    )


def test_cdef_names_every_structure_constant_and_function_of_the_headers() -> None:
    cdef = (HELPER_SOURCE / "mpo.cdef").read_text()
    headers = "".join(
        (HELPER_SOURCE / "include" / name).read_text()
        for name in ("mpo_abi.h", "mpo.h", "mpo_flow_stats.h", "mpo_load.h")
    )
    names = re.findall(r"^(?:struct (\w+) \{|#define (MPO_\w+) \d+|\w.*\b(mpo_\w+)\()", headers, re.MULTILINE)
    assert len(names) > 40
    for struct, constant, function in names:
        assert re.search(rf"\b{struct or constant or function}\b", cdef)


@pytest.mark.parametrize(
    ("face", "family"),
    [
        (helper.RelayFunctions, "mpo_relay_"),
        (rtp.RtpFunctions, "mpo_rtp_state_"),
        (flow_stats.FlowStatsFunctions, "mpo_flow_stats_"),
        (load.LoadFunctions, "mpo_load_"),
    ],
)
def test_cdef_has_the_functions_of_each_typed_face(face: type, family: str) -> None:
    cdef = (HELPER_SOURCE / "mpo.cdef").read_text()
    assert set(re.findall(rf"\b{family}\w+(?=\()", cdef)) == {name for name in dir(face) if name.startswith("mpo_")}


def test_load_result_unpacks_each_field_as_c_wrote_it() -> None:
    result = ffi.new("struct mpo_load_result *")
    names = [name for name, _ in ffi.typeof("struct mpo_load_result").fields]
    for number, name in enumerate(names):
        setattr(result, name, number + 1)
    assert load.RESULT.unpack(bytes(ffi.buffer(result))) == tuple(range(1, len(names) + 1))
    assert names[0] == "sent"
    assert names[9] == "sink_drops"
    assert names[15] == "p999_ns"
