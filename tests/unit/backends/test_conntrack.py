"""Messages of ctnetlink: what is asked, and what is understood of an answer."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.backends import conntrack
from mediaproxy.backends.conntrack import Entry, Tuple

V4 = Tuple(socket.inet_aton("192.0.2.1"), 1000, socket.inet_aton("192.0.2.2"), 2000, 33000)
V6 = Tuple(socket.inet_pton(socket.AF_INET6, "fd00::1"), 1, socket.inet_pton(socket.AF_INET6, "fd00::2"), 2, 1)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


@pytest.mark.parametrize("about", [V4, V6])
def test_a_question_and_the_answer_name_the_same_entry(about: Tuple) -> None:
    counters = attribute(1, struct.pack(">Q", 7)) + attribute(2, struct.pack(">Q", 1 << 40))
    body = (
        bytes(4)
        + conntrack._attributes(about)
        + attribute(12, struct.pack(">I", 99))
        + attribute(9 | 0x8000, counters)
        + attribute(3, struct.pack(">I", 0x24))
    )
    entry = conntrack._entry(memoryview(body))
    assert entry == Entry(about, identity=99, packets=7, bytes=1 << 40, status=0x24)
    assert entry is not None
    assert entry.assured
    assert entry.translated


def test_other_protocols_are_passed_over() -> None:
    body = bytes(4) + conntrack._attributes(V4).replace(b"\x05\x00\x01\x00\x11", b"\x05\x00\x01\x00\x06")
    assert conntrack._entry(memoryview(body)) is None


@given(st.binary(max_size=200))
def test_attributes_of_any_bytes_come_to_an_end(data: bytes) -> None:
    conntrack._nested(memoryview(data))
