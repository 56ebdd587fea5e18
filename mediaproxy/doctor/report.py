"""Findings as a table for people and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mediaproxy.doctor.finding import Finding, Severity, exit_status

_STYLES: Final = {
    Severity.OK: "green",
    Severity.NOTE: "cyan",
    Severity.WARNING: "yellow",
    Severity.PROBLEM: "bold red",
}


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """A row each in the order of examination, and how many there are of what is not fine."""
    table = Table(show_edge=False, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        text = Text(finding.seen)
        if finding.advice:
            text.append(f"\n> {finding.advice}", style="bold")
        table.add_row(Text(finding.severity.name.lower(), style=_STYLES[finding.severity]), Text(finding.check), text)
    console.print(table)
    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    console.print(
        f"{counts[Severity.PROBLEM]} problems, {counts[Severity.WARNING]} warnings, {counts[Severity.NOTE]} notes, "
        f"{counts[Severity.OK]} fine",
        highlight=False,
    )


def as_json(findings: Sequence[Finding]) -> str:
    """One object: ``status`` is the exit code, ``findings`` have check, severity (a word), seen and advice."""
    document = {
        "status": exit_status(findings),
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity.name.lower(),
                "seen": finding.seen,
                "advice": finding.advice,
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=1)
