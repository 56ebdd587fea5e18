"""The daemon's side, against a privileged process that is dead, slow or mad."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mediaproxy.datapath.flow import Capabilities
from mediaproxy.errors import OffloadError
from mediaproxy.privileged import client as client_module
from mediaproxy.privileged.client import Channel, start
from mediaproxy.privileged.settings import KernelPath, PrivilegedSettings, Started, write_json
from mediaproxy.privileged.wire import MAX_FRAME, Frame, Kind, pack_frame, parse_frame

SETTINGS = PrivilegedSettings("x", KernelPath.AUTO, "/nowhere", (), 5)


class Pair:
    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs.settimeout(10)
        self.bugs: list[str] = []
        self.channel = Channel(ours, self.bugs.append)
        self.threads: list[threading.Thread] = []

    def answer(self, answer: Callable[[Frame], list[bytes]]) -> None:
        """Answer one request."""

        def run() -> None:
            for data in answer(parse_frame(self.theirs.recv(MAX_FRAME))):
                self.theirs.send(data)

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def close(self) -> None:
        self.channel.close()
        self.theirs.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    try:
        yield pair
    finally:
        pair.close()


def test_dead_process_is_noticed_by_a_request(pair: Pair) -> None:
    pair.theirs.close()
    with pytest.raises(OffloadError, match="only a restart"):
        pair.channel.ask(Kind.LOOK)
    with pytest.raises(OffloadError, match="only a restart"):
        pair.channel.take_events()


def test_dead_process_is_noticed_without_a_request(pair: Pair) -> None:
    assert pair.channel.take_events() == []
    pair.theirs.close()
    with pytest.raises(OffloadError, match="the privileged process has ended"):
        pair.channel.take_events()
    assert pair.channel.failure


def test_what_a_dead_process_said_before_is_told_first(pair: Pair) -> None:
    pair.theirs.send(pack_frame(Frame(Kind.EVENT, detail=2, body=b"first")))
    pair.theirs.close()
    assert [event.text for event in pair.channel.take_events()] == ["first"]
    with pytest.raises(OffloadError, match="the privileged process has ended"):
        pair.channel.take_events()


def test_silent_process_is_given_up_and_told_to_clean_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OffloadError, match=r"not answered within 0\.05 s"):
        pair.channel.ask(Kind.LOOK, deadline=0.05)
    kinds = [parse_frame(pair.theirs.recv(MAX_FRAME)).kind for _ in range(2)]
    assert kinds == [Kind.LOOK, Kind.REMOVE_ALL]
    with pytest.raises(OffloadError, match=r"not answered within 0\.05 s"):
        pair.channel.ask(Kind.LOOK)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense",
        pack_frame(Frame(Kind.DONE, 77)),
        pack_frame(Frame(Kind.RESULTS, 1, bytes(4))),
        pack_frame(Frame(Kind.EVENT, detail=99)),
    ],
)
def test_nonsense_is_given_up(pair: Pair, answer: bytes) -> None:
    pair.answer(lambda request: [answer])
    with pytest.raises(OffloadError, match="talks nonsense"):
        pair.channel.ask(Kind.LOOK)


def test_nonsense_without_a_request_is_given_up(pair: Pair) -> None:
    pair.theirs.send(b"nonsense")
    with pytest.raises(OffloadError, match="talks nonsense"):
        pair.channel.take_events()


def test_events_before_an_answer_are_kept(pair: Pair) -> None:
    pair.answer(
        lambda request: [
            pack_frame(Frame(Kind.EVENT, detail=2, body=b"first")),
            pack_frame(Frame(Kind.TRACEBACK, body=b"trace")),
            pack_frame(Frame(Kind.DONE, request.serial)),
        ]
    )
    pair.channel.ask(Kind.LOOK)
    assert [event.text for event in pair.channel.take_events()] == ["first"]
    assert pair.bugs == ["trace"]


def test_events_are_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pair.channel._events.maxlen == client_module._MAX_EVENTS


def test_looking_for_events_never_waits(pair: Pair) -> None:
    pair.answer(lambda request: [pack_frame(Frame(Kind.DONE, request.serial))])
    pair.channel.ask(Kind.LOOK)  # which leaves its own patience behind
    begin = time.monotonic()
    assert pair.channel.take_events() == []
    assert time.monotonic() - begin < 1.0  # an answer may take twice that


def started_with(pair: Pair, started: Started, *fds: int) -> None:
    def run() -> None:
        serial = parse_frame(pair.theirs.recv(MAX_FRAME)).serial
        frame = pack_frame(Frame(Kind.STARTED, serial, write_json(started)))
        if fds:
            socket.send_fds(pair.theirs, [frame], fds)
        else:
            pair.theirs.send(frame)

    pair.threads.append(threading.Thread(target=run))
    pair.threads[-1].start()


def test_start_yields_what_was_found_and_its_descriptors(pair: Pair) -> None:
    memory = os.memfd_create("stats")
    started_with(pair, Started("tc", Capabilities(tap=True), 5, (), has_tap=True), memory, memory)
    started, fds = start(pair.channel, SETTINGS)
    assert (started.backend, len(fds)) == ("tc", 2)
    for fd in (memory, *fds):
        os.close(fd)


def test_start_without_a_backend_has_no_descriptors(pair: Pair) -> None:
    started_with(pair, Started("", Capabilities(), 0, ()))
    started, fds = start(pair.channel, SETTINGS)
    assert (started.backend, fds) == ("", [])


def test_start_with_too_few_descriptors_is_refused(pair: Pair) -> None:
    memory = os.memfd_create("stats")
    started_with(pair, Started("tc", Capabilities(), 5, (), has_tap=True), memory)
    with pytest.raises(OffloadError, match="1 descriptors"):
        start(pair.channel, SETTINGS)
    os.close(memory)
