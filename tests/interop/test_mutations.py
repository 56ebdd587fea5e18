"""Mutated requests against the running daemon: it answers each of them, lives on, and keeps nothing of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import Iterator
from typing import Any, Final

import bencodepy
import pytest

from tests.support.media_proxy import NG_PORT, MediaProxyProcess
from tests.support.mutations import Mutator, fuzz_count
from tests.support.netlab import NetLab, why_not
from tests.support.ng_requests import RecordedRequest, recorded_requests
from tests.support.processes import open_descriptors, wait_until

_REASON: Final = why_not()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")

_SHARE: Final = 0.002
"""Of the full number of mutations, if ``FUZZ_SCALE`` says nothing: a second or two."""
_BATCH: Final = 100
"""Mutations between two looks at what is left of them."""
_LISTED: Final = 50
"""Call-ids of one ``list``: as many as a datagram holds if each is as long as it may be."""
_MAX_DATAGRAM: Final = 65_507
_ADDRESSES: Final = {"external": ("10.10.1.1", "fd10:1::1"), "internal": ("10.20.2.1", "fd20:2::1")}


class Asker:
    """A connected UDP socket to the daemon; sends bytes as they are, up to what a datagram holds."""

    def __init__(self, udp: socket.socket) -> None:
        self._socket = udp
        self._socket.settimeout(5.0)
        self._cookies = itertools.count()
        self.asked = 0

    def ask(self, payload: bytes) -> bytes:
        """The reply without its cookie."""
        cookie = b"m%d" % next(self._cookies)
        self._socket.send((cookie + b" " + payload)[:_MAX_DATAGRAM])
        self.asked += 1
        while True:
            try:
                answered, _, reply = self._socket.recv(65_535).partition(b" ")
            except TimeoutError:
                pytest.fail(f"no answer to {payload!r}")
            if answered == cookie:
                return reply

    def send_garbage(self, datagram: bytes) -> None:
        """Send what may have no cookie; that it did no harm is seen by the ping, which is answered after it."""
        self._socket.send(datagram[:_MAX_DATAGRAM])
        assert self.ask(b"d7:command4:pinge") == b"d6:result4:ponge"

    def calls(self) -> list[bytes]:
        """Call-ids, at most so many as one reply holds."""
        reply = bencodepy.decode(self.ask(b"d7:command4:list5:limiti%dee" % _LISTED))
        found: list[bytes] = reply[b"calls"]
        return found

    def delete_all(self) -> int:
        """Delete every call, and return how many there were."""
        count = 0
        while calls := self.calls():
            for call_id in calls:
                request = b"d7:command6:delete12:delete-delayi0e7:call-id%d:%be" % (len(call_id), call_id)
                assert bencodepy.decode(self.ask(request))[b"result"] == b"ok"
            count += len(calls)
            assert not set(calls) & set(self.calls()), "a deleted call is still listed"
        return count

    def statistics(self) -> dict[bytes, Any]:
        """The reply to ``statistics``."""
        reply: dict[bytes, Any] = bencodepy.decode(self.ask(b"d7:command10:statisticse"))[b"statistics"]
        return reply

    def ports_used(self) -> list[int]:
        """Of each interface."""
        return [interface[b"ports"][b"used"] for interface in self.statistics()[b"interfaces"]]


@contextlib.contextmanager
def _daemon() -> Iterator[tuple[MediaProxyProcess, Asker]]:
    with NetLab("mutations") as lab:
        host = lab.namespace("proxy")
        interfaces = []
        for name, addresses in _ADDRESSES.items():
            for address in addresses:
                host.ip("address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else []))
                interfaces.append(f"{name}/{address}")
        udp = host.udp_socket("127.0.0.1")
        lab.on_exit(udp.close)
        daemon = MediaProxyProcess(lab, host, interfaces)
        udp.connect(("127.0.0.1", NG_PORT))
        yield daemon, Asker(udp)


def _session_of(mutated: RecordedRequest, everything: list[RecordedRequest]) -> list[RecordedRequest]:
    """The offers of the same client, so that answers and deletes find the call that they are about."""
    client = mutated.name.split("-")[1]
    return [recorded for recorded in everything if "offer" in recorded.name and recorded.name.split("-")[1] == client]


@pytest.mark.timeout(14_400)
def test_daemon_answers_every_mutation_and_keeps_nothing() -> None:
    everything = recorded_requests()
    with _daemon() as (daemon, asker):
        process = daemon.process
        pid = process.pid
        used = asker.ports_used()
        assert set(used) == {0}
        before = open_descriptors(pid)
        mutations = calls = 0
        for mutated in everything:
            mutator = Mutator(seed=int(mutated.name[:2]), requests=everything)
            left = fuzz_count(_SHARE)
            while left > 0:
                for recorded in _session_of(mutated, everything):
                    asker.ask(recorded.payload)
                for _ in range(min(left, _BATCH)):
                    asker.ask(mutator.mutate(mutated.payload))
                    mutations += 1
                asker.send_garbage(mutator.change_bytes(mutated.datagram))
                left -= _BATCH
                calls += asker.delete_all()
                assert asker.ports_used() == used
        assert (process.pid, process.returncode) == (pid, None)
        assert asker.calls() == []
        # A relay thread closes what it has let go of at its next turn.
        wait_until(lambda: open_descriptors(pid) == before, 5.0, f"{before} descriptors, as at the beginning")
        assert asker.statistics()[b"controlstatistics"][b"internalerrors"] == 0
        log = process.log()
        assert "internal error" not in log.lower()
        assert "Traceback" not in log
        print(f"{mutations} mutations, {asker.asked} requests, {calls} calls, {len(log.splitlines())} log lines")
        assert calls > len(everything)
