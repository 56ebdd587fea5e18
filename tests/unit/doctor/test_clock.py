"""Checks of the clock."""

from __future__ import annotations

import pytest

from mediaproxy.doctor.clock import check_clock, check_clock_source
from mediaproxy.doctor.finding import Severity
from mediaproxy.doctor.host import Clock
from mediaproxy.doctor.subject import Subject
from tests.unit.doctor.fakes import FakeHost, severities


def test_clock_synchronised_is_fine_and_else_a_warning() -> None:
    assert severities(check_clock(FakeHost(), Subject())) == {"clock": Severity.OK}
    (finding,) = check_clock(FakeHost(time=Clock(False, 16.0)), Subject())
    assert finding.severity is Severity.WARNING
    assert "chrony" in finding.advice
    assert not list(check_clock(FakeHost(time=None), Subject()))


@pytest.mark.parametrize(
    ("source", "severity"), [("tsc", Severity.OK), ("kvm-clock", Severity.OK), ("hpet", Severity.WARNING)]
)
def test_clock_source_slow_ones_are_a_warning(source: str, severity: Severity) -> None:
    host = FakeHost()
    host.files["/sys/devices/system/clocksource/clocksource0/current_clocksource"] = source
    assert severities(check_clock_source(host, Subject())) == {"clock-source": severity}
