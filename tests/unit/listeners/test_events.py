from __future__ import annotations

from mediaproxy.listeners.events import ALL_BURST, BURST, FORGET_AFTER, LineLimit, OnceEach


def test_each_name_passes_once() -> None:
    once = OnceEach()
    assert [once(name, 5.0) for name in "aba"] == [{}, {}, None]


def test_at_its_bound_it_says_that_further_ones_are_not_named() -> None:
    once = OnceEach(limit=2)
    assert [once(name, 5.0) for name in "abcda"] == [{}, {}, {"note": "further ones are not named"}, None, None]


def test_after_an_hour_everything_is_new_again() -> None:
    once = OnceEach(limit=1)
    assert [once(name, 5.0) for name in "abc"] == [{}, {"note": "further ones are not named"}, None]
    assert once("a", 5.0 + FORGET_AFTER - 0.1) is None
    assert once("a", 5.0 + FORGET_AFTER) == {}
    assert once("a", 6.0 + FORGET_AFTER) is None


def test_made_up_reasons_are_bounded_together_and_in_memory() -> None:
    limit = LineLimit(limit=4)
    told = [limit("192.0.2.1", str(number), 5.0) for number in range(1000)]
    assert told == [0] * ALL_BURST + [None] * (1000 - ALL_BURST)
    # 1 of the 900 that were not written is this one's own, 3 are kept for others that may come again.
    assert limit("192.0.2.1", "999", 6.0) == 897
    assert limit("192.0.2.1", "998", 6.0) == 1


def test_tokens_come_back_up_to_the_burst() -> None:
    limit = LineLimit()
    assert [limit("p", "r", 5.0) for _ in range(BURST + 1)] == [0] * BURST + [None]
    assert limit("p", "r", 5.9) is None
    assert limit("p", "r", 6.1) == 2
    assert [limit("p", "r", 9999.0) for _ in range(BURST + 1)] == [0] * BURST + [None]
