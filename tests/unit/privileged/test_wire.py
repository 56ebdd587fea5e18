"""Frames: what is written is read, and any bytes are parsed or refused by name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.backends.flow_records import CHANGE
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.privileged.wire import (
    EVENT_KINDS,
    HEAD,
    MAX_FRAME,
    MAX_RECORDS,
    MAX_TEXT,
    Frame,
    Kind,
    WireError,
    event_frame,
    pack_frame,
    pack_results,
    parse_event,
    parse_frame,
    parse_results,
    parse_text,
)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.SETTINGS, 1, b"{}"),
        Frame(Kind.APPLY, 2**32 - 1, bytes(CHANGE.size)),
        Frame(Kind.APPLY, 7, bytes(CHANGE.size * MAX_RECORDS)),
        Frame(Kind.DUMP, 3),
        Frame(Kind.RECORDS, 3, b"", 1),
        Frame(Kind.RESULTS, 3, pack_results([0, -1])),
        Frame(Kind.DONE, 3),
        Frame(Kind.TRACEBACK, 0, b"x"),
        Frame(Kind.TAKEN_OUT, 0, bytes(2 * CHANGE.size)),
    ],
)
def test_frame_that_is_written_is_read_the_same(frame: Frame) -> None:
    assert parse_frame(pack_frame(frame)) == frame


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (bytes(HEAD.size - 1), "7 bytes"),
        (HEAD.pack(Kind.APPLY, 0, 1) + bytes(MAX_FRAME), f"{MAX_FRAME + HEAD.size} bytes"),
        (HEAD.pack(0, 0, 1), "kind 0"),
        (HEAD.pack(6, 0, 1), "kind 6"),
        (HEAD.pack(Kind.APPLY, 0, 1), "APPLY with 0 bytes"),
        (HEAD.pack(Kind.APPLY, 0, 1) + bytes(CHANGE.size + 1), f"APPLY with {CHANGE.size + 1} bytes"),
        (HEAD.pack(Kind.TAKEN_OUT, 0, 0), "TAKEN_OUT with 0 bytes"),
        (HEAD.pack(Kind.DUMP, 0, 1) + b"x", "DUMP with 1 bytes"),
        (HEAD.pack(Kind.RESULTS, 0, 1) + b"xxx", "RESULTS with 3 bytes"),
        (HEAD.pack(Kind.SETTINGS, 0, 1) + bytes(MAX_TEXT + 1), "SETTINGS with"),
    ],
)
def test_bytes_that_are_no_frame_are_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        parse_frame(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_parsed_or_refused_by_name(data: bytes) -> None:
    try:
        frame = parse_frame(data)
    except WireError:
        return
    assert pack_frame(frame) == data
    parse_text(frame)
    if frame.kind is Kind.EVENT:
        with contextlib.suppress(WireError):
            parse_event(frame)


def test_results_are_signed() -> None:
    assert parse_results(pack_results([0, -28, 5])) == [0, -28, 5]


@pytest.mark.parametrize("kind", EVENT_KINDS)
@pytest.mark.parametrize("gone", [False, True])
def test_event_that_is_written_is_read_the_same(kind: DatapathEventKind, gone: bool) -> None:
    event = DatapathEvent(kind, "ä text", gone)
    assert parse_event(parse_frame(pack_frame(event_frame(event)))) == event


def test_event_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(WireError, match="an event of kind 9"):
        parse_event(Frame(Kind.EVENT, detail=9))


def test_text_that_is_too_long_is_cut() -> None:
    assert len(parse_frame(pack_frame(Frame(Kind.FAILED, 1, b"x" * (MAX_TEXT + 5)))).body) == MAX_TEXT
