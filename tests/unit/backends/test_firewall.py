"""What manage does with what it finds, with variants that are not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from mediaproxy.backends import firewall as module
from mediaproxy.backends.firewall import Firewall, FirewallError, Opening, Proof

OPENING = Opening("media", "192.0.2.1", 30000, 30099, media=True)
CONTROL = Opening("control", "192.0.2.1", 2223, 2223)


@dataclass
class FakeVariant:
    """Rules that are a list."""

    name: str
    held: list[str] = field(default_factory=list)
    rules: list[Opening] = field(default_factory=list)
    error: str = ""
    locked: str = ""

    def holds(self) -> list[str]:
        return self.held

    def insert(self, openings: Sequence[Opening]) -> None:
        self.rules += openings
        if self.error:
            raise FirewallError(self.error)

    def withdraw(self) -> int:
        if self.locked:
            raise FirewallError(self.locked)
        count = len(self.rules)
        self.rules.clear()
        return count


Variants = tuple[FakeVariant, FakeVariant, FakeVariant]


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Variants:
    fakes = FakeVariant("one"), FakeVariant("two", ["chain two"]), FakeVariant("three", ["chain three"])
    for name, fake in zip(("Legacy", "IptablesNft", "NativeNft"), fakes, strict=True):
        kind = type(name, (FakeVariant,), {"__new__": lambda cls, *_, fake=fake: fake})
        monkeypatch.setattr(module, name, kind)
    return fakes


def passed(opening: Opening) -> Proof:
    return Proof(True, f"{opening.address} is open")


def test_only_media_goes_where_rules_are(variants: Variants) -> None:
    variants[1].rules.append(OPENING)  # of a dead instance
    report = Firewall("x", [OPENING, CONTROL], passed).manage()
    assert [fake.rules for fake in variants] == [[], [OPENING], [OPENING]]
    assert report == module.FirewallReport(("chain two", "chain three"), ("two", "three"), ("192.0.2.1 is open",))


def test_a_packet_that_does_not_pass_takes_all_back(variants: Variants) -> None:
    with pytest.raises(FirewallError, match=r"shut.*chain two; chain three"):
        Firewall("x", [OPENING], lambda _: Proof(False, "shut")).manage()
    assert [fake.rules for fake in variants] == [[], [], []]


def test_a_refused_rule_takes_all_back(variants: Variants) -> None:
    variants[2].error = "table three: not permitted"
    with pytest.raises(FirewallError, match="table three: not permitted"):
        Firewall("x", [OPENING], passed).manage()
    assert [fake.rules for fake in variants] == [[], [], []]


def test_what_could_not_be_tried_is_no_failure(variants: Variants) -> None:
    report = Firewall("x", [OPENING], lambda _: Proof(None, "not tried: why")).manage()
    assert report.proofs == ("not tried: why",)
    assert variants[1].rules == [OPENING]


def test_a_place_that_cannot_be_changed_keeps_no_other_open(variants: Variants) -> None:
    variants[0].locked = "table one: busy"
    variants[2].rules.append(OPENING)
    with pytest.raises(FirewallError, match="table one: busy"):
        Firewall("x", [OPENING], passed).withdraw()
    assert variants[2].rules == []
