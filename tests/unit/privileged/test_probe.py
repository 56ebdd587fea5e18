"""Which backend is taken, and that each one is really tried."""

from __future__ import annotations

import os
import signal
import time

import pytest

from mediaproxy.backends.flow_records import SET
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from mediaproxy.privileged import probe
from mediaproxy.privileged.probe import Open, choose_backend, forward_one, rtp_packet, try_in_child
from mediaproxy.privileged.settings import Candidate, KernelPath
from tests.support.fake_backend import FakeBackend

SETTINGS = BackendSettings("x", None, 64)


def opener(name: str, reason: str = "") -> Open:
    def open_backend(settings: BackendSettings) -> KernelBackend:
        if reason:
            raise OffloadError(reason)
        return FakeBackend(name=name)

    return open_backend


OPENERS = {name: opener(name) for name in ("tc", "nft", "iptables", "xdp")}


def chosen(
    path: KernelPath, reasons: dict[str, str], openers: dict[str, Open] = OPENERS
) -> tuple[str, list[Candidate]]:
    tried: list[str] = []

    def attempt(name: str, opener: Open, settings: BackendSettings) -> str:
        tried.append(name)
        return reasons.get(name, "")

    backend, candidates = choose_backend(path, openers, SETTINGS, attempt)
    assert tried == [one.backend for one in candidates if one.backend in openers]
    if isinstance(backend, FakeBackend):
        backend.close()
    return (backend.name if backend else ""), candidates


def test_automatic_takes_the_first_that_forwards() -> None:
    assert chosen(KernelPath.AUTO, {}) == ("tc", [Candidate("tc", True, "forwarded a packet")])
    assert chosen(KernelPath.AUTO, {"tc": "no BPF", "nft": "no nft"}) == (
        "iptables",
        [
            Candidate("tc", False, "no BPF"),
            Candidate("nft", False, "no nft"),
            Candidate("iptables", True, "forwarded a packet"),
        ],
    )


def test_automatic_never_takes_xdp() -> None:
    name, candidates = chosen(KernelPath.AUTO, dict.fromkeys(("tc", "nft", "iptables"), "no"))
    assert name == ""
    assert [one.backend for one in candidates] == ["tc", "nft", "iptables"]


def test_named_one_is_the_only_one_tried() -> None:
    assert chosen(KernelPath.XDP, {})[0] == "xdp"
    assert chosen(KernelPath.NFT, {"nft": "no"}) == ("", [Candidate("nft", False, "no")])


def test_one_that_forwards_but_cannot_be_had_here_is_passed_over() -> None:
    name, candidates = chosen(KernelPath.AUTO, {}, {**OPENERS, "tc": opener("tc", "pins are in the way")})
    assert name == "nft"
    assert candidates[0] == Candidate("tc", False, "pins are in the way")


def test_one_that_was_not_built_is_named() -> None:
    assert chosen(KernelPath.TC, {}, {})[1] == [Candidate("tc", False, "not part of this build")]


class Wire:
    """A place whose packets arrive if the backend has a flow."""

    links = (Link(2, "v0", 1500),)
    ifindex = 2
    path = (Endpoint("10.0.0.2", 1), Endpoint("10.0.0.1", 2), Endpoint("10.0.0.1", 4), Endpoint("10.0.0.3", 5))

    def __init__(self, backend: FakeBackend, lost: int = 0) -> None:
        self.backend = backend
        self.lost = lost
        self.sent: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def receive(self, timeout: float) -> bytes | None:
        (record,) = self.backend.installed.values()
        assert (record.operation, record.ifindex, record.mtu) == (SET, 2, 1500)
        return self.sent[-1] if len(self.sent) > self.lost else None


def test_backend_that_forwards_has_no_reason_and_is_removed() -> None:
    backend = FakeBackend()
    assert forward_one(lambda settings: backend, SETTINGS, Wire(backend, lost=2)) == ""
    assert backend.steps == ["attach", "apply", "remove"]


def test_backend_that_forwards_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PATIENCE", 0.0)
    backend = FakeBackend()
    reason = forward_one(lambda settings: backend, SETTINGS, Wire(backend, lost=99))
    assert reason == "took a flow, but forwarded no packet"
    assert backend.steps[-1] == "remove"


def test_backend_that_refuses_the_flow_says_why() -> None:
    backend = FakeBackend()
    backend.refusals[Wire.path[1]] = -28
    assert forward_one(lambda settings: backend, SETTINGS, Wire(backend)) == "refused a flow: No space left on device"


def test_attempt_in_a_child_names_the_reason_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_in_child("tc", opener("tc", "no\nBPF"), SETTINGS) == "no BPF"


def test_child_that_dies_or_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(settings: BackendSettings) -> KernelBackend:
        os._exit(1)

    def hang(settings: BackendSettings) -> KernelBackend:
        time.sleep(60)
        raise AssertionError

    def err(settings: BackendSettings) -> KernelBackend:
        raise ValueError("oops")

    def crash(settings: BackendSettings) -> KernelBackend:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    assert try_in_child("tc", die, SETTINGS) == "ended while it was tried"
    assert try_in_child("tc", crash, SETTINGS) == "crashed while it was tried (signal 9)"
    assert try_in_child("tc", err, SETTINGS) == "cannot be tried: ValueError: oops"
    monkeypatch.setattr(probe, "_TIMEOUT", 0.3)
    assert try_in_child("tc", hang, SETTINGS) == "did not forward a packet within 0.3 s"


def test_test_packet_is_rtp() -> None:
    packet = rtp_packet(7)
    assert len(packet) == 172
    assert (packet[0] >> 6, packet[1], packet[2:4]) == (2, 0, b"\0\7")
