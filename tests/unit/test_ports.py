"""Port pairs: order, quarantine, and nothing lost."""

from __future__ import annotations

from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.ports import PortPool, PortPools


def test_freed_pair_goes_to_the_tail() -> None:
    pool = PortPool([30000, 30002, 30004], quarantine=60.0)
    first = pool.take(0.0)
    assert first == 30000
    pool.give_back(first, 1.0)
    assert [pool.take(100.0) for _ in range(3)] == [30002, 30004, 30000]
    assert pool.take(100.0) is None


def test_young_pair_is_taken_when_nothing_else_is_left_and_counted() -> None:
    pool = PortPool([30000, 30002], quarantine=60.0)
    for moment in (1.0, 2.0):
        port = pool.take(0.0)
        assert port is not None
        pool.give_back(port, moment)
    assert pool.take(10.0) == 30000, "the oldest of the young"
    assert pool.young_taken == 1
    assert pool.take(62.0) == 30002
    assert pool.young_taken == 1


def test_busy_pair_is_tried_last_and_an_unused_one_first() -> None:
    pool = PortPool([30000, 30002, 30004], quarantine=60.0)
    busy = pool.take(0.0)
    assert busy == 30000
    pool.set_aside(busy)
    unused = pool.take(0.0)
    assert unused == 30002
    pool.put_back(unused)
    assert [pool.take(0.0) for _ in range(3)] == [30002, 30004, 30000]
    assert pool.busy == 1
    assert pool.young_taken == 0


def test_pools_hold_whole_pairs_of_the_range_only() -> None:
    odd = Interface("a", "192.0.2.1", "192.0.2.1", 30001, 30006)
    pools = PortPools(Interfaces([odd]), 60.0, lambda ports: None)
    assert [pools.of(odd).take(0.0) for _ in range(3)] == [30002, 30004, None]


def test_interfaces_with_one_address_and_range_share_a_pool() -> None:
    public = Interface("public", "192.0.2.1", "203.0.113.1", 30000, 30009)
    private = Interface("private", "192.0.2.1", "192.0.2.1", 30000, 30009)
    other = Interface("other", "192.0.2.2", "192.0.2.2", 30000, 30009)
    pools = PortPools(Interfaces([public, private, other]), 60.0, lambda ports: ports.reverse())
    assert pools.of(public) is pools.of(private)
    assert pools.of(other) is not pools.of(public)
    assert pools.of(public).take(0.0) == 30008
