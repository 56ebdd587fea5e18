"""A kernel backend is given its flows and asked for its counters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import pytest

from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.kernel_candidate import KernelCandidate
from mediaproxy.bench.lab import Device, Lab
from mediaproxy.errors import OffloadError
from tests.unit.bench.fakes import FakeBackend


class _FakeNamespace:
    def __init__(self) -> None:
        self.sysctls: dict[str, object] = {}

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        yield

    def set_sysctls(self, values: dict[str, object]) -> None:
        self.sysctls |= values


class _FakeLab:
    addresses = 2

    def __init__(self) -> None:
        self.relay = _FakeNamespace()
        self.relay_devices = [Device("ra", 2, "02:00:00:00:00:01", 1500), Device("rb", 3, "02:00:00:00:00:02", 1400)]

    def local_address(self, side: int, number: int) -> str:
        return f"10.199.{1 + side}.{1 + number}"

    def agent_address(self, side: int) -> str:
        return f"10.199.{1 + side}.250"

    def relay_napi_ns(self) -> int:
        return 7


class _Opened:
    """Opens one fake backend and keeps it."""

    backend: FakeBackend

    def __init__(self, room: int = 10**6) -> None:
        self._room = room

    def __call__(self, settings: BackendSettings) -> KernelBackend:
        self.backend = FakeBackend(settings.slots, self._room)
        return cast(KernelBackend, self.backend)


def _candidate(opener: _Opened) -> tuple[KernelCandidate, _FakeLab]:
    lab = _FakeLab()
    return KernelCandidate("fake", cast(Lab, lab), opener, forwarding=True), lab


def test_open_sets_both_flows_of_every_call_with_their_way_out() -> None:
    opener = _Opened()
    candidate, lab = _candidate(opener)
    with candidate.open(3) as opened:
        assert len(opener.backend.flows) == len(opened.flows) == 6
        assert opener.backend.flows[0] == ("10.199.2.250:2000", 3)
        assert opener.backend.flows[1] == ("10.199.1.250:2000", 2)
        assert [link.index for link in opener.backend.links] == [2, 3]
        assert opened.setup_per_s is not None
        assert opened.cpu_ns() == 7
    assert lab.relay.sysctls == {"ipv4/ip_forward": 1, "netfilter/nf_conntrack_acct": 1}


def test_open_gives_every_slot_its_generation_and_sums_what_they_count() -> None:
    opener = _Opened()
    candidate, _ = _candidate(opener)
    with candidate.open(2) as opened:
        assert opener.backend.stats.set(0, 1, 5, 500, 1)
        assert opener.backend.stats.set(3, 1, 6, 600, 1)
        assert not opener.backend.stats.set(4, 1, 1, 1, 1)
        assert opened.moved() == 11
        assert opener.backend.checked == 1


def test_open_backend_that_is_full_says_how_many_flows_it_takes() -> None:
    candidate, _ = _candidate(_Opened(room=5))
    with pytest.raises(BenchError, match="takes 5 flows and no more"), candidate.open(3):
        pass


def test_open_backend_that_cannot_be_had_says_why() -> None:
    def refuse(_settings: BackendSettings) -> KernelBackend:
        raise OffloadError("no CAP_BPF")

    candidate = KernelCandidate("fake", cast(Lab, _FakeLab()), refuse)
    with pytest.raises(BenchError, match="not possible here: no CAP_BPF"), candidate.open(1):
        pass
