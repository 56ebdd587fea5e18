"""Slots of the statistics."""

from __future__ import annotations

from mediaproxy.datapath.flow import Slot
from mediaproxy.datapath.slots import SlotPool


def test_slots_run_out_and_come_back_with_another_generation() -> None:
    pool = SlotPool(2, [], 5)
    first, second = pool.take(), pool.take()
    assert (first, second, pool.take()) == (Slot(0, 6), Slot(1, 7), None)
    assert first is not None
    pool.give_back(first)
    assert pool.take() == Slot(0, 8)


def test_used_slots_are_not_given_out_before_they_are_given_back() -> None:
    pool = SlotPool(2, [0], 0)
    assert pool.take() == Slot(1, 1)
    assert pool.take() is None
    pool.give_back(Slot(0, 77))
    assert pool.take() == Slot(0, 2)


def test_generation_is_never_zero() -> None:
    pool = SlotPool(2, [], 0xFFFFFFFF)
    assert pool.take() == Slot(0, 1)
