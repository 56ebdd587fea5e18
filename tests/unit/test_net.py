"""Address literals and endpoints."""

from __future__ import annotations

import pytest

from mediaproxy.net import AddressFamily, Endpoint, family_of, is_unspecified, parse_address


@pytest.mark.parametrize(
    ("text", "canonical", "family"),
    [
        ("192.0.2.1", "192.0.2.1", AddressFamily.IP4),
        ("2001:DB8:0:0::1", "2001:db8::1", AddressFamily.IP6),
        ("::ffff:192.0.2.1", "192.0.2.1", AddressFamily.IP4),
        ("::", "::", AddressFamily.IP6),
    ],
)
def test_literal_becomes_canonical(text: str, canonical: str, family: AddressFamily) -> None:
    assert parse_address(text) == (canonical, family)
    assert family_of(canonical) is family


@pytest.mark.parametrize("text", ["", "host.example", "[::1]", "fe80::1%eth0", "192.0.2", "192.0.2.01", "1.2.3.4 "])
def test_anything_but_a_plain_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_address(text)


@pytest.mark.parametrize("family", AddressFamily)
def test_unspecified_address_is_known_as_such(family: AddressFamily) -> None:
    assert is_unspecified(family.unspecified)
    assert family_of(family.unspecified) is family


def test_other_addresses_are_specified() -> None:
    assert not is_unspecified("192.0.2.1")
    assert not is_unspecified("::1")


def test_families_have_the_names_of_query() -> None:
    assert [family.long_name for family in AddressFamily] == ["IPv4", "IPv6"]


def test_endpoint_is_written_as_people_expect() -> None:
    assert str(Endpoint("192.0.2.1", 9000)) == "192.0.2.1:9000"
    assert str(Endpoint("2001:db8::1", 9000)) == "[2001:db8::1]:9000"
    assert Endpoint("2001:db8::1", 9000).family is AddressFamily.IP6
