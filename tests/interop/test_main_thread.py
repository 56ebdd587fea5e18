"""Python sees no media, seen from outside: what the daemon's threads receive while a call is up (strace)."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support import media_proxy
from tests.support.media_proxy import NG_PORT, PORT_MAX, PORT_MIN
from tests.support.processes import Process, wait_until
from tests.support.sip_lab import SipLab
from tests.support.sipp import sdp_endpoint

pytestmark = needs_sip_lab

_CALL: Final = re.compile(r"^(?P<tid>\d+)\s+(?P<time>\d+\.\d+) \w+\(\d+<(?:UDP(?:v6)?:\[(?P<ends>[^>]*))?")
_MAX_REPORTS: Final = 24
"""What Python may be told in a call of four streams: the first source of each, and a few on the way there."""


@dataclass(frozen=True, slots=True)
class Receive:
    """One receiving system call: on which thread, when (seconds since 1970), and on which UDP port, if it is UDP."""

    thread: int
    time: float
    port: int | None

    @property
    def is_media(self) -> bool:
        """Whether the descriptor is one that media arrives on."""
        return self.port is not None and PORT_MIN <= self.port <= PORT_MAX


def _trace(lab: SipLab, pid: int) -> tuple[Process, Path]:
    """Trace the receiving calls of all threads of a process, from now on."""
    output = lab.folder / "strace.out"
    strace = lab.start(
        "strace", lab.proxy, "strace", "-f", "-ttt", "-yy", "-e", "trace=/^(recv|read|pread)", "-o", str(output),
        "-p", str(pid), stop_signal=signal.SIGINT,
    )  # fmt: skip
    strace.wait_log(rf"Process {pid} attached", 10.0)
    return strace, output


def _receives(output: Path) -> Iterator[Receive]:
    for line in output.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _CALL.match(line)
        if match is not None:
            # UDP:[10.0.0.1:30000]> or, if the socket is connected, UDP:[10.0.0.1:30000->10.0.0.2:6000]>
            port = int(re.split(r"[]-]", match["ends"])[0].rpartition(":")[2]) if match["ends"] else None
            yield Receive(int(match["tid"]), float(match["time"]), port)


def test_main_thread_receives_signalling_but_no_media(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_proxy, "default_kernel_path", "userspace")  # else nobody here would receive any
    with SipLab() as lab:
        lab.start_all()
        at_caller, at_callee = lab.agents()
        pid = lab.media_proxy.process.pid
        strace, output = _trace(lab, pid)
        caller, callee = lab.call("uac_agent", "uas_agent", pause_ms=5000)
        at_callee.talk_to(sdp_endpoint(callee.wait_message("received", "INVITE").sdp or ""))
        at_caller.talk_to(sdp_endpoint(caller.wait_message("received", "200").sdp or ""))
        wait_until(
            lambda: min(map(len, (at_callee.rtp(), at_caller.rtp(), at_callee.rtcp(), at_caller.rtcp()))) > 2,
            5.0,
            "audio and RTCP both ways",
        )
        steady_from, heard = time.time(), len(at_callee.rtp()) + len(at_caller.rtp())
        wait_until(lambda: len(at_callee.rtp()) + len(at_caller.rtp()) >= heard + 150, 8.0, "steady audio")
        steady_to = time.time()
        caller.finish()
        callee.finish()
        strace.stop()

        receives = list(_receives(output))
        main = [receive for receive in receives if receive.thread == pid]
        workers = [receive for receive in receives if receive.thread != pid]
        assert [receive for receive in main if receive.port == NG_PORT], "the trace shows the main thread at its work"
        assert len([receive for receive in workers if receive.is_media]) > 100, "and the workers at theirs"
        assert [receive for receive in main if receive.is_media] == []
        # Reports reach Python through a descriptor that is no socket: few in the whole call, none while all is steady.
        other = [receive for receive in main if receive.port is None]
        assert len(other) <= _MAX_REPORTS
        assert [receive for receive in other if steady_from < receive.time < steady_to] == []
