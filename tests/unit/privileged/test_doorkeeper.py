"""When the firewall is opened and closed; that it is, is in tests/kernel/test_privileges.py and test_firewall.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mediaproxy.backends.firewall import Firewall, FirewallError, FirewallReport, Opening
from mediaproxy.privileged.doorkeeper import Doors, close_doors, open_doors, openings_of
from mediaproxy.privileged.run_folder import RunFolder
from mediaproxy.privileged.settings import FirewallMode, KernelPath, PrivilegedSettings, RelayRange

SETTINGS = PrivilegedSettings("edge", KernelPath.AUTO, "/nowhere", (RelayRange("192.0.2.1", 30000, 30999),), 8)
MANAGED = replace(SETTINGS, firewall=FirewallMode.MANAGE)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_openings_are_the_relay_ranges() -> None:
    assert openings_of(SETTINGS.relays) == [Opening("media", "192.0.2.1", 30000, 30999, media=True)]


def test_what_was_opened_is_told(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Firewall, "manage", lambda self: FirewallReport(("input",), ("nft",), ("it arrived",)))
    assert open_doors(MANAGED, folder) == Doors(("nft", "it arrived"))
    assert folder.has_leftovers


@pytest.mark.parametrize(
    ("error", "problem"), [(FirewallError("shut"), "shut"), (ValueError("oops"), "ValueError: oops")]
)
def test_what_went_wrong_is_told(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    def fail(self: Firewall) -> FirewallReport:
        raise error

    monkeypatch.setattr(Firewall, "manage", fail)
    assert open_doors(MANAGED, folder) == Doors(problem=problem)


def test_child_that_dies_is_told(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Firewall, "manage", lambda self: os._exit(1))
    assert open_doors(MANAGED, folder) == Doors(problem="ended while it was at the firewall")


def test_only_what_was_opened_is_closed(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Firewall, "withdraw", lambda self: (tmp_path / "withdrawn").touch())
    assert open_doors(SETTINGS, folder) == Doors()
    close_doors(SETTINGS, folder)
    assert not (tmp_path / "withdrawn").exists()
    folder.mark("firewall")
    assert open_doors(SETTINGS, folder) == Doors()  # by a daemon that died
    assert (tmp_path / "withdrawn").exists()
    assert not folder.has_mark("firewall")


def test_what_could_not_be_closed_is_not_forgotten(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Firewall) -> int:
        raise FirewallError("busy")

    monkeypatch.setattr(Firewall, "withdraw", fail)
    folder.mark("firewall")
    close_doors(MANAGED, folder)
    assert folder.has_mark("firewall")
