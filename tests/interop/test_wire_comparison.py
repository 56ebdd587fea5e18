"""The judge of the demo is judged: each kind of harm is seen and counted."""

from __future__ import annotations

import dataclasses

from tests.support.tshark import Passage, WirePacket, compare

_SENT = [
    WirePacket(
        float(index), ("10.0.0.1", 6000), ("10.0.0.2", 30000), False, 0x1234, (65530 + index) % 65536, f"{index:02x}"
    )
    for index in range(20)
]


def test_compare_same_packets_is_perfect_across_the_wrap() -> None:
    passage = compare(_SENT, _SENT)
    assert passage == Passage(sent=20, received=20, lost=0, duplicated=0, reordered=0, altered=0, foreign=0)
    assert passage.perfect


def test_compare_missing_packets_are_lost() -> None:
    passage = compare(_SENT, _SENT[:5] + _SENT[8:])
    assert (passage.lost, passage.received) == (3, 17)
    assert not passage.perfect


def test_compare_late_packet_is_reordered_once() -> None:
    passage = compare(_SENT, [*_SENT[:5], *_SENT[6:9], _SENT[5], *_SENT[9:]])
    assert (passage.reordered, passage.lost) == (1, 0)


def test_compare_second_copy_is_duplicate() -> None:
    passage = compare(_SENT, [*_SENT, _SENT[-1]])
    assert (passage.duplicated, passage.reordered) == (1, 0)


def test_compare_changed_payload_is_altered() -> None:
    changed = dataclasses.replace(_SENT[3], payload="ff")
    assert compare(_SENT, [*_SENT[:3], changed, *_SENT[4:]]).altered == 1


def test_compare_unknown_ssrc_is_foreign() -> None:
    stranger = dataclasses.replace(_SENT[3], ssrc=0x9999)
    passage = compare(_SENT, [*_SENT, stranger])
    assert (passage.foreign, passage.lost) == (1, 0)
