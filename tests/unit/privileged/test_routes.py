"""Ways out are looked up once, forgotten when told, and bounded."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from mediaproxy.backends.packed_address import pack_address
from mediaproxy.privileged.routes import KernelRoutes, Routes, WayOut


class Lookups:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, sender: str, target: str) -> WayOut:
        self.asked.append((sender, target))
        return WayOut(ifindex=len(self.asked), mtu=1500)


def pair(last: int) -> tuple[bytes, bytes]:
    return pack_address("192.0.2.1"), pack_address(f"198.51.100.{last}")


def test_way_out_is_looked_up_once() -> None:
    lookups = Lookups()
    routes = Routes(lookups)
    assert routes.find(pair(1)) == routes.find(pair(1)) == WayOut(ifindex=1, mtu=1500)
    assert lookups.asked == [("192.0.2.1", "198.51.100.1")]


def test_news_make_it_look_again() -> None:
    routes = Routes(Lookups())
    routes.find(pair(1))
    routes.forget()
    assert routes.find(pair(1)).ifindex == 2


def test_cache_is_bounded_and_drops_the_oldest() -> None:
    lookups = Lookups()
    routes = Routes(lookups, limit=3)
    for last in (1, 2, 3, 4):
        routes.find(pair(last))
    assert len(routes) == 3
    routes.find(pair(4))
    assert len(lookups.asked) == 4
    routes.find(pair(1))
    assert len(lookups.asked) == 5


class Answer(dict[str, Any]):
    """As pyroute2 has it."""

    def get_attr(self, name: str) -> Any:
        return self.get(name)


class NetlinkError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class ScriptedRoute:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def route(self, command: str, **asked: Any) -> list[Any]:
        assert command == "get"
        self.asked = asked
        if isinstance(self.answer, Exception):
            raise self.answer
        return [] if self.answer is None else [self.answer]


def kernel_routes(answer: Any) -> KernelRoutes:
    """Without its constructor, which opens netlink."""
    routes = KernelRoutes.__new__(KernelRoutes)
    routes._netlink_error = NetlinkError
    routes._route = ScriptedRoute(answer)
    routes._link_mtus = {2: 1500}
    return routes


@pytest.mark.parametrize(
    ("answer", "way"),
    [
        (Answer(type=1, RTA_OIF=2), WayOut(ifindex=2, mtu=1500)),
        (Answer(type=1, RTA_OIF=2, RTA_METRICS=Answer(RTAX_MTU=1400)), WayOut(ifindex=2, mtu=1400)),
        (Answer(type=1, RTA_OIF=2, RTA_METRICS=Answer(RTAX_MTU=9000)), WayOut(ifindex=2, mtu=1500)),
        (Answer(type=1, RTA_OIF=2, RTA_METRICS=Answer()), WayOut(ifindex=2, mtu=1500)),
        (Answer(type=1, RTA_OIF=9), WayOut(ifindex=9, mtu=0)),
        (Answer(type=2, RTA_OIF=1), WayOut(local=True)),
        (Answer(type=3, RTA_OIF=2), WayOut(errno=errno.EACCES)),
        (NetlinkError(errno.EHOSTUNREACH), WayOut(errno=errno.EHOSTUNREACH)),
        (NetlinkError(0), WayOut(errno=errno.ENETUNREACH)),
        (OSError(errno.EINVAL, "x"), WayOut(errno=errno.EINVAL)),
        (None, WayOut(errno=errno.ENETUNREACH)),
    ],
)
def test_kernels_answer_becomes_a_way_out(answer: Any, way: WayOut) -> None:
    assert kernel_routes(answer).look_up("192.0.2.1", "198.51.100.1") == way


def test_sender_of_another_family_is_not_asked_with() -> None:
    routes = kernel_routes(None)
    routes.look_up("192.0.2.1", "2001:db8::1")
    assert "src" not in routes._route.asked
    routes.look_up("2001:db8::2", "2001:db8::1")
    assert routes._route.asked["src"] == "2001:db8::2"
