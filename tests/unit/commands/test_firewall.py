"""``show firewall``: the lines that the shell made."""

from __future__ import annotations

from mediaproxy.engine import EngineSettings
from tests.support.sessions import Session


def test_lines_of_the_shell_are_passed_on() -> None:
    session = Session(settings=EngineSettings(firewall=("one", "two")))
    assert session.call("show firewall", None) == {"firewall": ["one", "two"], "result": "ok"}
