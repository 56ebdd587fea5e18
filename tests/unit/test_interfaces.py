"""Which interface a name and a family lead to."""

from __future__ import annotations

import pytest

from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.net import AddressFamily


def interface(name: str, address: str) -> Interface:
    return Interface(name, address, address, 30000, 30999)


PUBLIC4 = interface("pub", "203.0.113.10")
PUBLIC6 = interface("pub", "2001:db8:aa::10")
PRIVATE = interface("priv", "198.51.100.10")


def test_there_must_be_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Interfaces([])


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        (None, AddressFamily.IP4, PUBLIC4),
        (None, AddressFamily.IP6, PUBLIC6),
        ("pub", AddressFamily.IP6, PUBLIC6),
        ("priv", AddressFamily.IP4, PRIVATE),
    ],
)
def test_known_name_and_family_give_that_address(name: str | None, family: AddressFamily, expected: Interface) -> None:
    choice = Interfaces([PUBLIC4, PUBLIC6, PRIVATE]).choose(name, family)
    assert choice.interface is expected
    assert choice.warning is None


def test_default_of_another_family_comes_from_any_interface() -> None:
    assert Interfaces([PRIVATE, PUBLIC6]).choose(None, AddressFamily.IP6).interface is PUBLIC6


def test_default_of_a_family_that_no_interface_has_warns() -> None:
    choice = Interfaces([PUBLIC4, PRIVATE]).choose(None, AddressFamily.IP6)
    assert choice.interface is PUBLIC4
    assert choice.warning == "interface pub has no IPv6 address, using its other family"


def test_named_interface_without_the_family_keeps_the_name_and_warns() -> None:
    choice = Interfaces([PUBLIC4, PUBLIC6, PRIVATE]).choose("priv", AddressFamily.IP6)
    assert choice.interface is PRIVATE
    assert choice.warning == "interface priv has no IPv6 address, using its other family"


def test_unknown_name_falls_back_to_the_first_and_warns() -> None:
    choice = Interfaces([PUBLIC4, PRIVATE]).choose("dmz", AddressFamily.IP4)
    assert choice.interface is PUBLIC4
    assert choice.warning == "interface dmz is not configured, using pub"


def test_internal_and_external_mean_families_where_nothing_has_these_names() -> None:
    interfaces = Interfaces([PUBLIC4, PUBLIC6])
    assert interfaces.choose("external", AddressFamily.IP4).interface is PUBLIC6
    assert interfaces.choose("internal", AddressFamily.IP6).interface is PUBLIC4
    named = Interfaces([PUBLIC4, PUBLIC6, interface("internal", "10.0.0.1")])
    assert named.choose("external", AddressFamily.IP4).warning is not None
