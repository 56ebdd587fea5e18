"""What a user installs: the built wheel in an empty environment, without a compiler, carries a call in the kernel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.media_proxy import MediaProxyProcess
from tests.support.processes import wait_until
from tests.support.rtp_agent import RtpAgent
from tests.support.sip_lab import SipLab
from tests.support.sipp import sdp_endpoint

_ROOT = Path(__file__).resolve().parents[2]
_SYSTEM_TOOLS = ("python3", "nft", "mount", "umount")
_ENOUGH = 30


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of an environment with nothing but the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=_ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (_ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    subprocess.run([folder / "env/bin/python", *pip[1:], "install", str(wheel)], check=True)
    return folder / "env/bin"


def _hears(agent: RtpAgent, other: RtpAgent) -> int:
    return sum(arrival.ssrc == other.ssrc for arrival in agent.rtp())


@needs_sip_lab
def test_installed_wheel_needs_no_compiler_and_forwards_in_the_kernel(installed: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in _SYSTEM_TOOLS:
        path = shutil.which(tool)
        if path is not None:
            (tools / tool).symlink_to(path)
    assert not [name for name in ("clang", "gcc", "cc") if shutil.which(name, path=str(tools))]
    with SipLab(prefix="wheel") as lab:
        lab.media_proxy = MediaProxyProcess(
            lab, lab.proxy, (f"external/{lab.addresses.external}", f"internal/{lab.addresses.internal}"),
            kernel_path="tc", program=["env", "-i", f"PATH={tools}", str(installed / "mediaproxy"), "run"],
        )  # fmt: skip
        lab.start_kamailio()
        lab.register_callee()
        at_caller, at_callee = lab.agents()
        caller, callee = lab.call("uac_agent", "uas_agent", pause_ms=3000)
        offer = callee.wait_message("received", "INVITE")
        at_callee.talk_to(sdp_endpoint(offer.sdp or ""))
        at_caller.talk_to(sdp_endpoint(caller.wait_message("received", "200").sdp or ""))
        since = time.monotonic()
        wait_until(lambda: min(_hears(at_caller, at_callee), _hears(at_callee, at_caller)) >= _ENOUGH, 5.0, "audio")
        parties = lab.media_proxy.ng.query(offer.header("Call-ID"))["tags"].values()
        paths = [party["medias"][0]["streams"][0]["path"] for party in parties]
        assert paths == ["kernel", "kernel"], f"after {time.monotonic() - since:.1f} s"
        caller.finish()
        callee.finish()
