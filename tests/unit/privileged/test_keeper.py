"""The first frame; the rest of the keeper's life is in tests/kernel/test_privileges.py."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mediaproxy.privileged.keeper import _needed, receive_settings
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.settings import KernelPath, PrivilegedSettings, write_json
from mediaproxy.privileged.wire import Frame, Kind, WireError, pack_frame

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
