"""The ``doctor`` command: options, exit codes, JSON. The host is a fake."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.backends.netlink import HostNetwork, LocalAddress
from mediaproxy.cli import doctor as command
from mediaproxy.cli.mediaproxy import app
from mediaproxy.doctor.host import Clock
from tests.unit.doctor.fakes import FakeHost, eth

ADDRESS = "127.0.0.1"
Examine = Callable[..., Result]


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(network=(eth("eth0", ADDRESS),))


@pytest.fixture
def doctor(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Runs the command on the fake host with one interface that is there."""
    network = HostNetwork((LocalAddress("eth0", ADDRESS, 8),), ADDRESS)
    monkeypatch.setattr(command, "LiveHost", lambda: host)
    monkeypatch.setattr(command, "read_host_network", lambda: network)

    def run(*arguments: str) -> Result:
        options = [f"--interface={ADDRESS}", "--port-min=20000", "--port-max=23999", *arguments]
        return CliRunner().invoke(app, ["doctor", *options], env={"MEDIAPROXY_CONFIG_FILE": "none"})

    return run


def _findings(result: Result) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in json.loads(result.output)["findings"]}


def test_doctor_on_a_good_host_ends_with_0(doctor: Examine) -> None:
    result = doctor()
    assert result.exit_code == 0
    assert "0 problems, 0 warnings" in result.output


def test_doctor_with_a_warning_ends_with_1(doctor: Examine, host: FakeHost) -> None:
    host.time = Clock(False, 1.0)
    result = doctor("--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["status"] == 1
    assert _findings(result)["clock"]["severity"] == "warning"


def test_doctor_with_a_problem_ends_with_2(doctor: Examine, host: FakeHost) -> None:
    host.offloads = {"eth0": {"rx-gro-list": True}}
    result = doctor("--json")
    assert result.exit_code == 2
    assert _findings(result)["offload"]["advice"] == "ethtool -K eth0 rx-gro-list off"


def test_doctor_takes_the_options_of_run(doctor: Examine, host: FakeHost) -> None:
    host.refusals = {"nft": "no"}
    result = doctor("--json", "--kernel-path=nft", "--nft-form=fast", "--instance=edge1", "--run-dir=/run/elsewhere")
    found = _findings(result)
    assert result.exit_code == 2
    assert found["backend-nft"]["severity"] == "problem"
    assert found["nft-form"]["severity"] == "note"
    assert "/run/elsewhere/edge1/bpf" in found["bpffs"]["seen"]
    assert "edge1" in found["instance"]["seen"]
    assert ("nft", NftForm.FAST) in host.tried


def test_doctor_with_a_bad_option_names_it_and_examines_the_host(doctor: Examine) -> None:
    result = doctor("--json", "--timeout=soon")
    found = _findings(result)
    assert result.exit_code == 2
    assert "timeout" in found["configuration"]["seen"]
    assert "kernel" in found


def test_doctor_help_lists_json_and_the_options_of_run(doctor: Examine) -> None:
    result = doctor("--help")
    assert result.exit_code == 0
    assert "--json" in result.output
    assert "--kernel-path" in result.output
