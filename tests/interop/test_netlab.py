"""The lab itself: what it builds behaves as drawn, and nothing of it stays, however it is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support import netlab
from tests.support.netlab import NetLab, Terminated
from tests.support.processes import is_alive
from tests.support.sip_lab import BEHIND_NAT, NAT_OUTSIDE, SipLab

_REASON = netlab.why_not()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")


def _own_namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").iterdir() if path.name.startswith(f"mp-{os.getpid()}-")}


def test_lab_left_normally_takes_everything_with_it() -> None:
    before = _own_namespaces() if Path("/run/netns").is_dir() else set()
    with NetLab("test") as lab:
        host = lab.namespace("host")
        process = lab.start("sleeper", host, "sleep", "1000")
        folder = lab.folder
        assert host.pids() == [process.pid] or process.returncode is None
        assert len(_own_namespaces() - before) == 1
    assert _own_namespaces() == before
    assert not folder.exists()
    assert process.returncode == -signal.SIGTERM


def test_lab_left_by_an_exception_keeps_only_the_logs(capsys: pytest.CaptureFixture[str]) -> None:
    lab = NetLab("test")

    def fail() -> None:
        with lab:
            process = lab.start("talker", lab.namespace("host"), "sh", "-c", "echo hello; exec sleep 1000")
            process.wait_log("hello", 5.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not lab["host"].path.exists()
    kept = Path(capsys.readouterr().err.removeprefix("the logs are kept in ").strip())
    assert (kept / "talker.log").read_text(encoding="utf-8") == "hello\n"
    (kept / "talker.log").unlink()
    kept.rmdir()


def test_lab_terminated_by_signal_is_taken_down() -> None:
    lab = NetLab("test")

    def be_terminated() -> None:
        with lab:
            lab.namespace("host")
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()  # the handler raises before or here

    with pytest.raises(Terminated):
        be_terminated()
    assert not lab["host"].path.exists()
    assert not lab.folder.exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_process_that_survives_its_parent_is_ended_with_the_namespace() -> None:
    with NetLab("test") as lab:
        host = lab.namespace("host")
        process = lab.start("parent", host, "sh", "-c", "setsid sleep 1000 & echo child=$!; wait")
        child = int(process.wait_log(r"child=(\d+)", 5.0)[1])
        assert is_alive(child)
    assert not is_alive(child) or Path(f"/proc/{child}/stat").read_text(encoding="ascii").split()[2] == "Z"


def test_leftovers_of_a_running_process_are_not_touched() -> None:
    with NetLab("test") as lab:
        host = lab.namespace("host")
        assert host.name not in netlab.remove_leftovers()
        assert host.path.exists()
        assert lab.folder.exists()


def test_networks_are_separate_and_nat_hides_the_caller() -> None:
    with SipLab(BEHIND_NAT) as lab:
        assert not lab.can_reach(lab.caller, lab.callee, lab.addresses.callee)
        assert lab.can_reach(lab.caller, lab.proxy, lab.addresses.external)
        assert not lab.can_reach(lab.proxy, lab.caller, lab.addresses.caller)
        with (
            lab.proxy.udp_socket(lab.addresses.external, 7777) as outside,
            lab.caller.udp_socket(lab.addresses.caller, 7777) as inside,
        ):
            outside.settimeout(2)
            inside.settimeout(2)
            inside.sendto(b"out", (lab.addresses.external, 7777))
            data, source = outside.recvfrom(16)
            assert (data, source[0]) == (b"out", NAT_OUTSIDE)
            outside.sendto(b"back", source)
            assert inside.recv(16) == b"back"
