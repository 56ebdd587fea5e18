"""The example configuration is accepted by Kamailio, and does what its README says when the media proxy is away."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.processes import Process, ProcessFailedError, wait_until
from tests.support.sip_lab import EXAMPLE, SipLab
from tests.support.sipp import Sipp


@pytest.mark.skipif(shutil.which("kamailio") is None, reason="needs the Debian package kamailio")
@pytest.mark.parametrize("defines", [(), ('MEDIAPROXY="udp:192.0.2.1:2223"',)], ids=["as it is", "with a define"])
def test_example_passes_kamailios_own_check(defines: tuple[str, ...]) -> None:
    arguments = [part for define in defines for part in ("-A", define)]
    result = subprocess.run(
        ["kamailio", "-c", "-f", str(EXAMPLE), *arguments], capture_output=True, text=True, check=False
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "config file ok" in output
    assert "WARNING" not in output
    assert "ERROR" not in output


def _refused_call(lab: SipLab, name: str) -> tuple[float, str]:
    """Make a call that is refused with 503, and return how long the caller had to wait for that, and its Call-ID."""
    started = time.monotonic()
    caller = Sipp(lab, lab.caller, "uac_refused", lab.addresses.caller, remote=lab.addresses.external, name=name)
    caller.finish(20.0)
    return time.monotonic() - started, caller.messages()[0].header("Call-ID")


def _call_succeeds(lab: SipLab, name: str) -> bool:
    """Make one call through the callee that runs already."""
    caller = Sipp(
        lab, lab.caller, "uac_agent", lab.addresses.caller, remote=lab.addresses.external, pause_ms=100, name=name
    )
    try:
        caller.finish(20.0)
    except ProcessFailedError:
        return False
    return True


def _wait_back_in_service(lab: SipLab, callee: Process) -> None:
    """Until calls go through again; ``rtpengine_disable_tout`` of the example is 5 s."""
    attempts = iter(range(100))
    wait_until(lambda: _call_succeeds(lab, f"retry-{next(attempts)}"), 10.0, "calls go through again", interval=0.5)
    callee.wait(10.0)


@needs_sip_lab
@pytest.mark.parametrize(
    ("number", "most_seconds"),
    [
        (signal.SIGKILL, 1.5),  # Kamailio learns it at once, by ICMP
        (signal.SIGSTOP, 3.5),  # two tries of half a second for the offer, and two for a ping
    ],
    ids=["gone", "frozen"],
)
def test_media_proxy_away_call_is_refused_and_next_one_works_when_it_is_back(
    number: signal.Signals, most_seconds: float
) -> None:
    with SipLab() as lab:
        lab.start_all()
        process = lab.media_proxy.process
        process.send_signal(number)
        if number is signal.SIGSTOP:
            wait_until(process.is_frozen, 3.0, "frozen")
        else:
            process.wait(3.0)
        waited, refused = _refused_call(lab, "first")
        assert waited < most_seconds
        waited, _ = _refused_call(lab, "second")
        assert waited < min(most_seconds, 2.5)  # it is known to be away: only pinged
        if number is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
        else:
            lab.start_media_proxy()
        callee = Sipp(lab, lab.callee, "uas_agent", lab.addresses.callee)
        _wait_back_in_service(lab, callee.process)
        # A frozen proxy finds the first offer in its socket when it wakes up: a call that its offer time-out will end.
        left = {refused} if number is signal.SIGSTOP else set()
        wait_until(lambda: set(lab.media_proxy.ng.calls()) <= left, 3.0, "list empty")
