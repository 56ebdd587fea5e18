"""The first frame; the rest of the keeper's life is in tests/kernel/test_privileges.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mediaproxy.errors import OffloadError
from mediaproxy.privileged import keeper
from mediaproxy.privileged.keeper import _needed, keep, receive_settings
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.settings import KernelPath, PrivilegedSettings, write_json
from mediaproxy.privileged.wire import MAX_FRAME, Frame, Kind, WireError, pack_frame, parse_frame, parse_text

SETTINGS = PrivilegedSettings("x", KernelPath.NFT, "/run/x", (), 8)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_settings_are_received(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].send(pack_frame(Frame(Kind.SETTINGS, 7, write_json(SETTINGS))))
    assert receive_settings(pair[1]) == (7, SETTINGS)


@pytest.mark.parametrize("data", [b"x", pack_frame(Frame(Kind.DUMP, 1)), pack_frame(Frame(Kind.SETTINGS, 1, b"{}"))])
def test_anything_else_is_refused(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    pair[0].send(data)
    with pytest.raises(WireError):
        receive_settings(pair[1])


def test_daemon_that_is_gone_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(ConnectionResetError):
        receive_settings(pair[1])


def test_rights_are_by_backend_and_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _needed("nft") == (Capability.NET_ADMIN,)
    assert Capability.SYS_ADMIN not in _needed("tc")
    monkeypatch.setattr("mediaproxy.privileged.keeper.last_capability", lambda: 37)
    assert Capability.SYS_ADMIN in _needed("tc")
    assert Capability.SYS_ADMIN not in _needed("iptables")


class Life:
    """A daemon's end of everything, and a keeper in a process of its own whose server does what a test says."""

    def __init__(self, folder: Path, serve: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.cleared = folder / "cleared"
        monkeypatch.setattr(keeper, "_serve", serve)
        monkeypatch.setattr(keeper, "_clear", lambda name, _settings: self.cleared.write_text(name) and "")
        monkeypatch.setattr(keeper, "_DYING", 0.2)
        (folder / "edge").mkdir()
        (folder / "edge" / "backend").write_text("nft\n")
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(10.0)
        their_life, self.life = os.pipe()
        self.channel.send(
            pack_frame(Frame(Kind.SETTINGS, 7, write_json(replace(SETTINGS, run_folder=f"{folder}/edge"))))
        )
        self.keeper = os.fork()
        if self.keeper == 0:
            try:
                self.channel.close()
                os.close(self.life)
                os._exit(keep(theirs, their_life))
            finally:
                os._exit(99)
        theirs.close()
        os.close(their_life)

    def wait(self) -> str:
        """Wait for the keeper; which backend it has cleared."""
        assert os.waitstatus_to_exitcode(os.waitpid(self.keeper, 0)[1]) == 0
        return self.cleared.read_text() if self.cleared.exists() else ""

    def die(self) -> None:
        self.channel.close()
        os.close(self.life)


def left(channel: socket.socket, *_: object) -> int:
    channel.recv(1)
    return 0


def test_daemon_that_died_leaves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path, left, monkeypatch)
    life.die()
    assert life.wait() == ""


def test_server_that_left_a_daemon_that_lives_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path, left, monkeypatch)
    life.channel.shutdown(socket.SHUT_WR)
    assert life.wait() == "nft"
    life.die()


def test_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OffloadError("nft: no devices")

    life = Life(tmp_path, fail, monkeypatch)
    frame = parse_frame(life.channel.recv(MAX_FRAME))
    assert (frame.kind, frame.serial, parse_text(frame)) == (Kind.FAILED, 7, "nft: no devices")
    life.die()
    assert life.wait() == "nft"
