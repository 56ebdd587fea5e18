"""Devices, names and defaults turned into addresses; nothing here asks the real host."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from mediaproxy.backends.netlink import HostNetwork, LocalAddress
from mediaproxy.config import (
    Addresses,
    ConfigProblemsError,
    has_default_port_range,
    load_configuration,
    port_range_warning,
    resolve_addresses,
)
from mediaproxy.config.resolve import look_up
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint

LOOPBACK = (LocalAddress("lo", "127.0.0.1", 8, loopback=True), LocalAddress("lo", "::1", 128, loopback=True))
HOST = HostNetwork(
    (
        *LOOPBACK,
        LocalAddress("eth0", "10.1.2.3", 24),
        LocalAddress("eth0", "2001:db8::3", 64),
        LocalAddress("eth0", "fe80::3", 64, link_local=True),
        LocalAddress("wg0", "fe80::4", 64, link_local=True),
    ),
    default_address="10.1.2.3",
)
PUBLIC_HOST = HostNetwork((*LOOPBACK, LocalAddress("eth0", "8.8.4.4", 24)), "8.8.4.4")
NAMES = {"relay.example": ["10.1.2.3", "2001:db8::3"], "localhost": ["127.0.0.1", "::1"]}


def resolve(*arguments: str, host: HostNetwork = HOST, local: bool = True) -> Addresses:
    configuration = load_configuration(["--config-file=none", *arguments], {})
    return resolve_addresses(configuration, host, lookup=lambda name: NAMES.get(name, []), is_local=lambda _: local)


def found(addresses: Addresses) -> list[tuple[str, str, str]]:
    return [(interface.name, interface.address, interface.advertised) for interface in addresses.interfaces]


def problem(*arguments: str, host: HostNetwork = HOST) -> str:
    with pytest.raises(ConfigProblemsError) as caught:
        resolve(*arguments, host=host)
    return str(caught.value)


def test_nothing_configured_takes_the_default_routes_address_and_says_so() -> None:
    addresses = resolve()
    assert addresses.interfaces == (Interface("default", "10.1.2.3", "10.1.2.3", 30000, 40000),)
    assert addresses.control == (Endpoint("127.0.0.1", 2223),)
    assert addresses.notes == ("interface: none configured, media uses the default route's address 10.1.2.3",)
    assert addresses.warnings == ()


def test_nothing_configured_without_a_default_route_takes_loopback_and_says_so() -> None:
    addresses = resolve(host=HostNetwork(LOOPBACK, None))
    assert found(addresses) == [("default", "127.0.0.1", "127.0.0.1")]
    assert "no default route" in addresses.notes[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", [("default", "192.0.2.1", "192.0.2.1")]),
        ("pub/192.0.2.1!198.51.100.1", [("pub", "192.0.2.1", "198.51.100.1")]),
        ("pub/eth0", [("pub", "10.1.2.3", "10.1.2.3"), ("pub", "2001:db8::3", "2001:db8::3")]),
        ("eth0!198.51.100.1", [("default", "10.1.2.3", "198.51.100.1"), ("default", "2001:db8::3", "2001:db8::3")]),
        ("any", [("default", "10.1.2.3", "10.1.2.3"), ("default", "2001:db8::3", "2001:db8::3")]),
        ("lo", [("default", "127.0.0.1", "127.0.0.1"), ("default", "::1", "::1")]),
        ("a/relay.example", [("a", "10.1.2.3", "10.1.2.3"), ("a", "2001:db8::3", "2001:db8::3")]),
    ],
)
def test_interface_is_looked_up(value: str, expected: list[tuple[str, str, str]]) -> None:
    assert found(resolve(f"--interface={value}")) == expected


def test_interfaces_keep_their_order_and_ranges_and_lose_repeats() -> None:
    addresses = resolve(
        "-i", "b/10.1.2.3@50000-50009", "-i", "a/10.1.2.3", "-i", "a/eth0", "-m", "40000", "-M", "41001"
    )
    assert addresses.interfaces == (
        Interface("b", "10.1.2.3", "10.1.2.3", 50000, 50009),
        Interface("a", "10.1.2.3", "10.1.2.3", 40000, 41001),
        Interface("a", "2001:db8::3", "2001:db8::3", 40000, 41001),
    )


@pytest.mark.parametrize(
    ("ranges", "warned"),
    [
        (("30000-30999", "30500-31999"), True),
        (("30000-30999", "30999-31999"), True),
        (("30000-30999", "30000-30999"), False),
        (("30000-30999", "31000-31999"), False),
    ],
)
def test_overlapping_ranges_of_one_address_are_warned_of(ranges: tuple[str, str], warned: bool) -> None:
    addresses = resolve("-i", f"a/10.1.2.3@{ranges[0]}", "-i", f"b/10.1.2.3@{ranges[1]}")
    assert any("a and b have overlapping port ranges on 10.1.2.3" in text for text in addresses.warnings) is warned


def test_address_that_is_not_ours_is_warned_of() -> None:
    (warning,) = resolve("-i", "pub/192.0.2.1", local=False).warnings
    assert "pub/192.0.2.1: this host has no such address" in warning


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("eth7", "interface: default/eth7: 'eth7' is neither a device with an address (there are: lo, eth0, wg0)"),
        ("wg0", "interface: default/wg0: device wg0 has no address that others could send to"),
    ],
)
def test_unknown_device_is_refused_by_name(value: str, text: str) -> None:
    assert problem(f"--interface={value}").startswith(f"command line: {text}")


def test_any_without_addresses_is_refused() -> None:
    assert "no address but loopback" in problem("--interface=any", host=HostNetwork(LOOPBACK, None))


@pytest.mark.parametrize(
    ("arguments", "control"),
    [
        (["-n", "[::1]:5"], [Endpoint("::1", 5)]),
        (["-n", "127.0.0.1:5", "-n", "10.1.2.3:5"], [Endpoint("127.0.0.1", 5), Endpoint("10.1.2.3", 5)]),
        (["-n", "localhost:5", "-n", "127.0.0.1:5"], [Endpoint("127.0.0.1", 5)]),
        (["-n", "5"], [Endpoint("0.0.0.0", 5), Endpoint("::", 5)]),
    ],
)
def test_control_listeners_are_looked_up(arguments: list[str], control: list[Endpoint]) -> None:
    assert list(resolve(*arguments).control) == control


def test_control_on_all_addresses_of_a_host_without_ipv6_is_ipv4_only() -> None:
    host = HostNetwork((LOOPBACK[0], LocalAddress("eth0", "10.0.0.1", 8)), "10.0.0.1")
    assert resolve("-n", "5", host=host).control == (Endpoint("0.0.0.0", 5),)


def test_unknown_control_host_is_refused_by_name() -> None:
    assert problem("-n", "nowhere.example:5") == (
        "command line: listen-ng: nowhere.example:5: 'nowhere.example' is no host name that can be looked up"
    )


def allows(addresses: Addresses, peer: str) -> bool:
    return any(ipaddress.ip_address(peer) in network for network in addresses.control_peers)


def test_loopback_control_takes_this_host_only_and_is_not_open() -> None:
    addresses = resolve()
    assert not addresses.open_control
    assert {peer: allows(addresses, peer) for peer in ("127.0.0.9", "::1", "10.1.2.3", "10.1.2.4", "8.8.8.8")} == {
        "127.0.0.9": True,
        "::1": True,
        "10.1.2.3": True,
        "10.1.2.4": False,
        "8.8.8.8": False,
    }


def test_control_without_a_list_takes_neighbours_and_private_ranges() -> None:
    host = HostNetwork(
        (*LOOPBACK, LocalAddress("eth0", "8.8.4.4", 24), LocalAddress("eth1", "10.1.2.3", 24)), "8.8.4.4"
    )
    addresses = resolve("-n", "10.1.2.3:5", host=host)
    assert addresses.open_control
    peers = ("127.0.0.1", "8.8.4.9", "10.99.0.1", "192.168.7.7", "172.16.0.1", "100.64.0.1", "fd00::1", "8.8.8.8")
    assert [allows(addresses, peer) for peer in peers] == [True, True, True, True, True, True, True, False]


def test_allow_list_is_all_that_counts_beside_this_host() -> None:
    addresses = resolve("-n", "10.1.2.3:5", "--allow=192.0.2.0/24")
    assert not addresses.open_control
    assert [allows(addresses, peer) for peer in ("192.0.2.1", "10.1.2.3", "127.0.0.1", "10.1.2.4")] == [
        True,
        True,
        True,
        False,
    ]


def test_wildcard_control_on_a_public_host_needs_a_list() -> None:
    text = problem("-n", "5", host=PUBLIC_HOST)
    assert "listen-ng: 0.0.0.0:5 would take requests on the public address 8.8.4.4: give --allow" in text
    assert resolve("-n", "5", "--allow=8.8.8.8", host=PUBLIC_HOST).control[0] == Endpoint("0.0.0.0", 5)


@pytest.mark.parametrize(
    ("ports", "reserved", "expected"),
    [
        ((30000, 32767), "", None),
        ((30000, 40000), "", "ports 32768-40000 of the media range 30000-40000"),
        ((61000, 62000), "", None),
        ((30000, 40000), "30000-40000,50000", None),
        ((30000, 40000), "33000", "ports 32768-40000"),
    ],
)
def test_port_range_shared_with_the_kernels_is_warned_of(
    tmp_path: Path, ports: tuple[int, int], reserved: str, expected: str | None
) -> None:
    ephemeral, reserved_ports = tmp_path / "range", tmp_path / "reserved"
    ephemeral.write_text("32768\t60999\n")
    reserved_ports.write_text(f"{reserved}\n")
    warning = port_range_warning([Interface("a", "10.0.0.1", "10.0.0.1", *ports)], ephemeral, reserved_ports)
    if expected is None:
        assert warning is None
    else:
        assert warning is not None
        assert warning.startswith(expected)


def test_port_range_of_an_unreadable_kernel_is_not_judged(tmp_path: Path) -> None:
    interface = Interface("a", "10.0.0.1", "10.0.0.1", 30000, 40000)
    assert port_range_warning([interface], tmp_path / "a", tmp_path / "b") is None


def test_look_up_of_an_address_or_nothing_needs_no_network() -> None:
    assert look_up("192.0.2.7") == ["192.0.2.7"]
    assert look_up("no.such.name.invalid") == []
    assert look_up("a" * 70 + ".example") == []  # not even a possible name


@pytest.mark.parametrize(
    ("arguments", "is_default"),
    [([], True), (["-i", "10.0.0.1"], True), (["-M", "40000"], False), (["-i", "10.0.0.1@30000-40000"], False)],
)
def test_port_range_is_the_default_if_nobody_chose_one(arguments: list[str], is_default: bool) -> None:
    assert has_default_port_range(load_configuration(["--config-file=none", *arguments], {})) is is_default
