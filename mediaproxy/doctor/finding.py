"""What an examination finds: values, worst last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Severity(IntEnum):
    """How bad it is."""

    OK = 0
    NOTE = 1
    """Worth knowing; nothing has to be done."""
    WARNING = 2
    """Works, but less well than it could, or not under load."""
    PROBLEM = 3
    """Calls fail, or lose media."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: its name, for scripts: stable, lower case with hyphens.
        seen: what is there, in one line.
        advice: what to do about it; empty where nothing is to be done.
    """

    check: str
    severity: Severity
    seen: str
    advice: str = ""


EXIT_FINE: Final = 0
EXIT_WARNINGS: Final = 1
EXIT_PROBLEMS: Final = 2


def exit_status(findings: Iterable[Finding]) -> int:
    """0 if nothing is worse than a note, 1 with warnings, 2 with problems."""
    worst = max((finding.severity for finding in findings), default=Severity.OK)
    return {Severity.WARNING: EXIT_WARNINGS, Severity.PROBLEM: EXIT_PROBLEMS}.get(worst, EXIT_FINE)
