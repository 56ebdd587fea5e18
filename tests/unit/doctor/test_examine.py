"""The examination as a whole, what it prints and how it ends."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console

from mediaproxy.doctor.examine import CHECKS, examine
from mediaproxy.doctor.finding import Finding, Severity, exit_status
from mediaproxy.doctor.host import Host
from mediaproxy.doctor.report import as_json, print_findings
from mediaproxy.doctor.subject import Subject
from tests.unit.doctor.fakes import RELAY, FakeHost, subject_of


def test_examine_a_host_on_which_all_is_fine_finds_nothing_to_do() -> None:
    findings = examine(FakeHost(), subject_of(RELAY))
    assert {finding.severity for finding in findings} == {Severity.OK}
    assert not [finding for finding in findings if finding.advice]
    assert len(findings) >= len(CHECKS) - 3  # some say something only where something is wrong


def test_examine_an_empty_host_breaks_no_check() -> None:
    findings = examine(FakeHost(files={}, network=(), time=None, held=frozenset()), Subject())
    assert "internal-error" not in {finding.check for finding in findings}


def test_examine_a_check_that_breaks_is_a_finding_and_stops_no_other() -> None:
    def broken(_host: Host, _subject: Subject) -> Iterator[Finding]:
        raise KeyError("gone")

    def fine(_host: Host, _subject: Subject) -> Iterator[Finding]:
        yield Finding("fine", Severity.OK, "fine")

    first, second = examine(FakeHost(), Subject(), (broken, fine))
    assert (first.check, first.severity) == ("internal-error", Severity.PROBLEM)
    assert "broken failed: KeyError" in first.seen
    assert second.check == "fine"


@pytest.mark.parametrize(
    ("severities", "status"),
    [
        ((), 0),
        ((Severity.OK, Severity.NOTE), 0),
        ((Severity.NOTE, Severity.WARNING), 1),
        ((Severity.PROBLEM, Severity.WARNING), 2),
    ],
)
def test_exit_status_is_that_of_the_worst(severities: tuple[Severity, ...], status: int) -> None:
    assert exit_status(Finding("x", severity, "seen") for severity in severities) == status


def test_json_has_every_finding_and_the_status() -> None:
    document = json.loads(
        as_json([Finding("a", Severity.WARNING, "seen [bold]", "do"), Finding("b", Severity.OK, "x")])
    )
    assert document == {
        "status": 1,
        "findings": [
            {"check": "a", "severity": "warning", "seen": "seen [bold]", "advice": "do"},
            {"check": "b", "severity": "ok", "seen": "x", "advice": ""},
        ],
    }


def test_table_shows_what_was_seen_as_it_is_and_what_to_do() -> None:
    out = io.StringIO()
    print_findings(Console(file=out, width=100), [Finding("a", Severity.PROBLEM, "seen [red]", "do this")])
    assert "seen [red]" in out.getvalue()
    assert "> do this" in out.getvalue()
    assert "1 problems, 0 warnings, 0 notes, 0 fine" in out.getvalue()
