from __future__ import annotations

import pytest

from mediaproxy.ng.cookies import ReplyCache


def test_reply_is_found_by_cookie_and_peer_only() -> None:
    cache = ReplyCache()
    cache.put(b"c", "192.0.2.1", b"c reply", 100.0)
    assert cache.get(b"c", "192.0.2.1", 101.0) == b"c reply"
    assert cache.get(b"c", "192.0.2.2", 101.0) is None
    assert cache.get(b"d", "192.0.2.1", 101.0) is None


@pytest.mark.parametrize("start", [0.0, 3.0, 29.9, 30.0, 44.5, 59.9])
@pytest.mark.parametrize("step", [0.25, 7.0, 29.0, 31.0])
def test_reply_lives_at_least_30_and_less_than_60_seconds(start: float, step: float) -> None:
    cache = ReplyCache()
    cache.put(b"other", "peer", b"-", 0.0)
    cache.put(b"c", "peer", b"reply", start)
    moment = start
    while moment < start + 120:
        found = cache.get(b"c", "peer", moment) is not None
        if moment - start <= 30:
            assert found
        if moment - start >= 60:
            assert not found
        moment += step


def test_reply_of_an_idle_server_is_forgotten() -> None:
    cache = ReplyCache()
    cache.put(b"c", "peer", b"reply", 1000.0)
    assert cache.get(b"c", "peer", 5000.0) is None
    assert len(cache) == 0


def test_entries_are_bounded_and_the_latest_stay() -> None:
    cache = ReplyCache(max_entries=100)
    for number in range(1000):
        cache.put(b"%d" % number, "peer", b"reply", 1.0)
        assert len(cache) <= 100
    assert cache.evicted >= 900
    assert all(cache.get(b"%d" % number, "peer", 1.0) for number in range(950, 1000))


def test_bytes_are_bounded() -> None:
    cache = ReplyCache(max_bytes=1_000_000)
    for number in range(100):
        cache.put(b"%d" % number, "peer", b"x" * 60_000, 1.0)
        assert len(cache) <= 16
    assert cache.evicted >= 84
    assert cache.get(b"99", "peer", 1.0) is not None


def test_reply_larger_than_the_bound_is_kept_alone() -> None:
    cache = ReplyCache(max_bytes=1000)
    for number in range(10):
        cache.put(b"%d" % number, "peer", b"x" * 60_000, 1.0)
    assert len(cache) <= 2
