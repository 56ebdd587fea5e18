"""Checks of what else runs here."""

from __future__ import annotations

from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.instance import check_instance
from mediaproxy.net import Endpoint
from tests.unit.doctor.fakes import RELAY, FakeHost, severities, subject_of

SUBJECT = subject_of(RELAY)
NG = Endpoint("127.0.0.1", 2223)


def test_instance_nobody_there_is_fine() -> None:
    assert severities(check_instance(FakeHost(), SUBJECT)) == {"instance": Severity.OK}


def test_instance_a_daemon_of_ours_is_a_note() -> None:
    host = FakeHost(holder=42, owners={NG: (42, "python3")})
    found = list(check_instance(host, SUBJECT))
    assert [finding.severity for finding in found] == [Severity.NOTE, Severity.NOTE]
    assert "process 42" in found[0].seen


def test_instance_another_program_on_the_control_port_is_a_problem() -> None:
    host = FakeHost(owners={NG: (7, "rtpengine")})
    found = list(check_instance(host, SUBJECT))
    assert found[-1].check == "control-port"
    assert found[-1].severity is Severity.PROBLEM
    assert "rtpengine, process 7" in found[-1].seen
    assert found[-1].advice
