"""Ends of the daemon and of its privileged process with calls up: what is left in the kernel, and what phones hear."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from mediaproxy.privileged.run_folder import is_bpf_mount
from tests.interop.needs import needs_sip_lab
from tests.support.clsact_daemon import clsact_command
from tests.support.datagrams import datagrams_delivered
from tests.support.kernel_lab import tcx_programs
from tests.support.media_lab import MediaLab
from tests.support.media_proxy import own_options, proxy_command
from tests.support.processes import is_alive, wait_until

pytestmark = needs_sip_lab

_PPS: Final = 1000
_FORMS: Final = ("tc", "tc by filters", "nft", "iptables")


def _start(lab: MediaLab, form: str) -> None:
    path, _, by_filters = form.partition(" ")
    if path == "iptables":
        lab.let_host_forward()
    lab.start_proxy(kernel_path=path, program=clsact_command(lab.folder) if by_filters else ())


def _children(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def _privileged(lab: MediaLab) -> tuple[int, int]:
    """Keeper and server."""
    (keeper,) = _children(lab.media_proxy.process.pid)
    (server,) = _children(keeper)
    return keeper, server


def _left_in_kernel(lab: MediaLab) -> Sequence[str]:
    """Whatever of ours the proxy's host still has."""
    left = []
    for device in ("lo", "ext0", "int0"):
        left += [f"TCX program on {device}"] * tcx_programs(lab.proxy, device)
        if "clsact" in lab.proxy.run("tc", "qdisc", "show", "dev", device):
            left.append(f"clsact on {device}")
    ruleset = lab.proxy.run("nft", "list", "ruleset")
    left += [line for line in ruleset.splitlines() if "mediaproxy" in line.lower()]
    folder = lab.folder / "run" / lab.proxy.name
    if is_bpf_mount(folder / "bpf"):
        left.append("bpffs")
    if folder.exists():
        left.append(str(folder))
    return left


@pytest.mark.parametrize("form", _FORMS)
def test_daemon_stopped_with_calls_up_leaves_nothing(form: str) -> None:
    with MediaLab(prefix="stop") as lab:
        assert list(_left_in_kernel(lab)) == []
        _start(lab, form)
        lab.talk(_PPS)
        assert list(_left_in_kernel(lab)) != []
        pids = _privileged(lab)
        assert lab.media_proxy.process.stop() == 0
        assert list(_left_in_kernel(lab)) == []
        assert not any(is_alive(pid) for pid in pids)
        assert "could not be removed" not in lab.media_proxy.process.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_daemon_stopped_while_it_starts_leaves_nothing(number: signal.Signals) -> None:
    with MediaLab(prefix="early") as lab:
        interfaces = f"--interface=e/{lab.addresses.external}", f"--interface=i/{lab.addresses.internal}"
        options = ("--config-file=none", "--foreground", *interfaces, *own_options(lab, lab.proxy.name, "tc"))
        process = lab.start("mediaproxy", lab.proxy, *proxy_command(), *options)
        wait_until(lambda: "kernel path" in process.log() or _children(process.pid), 10.0, "the privileged process")
        process.send_signal(number)
        assert process.wait(20.0) == 0, process.log()
        assert list(_left_in_kernel(lab)) == []
        assert "stopping" in process.log()


@pytest.mark.parametrize("form", _FORMS)
def test_killed_privileged_process_is_cleaned_up_after_and_audio_goes_on(form: str) -> None:
    with MediaLab(prefix="killed") as lab:
        _start(lab, form)
        call, *streams = lab.talk(_PPS)
        keeper, server = _privileged(lab)
        os.kill(server, signal.SIGKILL)
        wait_until(
            lambda: "the privileged process has ended" in lab.media_proxy.process.log(), 2.0, "a word in the log"
        )
        wait_until(lambda: not call.in_kernel("A") and not call.in_kernel("B"), 2.0, "both ways by socket")
        wait_until(lambda: list(_left_in_kernel(lab)) == [], 3.0, "nothing left in the kernel")
        assert "a restart of it brings the kernel path back" in call.stream("A")["path reason"]
        arrived = [stream.arrived() for stream in streams]
        wait_until(
            lambda: all(stream.arrived() > before + 500 for stream, before in zip(streams, arrived, strict=True)),
            3.0, "audio both ways",
        )  # fmt: skip
        for stream in streams:
            record = stream.stop()
            assert record.longest_gap() < 1.0
            assert record.lost() == 0 or form != "tc"
        wait_until(lambda: not is_alive(keeper) or not _children(keeper), 2.0, "the keeper done")


def test_flows_that_nobody_can_remove_stop_to_matter_when_both_privileged_processes_are_killed() -> None:
    with MediaLab(prefix="both") as lab:
        lab.start_proxy("--port-max=30001", "--timeout=0")
        call, *streams = lab.talk(_PPS)
        for pid in _privileged(lab):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not call.in_kernel("A") and not call.in_kernel("B"), 2.0, "both ways by socket")
        before = datagrams_delivered(lab.proxy)
        wait_until(lambda: datagrams_delivered(lab.proxy) > before + _PPS, 3.0, "packets at the sockets")
        for stream in streams:
            assert stream.stop().longest_gap() < 1.0
        call.delete()
        sockets = lab.caller_socket(), lab.callee_socket()
        new = lab.ng_call(*sockets)
        assert new.at_caller == call.at_caller
        caller, _ = lab.streams(*sockets, "-new")
        caller.start(new.at_caller, _PPS)
        wait_until(lambda: caller.arrived() > 500, 3.0, "the new call's audio")
