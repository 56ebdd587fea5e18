from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from mediaproxy.listeners.access import AccessList
from mediaproxy.listeners.control import ControlDispatcher
from mediaproxy.listeners.events import ControlEventKind
from mediaproxy.listeners.udp import ListenError, UdpListener
from mediaproxy.net import Endpoint
from mediaproxy.ng.cookies import ReplyCache
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.stats.control import Drop
from tests.unit.listeners.fakes import Bench

PING = b"d7:command4:pinge"
PONG = b"d6:result4:ponge"
LOOPBACK = AccessList(map(ipaddress.ip_network, ("127.0.0.0/8", "::1")))


def has_ip6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ip6 = pytest.mark.skipif(not has_ip6(), reason="this host has no IPv6 loopback")


class Rig:
    """A listener whose socket is read when the test says so."""

    def __init__(
        self,
        address: str = "127.0.0.1",
        access: AccessList = LOOPBACK,
        answer: Callable[[NgRequest], NgReply] = lambda _request: {"result": "pong"},
    ) -> None:
        self.bench = Bench(answer)
        self.listener = UdpListener(
            Endpoint(address, 0), self.bench.dispatcher, access, self.bench.events.append, "add {peer}", lambda: 1.0
        )
        self.port = self.listener.endpoint.port

    def ask(self, target: str, datagram: bytes) -> tuple[bytes, str]:
        """The reply, and the address that it came from; the socket is not connected, so any would do."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(datagram, (target, self.port))
            self.listener.on_readable()
            reply, source = client.recvfrom(65535)
            assert source[1] == self.port
            return reply, source[0]


@contextlib.contextmanager
def rig(*arguments: object, **options: object) -> Iterator[Rig]:
    made = Rig(*arguments, **options)  # type: ignore[arg-type]  # handed through
    try:
        yield made
    finally:
        made.listener.close()


@pytest.mark.parametrize(
    ("bound", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2"),
        pytest.param("::1", "::1", marks=needs_ip6),
        pytest.param("::", "::1", marks=needs_ip6),
    ],
)
def test_reply_comes_from_the_address_that_was_asked(bound: str, asked: str) -> None:
    with rig(bound) as made:
        assert made.ask(asked, b"c1 " + PING) == (b"c1 " + PONG, asked)
        assert made.bench.counters.peers.keys() == {"::1" if ":" in asked else "127.0.0.1"}


@needs_ip6
def test_ip6_wildcard_leaves_ip4_to_others() -> None:
    with rig("::") as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", made.port))


def test_large_request_and_reply_pass() -> None:
    with rig(answer=lambda request: {"sdp": request.sdp or b"", "result": "ok"}) as made:
        body = b"v" * 60_000
        reply, _ = made.ask("127.0.0.1", b"c d3:sdp60000:" + body + b"7:command5:offere")
        assert reply == b"c d3:sdp60000:" + body + b"6:result2:oke"


def test_one_turn_answers_what_has_arrived_but_not_without_end() -> None:
    with rig() as made, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", made.port))
        for number in range(50):
            client.send(b"%d " % number + PING)
        made.listener.on_readable()
        assert 1 < len(made.bench.handler.requests) < 50
        made.listener.on_readable()
        assert [client.recv(100).split()[0] for _ in range(50)] == [b"%d" % number for number in range(50)]


def test_peers_outside_the_list_are_dropped_counted_and_explained_once() -> None:
    with rig(access=AccessList([ipaddress.ip_network("127.0.0.2")])) as made:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.3", 0))
            for _ in range(3):
                client.sendto(b"c " + PING, ("127.0.0.1", made.port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.4", 0))
            client.sendto(b"c " + PING, ("127.0.0.1", made.port))
        made.listener.on_readable()
        assert made.bench.handler.requests == []
        assert made.bench.counters.drops[Drop.NOT_ALLOWED] == 4
        first, second = made.bench.events_of(ControlEventKind.PEER_REFUSED)
        assert first.facts["peer"] == "127.0.0.3"
        assert first.facts["advice"] == "add 127.0.0.3"
        assert second.facts == {"peer": "127.0.0.4", "listener": str(made.listener.endpoint)}


def test_reply_that_cannot_be_sent_is_counted_and_named_once() -> None:
    class Careless(ControlDispatcher):
        """Says more than a datagram holds."""

        def handle_datagram(self, data: bytes, peer: str, now: float) -> bytes | None:
            return bytes(65_508)

    bench = Bench()
    careless = Careless(bench.handler, ReplyCache(), bench.counters, bench.events.append)
    listener = UdpListener(Endpoint("127.0.0.1", 0), careless, LOOPBACK, bench.events.append)
    with contextlib.closing(listener), socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", listener.endpoint.port))
        client.send(b"c " + PING)
        client.send(b"d " + PING)
        listener.on_readable()
    assert bench.counters.drops[Drop.UNSENDABLE] == 2
    (event,) = bench.events_of(ControlEventKind.UNSENDABLE_REPLY)
    assert event.facts["reason"] == "EMSGSIZE"


def test_client_that_is_gone_harms_nobody() -> None:
    with rig() as made:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"c " + PING, ("127.0.0.1", made.port))
        made.listener.on_readable()
        assert made.ask("127.0.0.1", b"d " + PING)[0] == b"d " + PONG


def test_address_in_use_is_said_so() -> None:
    with rig() as made, pytest.raises(ListenError, match=rf"^cannot listen on 127\.0\.0\.1:{made.port}: "):
        UdpListener(Endpoint("127.0.0.1", made.port), made.bench.dispatcher, LOOPBACK, made.bench.events.append)


class RefusingSocket(socket.socket):
    def bind(self, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")


def test_port_that_needs_rights_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(socket, "socket", RefusingSocket)
    with pytest.raises(ListenError, match=r"given up its rights: lower net\.ipv4\.ip_unprivileged_port_start"):
        UdpListener(Endpoint("127.0.0.1", 900), bench.dispatcher, LOOPBACK, bench.events.append)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_loop_serves_several_listeners(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    bench = Bench()
    listeners = [
        UdpListener(Endpoint(address, 0), bench.dispatcher, LOOPBACK, bench.events.append)
        for address in ("127.0.0.1", "0.0.0.0")
    ]

    async def ask_both() -> list[bytes]:
        loop = asyncio.get_running_loop()
        replies = []
        for listener in listeners:
            listener.start(loop)
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(("127.0.0.1", listener.endpoint.port))
                await loop.sock_sendall(client, b"%d " % listener.endpoint.port + PING)
                replies.append(await asyncio.wait_for(loop.sock_recv(client, 1000), 5))
        for listener in listeners:
            listener.close()
        return replies

    with contextlib.closing(new_loop()) as loop:
        replies = loop.run_until_complete(ask_both())
    assert all(reply.endswith(b" " + PONG) for reply in replies)
