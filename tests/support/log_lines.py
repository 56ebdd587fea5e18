"""A log destination that remembers."""

from __future__ import annotations

from mediaproxy.logs import LogLevel


class Lines:
    """Attributes:
    lines: what was written, in order.
    reopened: how many times it was asked to open anew.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.reopened = 0

    def write(self, level: LogLevel, line: str, /) -> bool:
        self.lines.append(line)
        return True

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        pass
