"""The daemon dies in mid-call: the kernel goes on forwarding, and the next daemon keeps out of its way.

``SOAK_SCALE=1`` lets the media go on for 30 s after the death, else it is 5 s (3 s for nft and iptables).
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.media_lab import MediaLab, flows_in_bpf_map, host_counters, scaled
from tests.support.media_proxy import NG_PORT
from tests.support.ng_call import CallRefusedError, NgCall
from tests.support.processes import wait_until
from tests.support.rtp_agent import sender_report

pytestmark = needs_sip_lab

_PPS = 2000
_DEAD_SECONDS = 1.0
_PAIRS = 6
"""Port pairs on each interface: few, so that new calls would get an orphan's if they could."""
_NG_CONTROL = str(Path(sys.executable).parent / "ng-control")


def _options(timeout: int) -> tuple[str, ...]:
    return f"--port-max={30000 + 2 * _PAIRS - 1}", f"--timeout={timeout}"


def _orphans(lab: MediaLab) -> list[dict[str, Any]]:
    return list(lab.media_proxy.ng.request("list flows")["orphans"])


def _ng_control(lab: MediaLab, *arguments: str) -> str:
    return lab.proxy.run(_NG_CONTROL, *arguments, f"--server=127.0.0.1:{NG_PORT}")


def _kill_and_start_again(lab: MediaLab, *options: str, kernel_path: str = "tc") -> None:
    lab.media_proxy.process.send_signal(signal.SIGKILL)
    time.sleep(_DEAD_SECONDS)  # the case itself: so long is nobody there
    lab.start_proxy(*options, kernel_path=kernel_path)


def _ends(call: NgCall) -> set[str]:
    """The proxy's endpoints of a call."""
    return {f"{address}:{port}" for address, port in (call.at_caller, call.at_callee)}


@pytest.mark.parametrize("kernel_path", ["tc", "nft", "iptables"])
def test_killed_daemon_loses_no_packet_and_new_calls_never_get_its_ports(kernel_path: str) -> None:
    seconds = scaled(30, 5 if kernel_path == "tc" else 3)
    with MediaLab(prefix="orphans") as lab:
        options = _options(timeout=60)
        if kernel_path == "iptables":
            lab.let_host_forward()
        lab.start_proxy(*options, kernel_path=kernel_path)
        call, caller, callee = lab.talk(_PPS)
        killed = time.monotonic()
        _kill_and_start_again(lab, *options, kernel_path=kernel_path)

        orphans = _orphans(lab)
        assert {orphan["local"] for orphan in orphans} == _ends(call)
        assert {orphan["source"] for orphan in orphans} == {f"{a}:{p}" for a, p in (call.caller, call.callee)}
        listed = _ng_control(lab, "flows", "list")
        assert all(end in listed for end in _ends(call)), listed

        # RTCP of the orphan call has nobody to go to, but the phones are not told so.
        unreachable = host_counters(lab.proxy)["Icmp.OutDestUnreachs"]
        rtcp = lab.caller_socket()
        for number in range(10):
            report = sender_report(1, 0, number, 0, "caller", time.time())
            rtcp.sendto(report, (call.at_caller[0], call.at_caller[1] + 1))
            rtcp.sendto(report, call.at_caller)  # and what is no RTP on the RTP port (rtcp-mux, STUN)

        new_calls = [lab.ng_call(lab.caller_socket(), lab.callee_socket()) for _ in range(_PAIRS - 1)]
        assert all(not _ends(new) & _ends(call) for new in new_calls)
        with pytest.raises(CallRefusedError, match="ports"):
            lab.ng_call(lab.caller_socket(), lab.callee_socket())

        wait_until(lambda: time.monotonic() - killed >= seconds, seconds + 1.0, "the time to go on")
        assert len(_orphans(lab)) == 2
        for record in (caller.stop(), callee.stop()):
            assert record.places >= 0.5 * _PPS * seconds
            assert (record.lost(), record.heard_again(), record.foreign, record.send_errors) == (0, 0, 0, 0)
        assert host_counters(lab.proxy)["Icmp.OutDestUnreachs"] == unreachable

        assert _ng_control(lab, "flows", "sweep")
        assert _orphans(lab) == []
        assert not flows_in_bpf_map(lab)
        assert _ends(lab.ng_call(lab.caller_socket(), lab.callee_socket())) == _ends(call)  # at last


def test_orphans_of_two_deaths_end_when_they_fall_silent_and_not_before() -> None:
    with MediaLab(prefix="silence") as lab:
        options = _options(timeout=2)
        lab.start_proxy(*options)
        silent_call, *silent = lab.talk(200, "-silent")
        _kill_and_start_again(lab, *options)
        speaking_call, *speaking = lab.talk(200, "-speaking")  # beside the orphans of the first
        _kill_and_start_again(lab, *options)
        assert {orphan["local"] for orphan in _orphans(lab)} == _ends(silent_call) | _ends(speaking_call)
        for stream in silent:
            assert stream.stop().lost() == 0
        wait_until(lambda: len(_orphans(lab)) == 2, 5.0, "the silent call's flows gone")
        assert {orphan["local"] for orphan in _orphans(lab)} == _ends(speaking_call)
        log = lab.media_proxy.process.log()
        assert all(f"local={end} why=silent" in log for end in _ends(silent_call)), log
        kernel = lab.media_proxy.ng.request("statistics")["statistics"]["kernelpath"]
        assert kernel["orphans"] == 2
        for stream in speaking:
            assert stream.stop().lost() == 0
        wait_until(lambda: _orphans(lab) == [], 5.0, "all flows gone")
        assert flows_in_bpf_map(lab) == 0
