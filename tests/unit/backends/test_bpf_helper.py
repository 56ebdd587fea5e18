"""The typed face of the eBPF side: numbers and layouts agree with ``mpo_bpf.h`` and ``mpo_abi.h``."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest
from _mediaproxy_offload import ffi, lib

from mediaproxy.backends.helper import bpf as helper
from mediaproxy.backends.helper.bpf import Hook, Program
from mediaproxy.backends.tap import TapReader
from mediaproxy.errors import OffloadError

HEADER = Path(__file__).parents[3] / "kernel_offload" / "include" / "mpo_bpf.h"


@pytest.mark.parametrize(("kind", "prefix"), [(Hook, "MPO_HOOK_"), (Program, "MPO_PROGRAM_")])
def test_numbers_are_those_of_c(kind: type[IntEnum], prefix: str) -> None:
    in_c = {name: getattr(lib, name) for name in dir(lib) if name.startswith(prefix)}
    assert in_c == {f"{prefix}{member.name}": member.value for member in kind}


def test_abi_number_is_that_of_c() -> None:
    assert lib.MPO_BPF_ABI == helper.ABI


def test_every_function_of_the_header_is_declared_for_cffi() -> None:
    names = set(re.findall(r"\b(mpo_(?:bpf|tap)_\w+)\(struct|\b(mpo_bpf_\w+)\(", HEADER.read_text(encoding="utf-8")))
    functions = {name for pair in names for name in pair if name}
    assert functions
    assert [name for name in sorted(functions) if not hasattr(lib, name)] == []


def test_tap_record_unpacks_each_field_as_c_wrote_it() -> None:
    record = ffi.new("struct mpo_tap_record *")
    record.local.address, record.local.port = bytes(range(16)), 5004
    record.slot, record.generation, record.ifindex, record.when_ns = 1, 2, 3, 1 << 40
    record.length, record.packet_length = 5, 6
    unpacked = helper.TAP_RECORD.unpack(ffi.buffer(record))
    assert unpacked == (bytes(range(16)), 5004, 1, 2, 3, 1 << 40, 5, 6)


def test_descriptor_that_is_no_ring_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(OffloadError):
        TapReader(file.fileno())


def test_tap_reader_unpacks_records_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    records = b""
    for length in (1, 8, 21):
        packed = helper.TAP_RECORD.pack(bytes(10) + b"\xff\xff\n\0\0\1", 4000, 1, 2, 3, 1_500_000_000, length, 100)
        body = bytes([length]) * length
        records += packed + body + bytes(-(len(packed) + length) % 8)
    waiting = [records, b""]

    def take(tap: object, buffer: bytearray) -> int:
        record = waiting.pop(0)
        buffer[: len(record)] = record
        return len(record)

    monkeypatch.setattr(helper, "open_tap", lambda fd: object())
    monkeypatch.setattr(helper, "take_tap", take)
    taken = list(TapReader(0).take())
    assert [copy.packet for copy in taken] == [bytes([length]) * length for length in (1, 8, 21)]
    assert {(str(copy.local), copy.when, copy.length) for copy in taken} == {("10.0.0.1:4000", 1.5, 100)}
