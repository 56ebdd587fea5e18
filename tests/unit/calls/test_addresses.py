"""Which addresses media may be sent to, apart from any request."""

from __future__ import annotations

import ipaddress

import pytest

from mediaproxy.calls.addresses import AddressPolicy, Network
from mediaproxy.errors import RefusedAddressError
from mediaproxy.net import Endpoint


def networks(*texts: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in texts]


def objection(policy: AddressPolicy, address: str) -> str:
    return policy.objection(Endpoint(address, 4000))


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_unspecified_address_passes_whatever_the_lists_say(address: str) -> None:
    policy = AddressPolicy(allow=networks("192.0.2.0/24"), deny=networks("0.0.0.0/0", "::/0"))
    assert objection(policy, address) == ""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.1", ""),
        ("10.1.2.3", "denied by the media access list"),
        ("10.1.9.9", ""),
        ("10.1.9.66", "denied by the media access list"),
        ("2001:db8::1", "not in the media access list"),
    ],
)
def test_longest_prefix_of_both_lists_decides(address: str, expected: str) -> None:
    policy = AddressPolicy(
        allow=networks("0.0.0.0/0", "10.1.9.0/24"), deny=networks("10.0.0.0/8", "10.1.9.64/26", "2001:db8:9::/48")
    )
    assert objection(policy, address) == expected


def test_network_on_both_lists_is_denied_only_if_it_is_not_allowed_as_narrowly() -> None:
    policy = AddressPolicy(allow=networks("10.0.0.0/8"), deny=networks("10.0.0.0/8"))
    assert objection(policy, "10.1.1.1") == ""


@pytest.mark.parametrize("address", ["224.0.0.1", "ff0e::1", "255.255.255.255", "192.0.2.255"])
def test_allow_list_does_not_reach_everybody_at_once(address: str) -> None:
    policy = AddressPolicy(allow=networks("0.0.0.0/0", "::/0", "192.0.2.255/32"), broadcasts=["192.0.2.255"])
    assert objection(policy, address) in {"multicast", "broadcast"}


@pytest.mark.parametrize(
    ("address", "network", "why"),
    [("127.0.0.1", "127.0.0.0/8", "loopback"), ("::1", "::1/128", "loopback"), ("fe80::1", "fe80::/10", "link-local")],
)
def test_near_address_is_fine_only_if_it_is_named(address: str, network: str, why: str) -> None:
    assert objection(AddressPolicy(), address) == why
    assert objection(AddressPolicy(allow=networks("0.0.0.0/0", "::/0")), address) == why, "all is not by name"
    assert objection(AddressPolicy(allow=networks(network)), address) == ""


def test_interface_on_a_near_address_makes_near_addresses_fine() -> None:
    assert objection(AddressPolicy(local=["203.0.113.10", "fe80::5"]), "127.0.0.1") == ""


def test_control_port_is_refused_on_its_address_only() -> None:
    policy = AddressPolicy(control=[Endpoint("192.0.2.9", 2223)])
    assert policy.objection(Endpoint("192.0.2.9", 2223)) == "port 2223 there is our own control port"
    assert policy.objection(Endpoint("192.0.2.9", 2224)) == ""
    assert policy.objection(Endpoint("192.0.2.8", 2223)) == ""


def test_check_raises_with_address_and_reason() -> None:
    policy = AddressPolicy()
    policy.check(Endpoint("192.0.2.1", 4000))
    with pytest.raises(RefusedAddressError, match=r"^Refused media address 224\.1\.1\.1: multicast$"):
        policy.check(Endpoint("224.1.1.1", 4000))


def test_remembered_verdicts_are_bounded_and_stay_right() -> None:
    policy = AddressPolicy(deny=networks("10.0.0.0/9"))
    for number in range(10_000):
        policy.objection(Endpoint(str(ipaddress.IPv4Address(0x0B000000 + number)), 4000))
    assert len(policy._verdicts) <= 4096
    assert objection(policy, "10.0.0.1")
    assert objection(policy, "10.0.0.1"), "from memory"
    assert not objection(policy, "10.128.0.1")
