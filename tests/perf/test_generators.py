"""The media generator's counts against a relay of a few lines whose faults are known."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaRun, media_load
from mediaproxy.bench.ng import MediaCall

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not {0, 1} <= os.sched_getaffinity(0),
    reason="needs root for namespaces, and two cores",
)

LOSE_EVERY = 10


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(relay_cpu=1, load_cpu=0, addresses=1) as built:
        yield built


class LossyRelay:
    """Two bound sockets: what one receives leaves by the other, except every tenth packet of each side."""

    def __init__(self, lab: Lab, call: MediaCall, towards: tuple[tuple[str, int], tuple[str, int]]) -> None:
        with lab.relay.inside():
            self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for sock, local in zip(self._sockets, (call.facing_caller, call.facing_callee), strict=True):
            sock.bind(local)
            sock.settimeout(0.05)
        self._towards = towards
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._forward, args=(side,)) for side in (0, 1)]

    def __enter__(self) -> LossyRelay:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _forward(self, side: int) -> None:
        count = 0
        while not self._stopping.is_set():
            try:
                packet = self._sockets[side].recv(2048)
            except TimeoutError:
                continue
            count += 1
            if count % LOSE_EVERY:
                self._sockets[1 - side].sendto(packet, self._towards[1 - side])


def _call(lab: Lab, number: int) -> MediaCall:
    port = 20000 + 4 * number
    return MediaCall(
        call_id=str(number),
        from_tag="f",
        caller=(lab.agent_address(0), port),
        callee=(lab.agent_address(1), port),
        facing_caller=(lab.local_address(0, 0), port + 2),
        facing_callee=(lab.local_address(1, 0), port + 2),
    )


def _run(lab: Lab, call: MediaCall) -> MediaRun:
    with media_load(lab, call.flows) as media:
        return media.run(1000, 0.5)


def test_media_generator_relay_that_loses_packets_counts_each(lab: Lab) -> None:
    call = _call(lab, 0)
    with LossyRelay(lab, call, (call.caller, call.callee)):
        run = _run(lab, call)
    assert run.sent > 2 * LOSE_EVERY
    assert run.received + run.lost == run.sent
    # Each side loses its tenth, twentieth, ... packet; both sides were sent the same number, or one differs by one.
    assert run.lost == sum(side // LOSE_EVERY for side in (run.sent // 2, run.sent - run.sent // 2))
    assert run.misdelivered == run.reordered == 0


def test_media_generator_relay_that_sends_to_another_port_reports_misdelivery(lab: Lab) -> None:
    call = _call(lab, 1)
    wrong = (call.callee[0], call.callee[1] + 2)
    with LossyRelay(lab, call, (call.caller, wrong)):
        run = _run(lab, call)
    assert run.misdelivered > 0
    assert run.lost > run.sent // 2 - run.sent // LOSE_EVERY
    assert not (run.loss < 0.001)


def test_media_generator_without_relay_loses_everything(lab: Lab) -> None:
    run = _run(lab, _call(lab, 2))
    assert run.sent > 0
    assert run.received == 0
    assert run.lost == run.sent
