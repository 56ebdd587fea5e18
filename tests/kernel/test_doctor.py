"""``mediaproxy doctor`` in a namespace whose settings are in the way of media, and in one where they are not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2.ethtool.ethtool import Ethtool

from tests.support.netlab import Namespace, NetLab, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "runs here")

TIMEOUT = 60


@pytest.fixture
def host() -> Iterator[Namespace]:
    """Two devices with an address each."""
    with NetLab("doctor") as lab:
        host, peer = lab.namespace("host"), lab.namespace("peer")
        for number in (1, 2):
            lab.cable(host, f"eth{number}", peer, f"peer{number}")
            lab.address(host, f"eth{number}", f"10.9.{number}.1/24")
        host.sysctl(ipv4__ip_local_port_range="32768 60999")
        yield host


def _examine(host: Namespace, *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    options = ("--config-file=none", "--interface=a/10.9.1.1", "--interface=b/10.9.2.1", *more)
    done = subprocess.run(
        host.command(sys.executable, "-m", "mediaproxy", "doctor", "--json", *options),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["status"] == done.returncode
    return done.returncode, {finding["check"]: finding for finding in document["findings"]}


def _switch_on(device: str, offload: str) -> None:
    with Ethtool() as ethtool:
        features = ethtool.get_features(device)
        features.features[offload].enable = True
        ethtool.set_features(device, features)


def test_doctor_settings_in_the_way_are_named_with_what_to_do(host: Namespace) -> None:
    host.sysctl(ipv4__conf__eth1__rp_filter=1, ipv4__ip_local_port_range="20000 60999")
    host.call(lambda: _switch_on("eth2", "rx-udp-gro-forwarding"))
    status, found = _examine(host, "--port-min=30000", "--port-max=30019")
    assert status == 2
    assert found["rp-filter"]["severity"] == "warning"
    assert "net.ipv4.conf.eth1.rp_filter=2" in found["rp-filter"]["advice"]
    assert "eth2" not in found["rp-filter"]["seen"]
    assert found["offload"]["severity"] == "problem"
    assert found["offload"]["advice"] == "ethtool -K eth2 rx-udp-gro-forwarding off"
    assert found["ports"]["severity"] == "warning"
    assert found["port-overlap"]["severity"] == "warning"
    assert "30000-30019" in found["port-overlap"]["advice"]


def test_doctor_settings_that_are_fine_are_said_to_be_fine(host: Namespace) -> None:
    _, found = _examine(host, "--port-min=20000", "--port-max=29999")
    for check in ("rp-filter", "offload", "ports", "port-overlap", "address", "mtu"):
        assert found[check]["severity"] == "ok", found[check]
    assert "10.9.1.1 (eth1), 10.9.2.1 (eth2)" in found["address"]["seen"]


def test_doctor_address_absent_and_control_port_taken_are_problems(host: Namespace) -> None:
    with host.udp_socket("127.0.0.1", 2223):
        status, found = _examine(host, "--interface=c/10.9.3.1")
    assert status == 2
    assert found["control-port"]["severity"] == "problem"
    assert "2223" in found["control-port"]["seen"]
    status, found = _examine(host, "--interface=c/10.9.3.1")
    assert "control-port" not in found


def test_doctor_configuration_that_cannot_be_used_is_a_problem_and_the_host_is_examined(host: Namespace) -> None:
    status, found = _examine(host, "--port-min=99999")
    assert status == 2
    assert found["configuration"]["severity"] == "problem"
    assert "kernel" in found
    assert "ports" not in found
