from __future__ import annotations

import socket

import pytest

from mediaproxy.cli.ng_client import NgClient, ServerNameError, parse_server
from tests.support.ng_server import NgServer


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1:2223", ("127.0.0.1", 2223)),
        ("proxy.example", ("proxy.example", 2223)),
        ("proxy.example:22222", ("proxy.example", 22222)),
        ("[::1]:2224", ("::1", 2224)),
        ("[::1]", ("::1", 2223)),
        ("::1", ("::1", 2223)),
        ("2001:db8::1", ("2001:db8::1", 2223)),
    ],
)
def test_server_is_read_in_all_its_forms(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", ":2223", "h:0", "h:65536", "h:x", "h:²", "[::1", "[::1]2223", "[]:1", "h:-1"])
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(ServerNameError):
        parse_server(text)


def test_cookies_differ_between_requests() -> None:
    with NgServer(lambda datagram, _peer: datagram.partition(b" ")[0] + b" d6:result4:ponge") as server:
        client = NgClient(server.name)
        client.request({"command": "ping"})
        client.request({"command": "ping"})
    cookies = {datagram.partition(b" ")[0] for datagram in server.received}
    assert len(cookies) == 2


def test_next_address_of_a_name_is_tried_when_the_first_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with NgServer(lambda datagram, _peer: datagram.partition(b" ")[0] + b" d6:result4:ponge") as server:

        def look_up(_host: str, port: int, **_options: object) -> list[object]:
            return [
                (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")
            ]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        assert NgClient(f"localhost:{server.port}").request({"command": "ping"}) == {"result": "pong"}


def test_reply_keeps_bytes_of_the_body_and_text_of_the_rest() -> None:
    reply = b" d3:sdp2:\xff\n4:tagsd2:\xe4bl1:ai5eee6:result2:oke"
    with NgServer(lambda datagram, _peer: datagram.partition(b" ")[0] + reply) as server:
        assert NgClient(server.name).request({"command": "x"}) == {
            "sdp": b"\xff\n",
            "tags": {"\udce4b": ["a", 5]},
            "result": "ok",
        }
