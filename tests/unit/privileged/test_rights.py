"""Who is meant by a user and a group; giving rights up is tested with real processes in tests/kernel."""

from __future__ import annotations

import os

import pytest

from mediaproxy.privileged.rights import (
    Identity,
    RightsError,
    effective_capabilities,
    give_up_rights,
    last_capability,
    look_up_identity,
)


def test_users_and_groups_are_found_by_name_and_number() -> None:
    assert look_up_identity("", "") is None
    root = Identity(0, 0)
    assert look_up_identity("root", "") == look_up_identity("0", "root") == root
    assert look_up_identity("root", "7") == Identity(0, 7)
    assert look_up_identity("", "7") == Identity(os.getuid(), 7)


@pytest.mark.parametrize(
    ("user", "group", "why"),
    [
        ("no-such-user", "", "user: there is no user no-such-user"),
        ("4000000000", "", "user: there is no user 4000000000"),
        ("root", "no-such-group", "group: there is no group no-such-group"),
    ],
)
def test_unknown_names_are_mistakes(user: str, group: str, why: str) -> None:
    with pytest.raises(RightsError, match=why):
        look_up_identity(user, group)


def test_rights_are_not_given_up_beside_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", lambda path: ["1", "2"])
    with pytest.raises(RightsError, match="there are threads already"):
        give_up_rights(None)


def test_capabilities_are_numbers_that_the_kernel_knows() -> None:
    assert all(number <= last_capability() for number in effective_capabilities())
