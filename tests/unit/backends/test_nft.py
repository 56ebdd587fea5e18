"""The nft backend without a kernel: how it refuses, and what it says. All else is in ``tests/kernel``."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBUSY

import pytest

from mediaproxy.backends import nft
from mediaproxy.backends.helper import nft as helper
from mediaproxy.backends.kernel_backend import BackendSettings
from mediaproxy.backends.nft import open_nft
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError


@pytest.mark.parametrize("instance", ["", "a b", 'x"', "é", "a" * 65])
def test_an_instance_that_cannot_be_part_of_a_name_is_refused(instance: str) -> None:
    with pytest.raises(OffloadError, match="instance"):
        open_nft(BackendSettings(instance, None, 16))


def test_no_slots_are_refused() -> None:
    with pytest.raises(OffloadError):
        open_nft(BackendSettings("unit", None, 0))


class FakeNft:
    """The C functions of a table: each check takes the next of ``seen``, each rebuild the next of ``rebuilds``."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.rebuilds: list[int] = []

    def mpo_nft_check(self, table: object) -> int:
        return self.seen.pop(0) if self.seen else 0

    def mpo_nft_rebuild(self, table: object) -> int:
        return self.rebuilds.pop(0)

    def mpo_nft_poll(self, table: object) -> int:
        return 0

    def mpo_nft_leave(self, table: object) -> None:
        pass


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> FakeNft:
    table = FakeNft()
    monkeypatch.setattr(nft, "functions", table)
    monkeypatch.setattr(helper, "open_nft", lambda *_: (0, "", object()))
    monkeypatch.setattr(helper, "attach", lambda *_: (0, []))
    return table


@pytest.fixture
def backend(table: FakeNft) -> Iterator[nft.NftBackend]:
    backend = nft.NftBackend(BackendSettings("unit", None, 16))
    yield backend
    backend.leave()


def kinds(events: list[DatapathEvent]) -> list[tuple[DatapathEventKind, bool]]:
    return [(event.kind, event.flows_gone) for event in events]


def test_flows_that_are_gone_are_told_though_the_table_cannot_be_made_again(
    table: FakeNft, backend: nft.NftBackend
) -> None:
    table.seen = [helper.GONE]
    table.rebuilds = [-EBUSY, -EBUSY, 0]
    assert kinds(backend.check()) == [(DatapathEventKind.LOST, True)]
    with pytest.raises(OffloadError, match="its table"):
        backend.check()
    assert kinds(backend.check()) == [(DatapathEventKind.LOST, True), (DatapathEventKind.RESTORED, False)]
    assert backend.check() == []


def test_table_that_was_changed_is_made_again_though_its_change_is_seen_once(
    table: FakeNft, backend: nft.NftBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.seen = [helper.FOREIGN]
    table.rebuilds = [0, 0]
    with monkeypatch.context() as patched:
        patched.setattr(helper, "attach", lambda *_: (-EBUSY, []))
        assert kinds(backend.check()) == [(DatapathEventKind.LOST, True)]
    assert kinds(backend.check()) == [(DatapathEventKind.LOST, True), (DatapathEventKind.RESTORED, False)]
