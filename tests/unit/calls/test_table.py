"""The table's heap: one valid deadline per call, whatever happened before."""

from __future__ import annotations

from mediaproxy.calls.call import Call
from mediaproxy.calls.table import CallTable


def table_of(*call_ids: str) -> tuple[CallTable, list[Call]]:
    table = CallTable()
    calls = [Call(call_id, 0, 0.0, 0.0) for call_id in call_ids]
    for call in calls:
        table.add(call)
    return table, calls


def test_due_calls_come_in_the_order_of_their_deadlines() -> None:
    table, (one, two, three) = table_of("1", "2", "3")
    table.wake(one, 30.0)
    table.wake(two, 10.0)
    table.wake(three, 20.0)
    assert table.next_deadline() == 10.0
    assert [table.pop_due(20.0), table.pop_due(20.0), table.pop_due(20.0)] == [two, three, None]
    assert table.next_deadline() == 30.0


def test_only_the_latest_deadline_of_a_call_counts() -> None:
    table, (call,) = table_of("1")
    table.wake(call, 10.0)
    table.wake(call, 50.0)
    assert table.next_deadline() == 50.0
    assert table.pop_due(49.0) is None
    table.wake(call, None)
    assert table.next_deadline() is None


def test_removed_call_never_comes_up() -> None:
    table, (call,) = table_of("1")
    table.wake(call, 10.0)
    table.remove(call)
    assert table.pop_due(100.0) is None
    assert table.get("1") is None
    assert len(table) == 0


def test_dead_entries_do_not_pile_up() -> None:
    table, (keeper,) = table_of("keeper")
    table.wake(keeper, 1e9)
    for number in range(10_000):
        call = Call(str(number), 0, 0.0, 0.0)
        table.add(call)
        table.wake(call, 1e6 + number)
        table.remove(call)
    assert len(table._deadlines) <= 1024 + 1
    assert table.next_deadline() == 1e9
