from __future__ import annotations

import ipaddress

import pytest

from mediaproxy.listeners.access import AccessList


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("203.0.113.7", False),
        ("::1", True),
        ("fe80::1", True),
        ("2001:db8::1", False),
    ],
)
def test_only_listed_networks_are_allowed(address: str, allowed: bool) -> None:
    access = AccessList(map(ipaddress.ip_network, ("127.0.0.0/8", "10.0.0.0/8", "::1", "fe80::/10")))
    for _ in range(2):
        assert access.allows(address) is allowed


def test_answers_stay_right_when_more_peers_ask_than_are_remembered() -> None:
    access = AccessList([ipaddress.ip_network("10.0.0.0/9")])
    for number in range(10_000):
        assert access.allows(f"10.{number % 256}.{number // 256}.1") is (number % 256 < 128)


def test_empty_list_allows_nobody() -> None:
    assert not AccessList([]).allows("127.0.0.1")
