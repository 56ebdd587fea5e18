"""The names of chains: what the kernel takes, and nobody else's."""

from __future__ import annotations

import pytest

from mediaproxy.backends.iptables_chains import base_name
from mediaproxy.backends.xtables import MAX_CHAIN_NAME


@pytest.mark.parametrize(
    "instance", ["a", "default", "eleven_char", "a very long name of an instance", "a.b", "ü" * 30]
)
def test_every_chain_of_an_instance_fits(instance: str) -> None:
    longest = f"{base_name(instance)}.DR7ff"
    assert len(longest.encode("ascii")) <= MAX_CHAIN_NAME


def test_no_instance_begins_with_the_chains_of_another() -> None:
    names = [base_name(instance) for instance in ("a", "a.R", "a_R", "a.D", "long_instance_one", "long_instance_two")]
    assert len(set(names)) == len(names)
    assert not any(two.startswith(f"{one}.") for one in names for two in names)
