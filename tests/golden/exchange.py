"""The golden files: what they look like, and how a reply is compared with one.

A file is one story, told to a fresh engine::

    # Source: where the expected bodies come from. They are written by hand from there, never recorded from our output.
    interface NAME ADDRESS          in the order of the configuration; the first one is the default
    loop-marker HEX                 optional

    # a comment
    offer call-id=c1 from-tag=a replace=origin,session-connection flags=full-rtcp-attribute
    --- in                          the SDP sent; lines end in CRLF, with "--- in lf" in LF
    v=0
    --- out                         the SDP of the reply; all lines end in CRLF
    m=audio {port:b} RTP/AVP 0
    a=rtcp:{port:b+1}

Instead of ``--- out`` there may be ``--- error`` with the error-reason below it, or ``--- ok`` for a reply without SDP.
Keys are those of ng; the ones in ``LIST_KEYS`` are lists, with commas. Blank lines at the end of a block don't count.

``{port:NAME}`` stands for one port throughout the file, ``{port:NAME+1}`` for the one above it. Ports of different
names differ if they belong to the same address. ``{port}`` is a port without a name, new at each m= line, and
``{port+1}`` the one above the latest.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mediaproxy.ng.message import Dictionary, NgRequest, NgValue
from mediaproxy.ng.options import parse_request

LIST_KEYS: Final = frozenset({"direction", "flags", "received-from", "replace", "rtcp-mux", "supports"})
DEFAULT_LOOP_MARKER: Final = "ffffffffffff"

_STEP: Final = re.compile(r"(offer|answer|delete) ")
_PLACEHOLDER: Final = re.compile(r"\{port(?::(\w+))?(\+1)?\}")


@dataclass
class Step:
    """One request and what is expected of its reply.

    Attributes:
        number: the line of the request in the file.
        keys: as written, in order.
        body: the SDP sent; ``None`` sends none.
        outcome: ``out``, ``error`` or ``ok``.
        expected: the lines below it.
    """

    number: int
    command: str
    keys: list[tuple[str, str]]
    body: bytes | None = None
    outcome: str = ""
    expected: list[str] = field(default_factory=list)

    def request(self) -> NgRequest:
        """The request as the daemon would read it off the wire: SDP first, ``command`` last."""
        pairs = Dictionary()
        if self.body is not None:
            pairs.append((b"sdp", self.body))
        for key, value in self.keys:
            words: list[NgValue] = [word.encode() for word in value.split(",")]
            pairs.append((key.encode(), words if key in LIST_KEYS else value.encode()))
        pairs.append((b"command", self.command.encode()))
        return parse_request(pairs, "127.0.0.1")


@dataclass
class Story:
    """A whole file."""

    source: str
    interfaces: list[tuple[str, str]]
    loop_marker: str
    steps: list[Step]


def read_story(path: Path) -> Story:
    """Read a golden file.

    Raises:
        ValueError: it isn't of the form that this module describes; the text names the line.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    story = Story(lines[0].removeprefix("# Source: ") if lines[0].startswith("# Source: ") else "", [], "", [])
    block: list[str] | None = None
    blocks: list[tuple[Step, str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        if _STEP.match(line):
            command, *words = shlex.split(line)
            keys = [(key, value) for key, _, value in (word.partition("=") for word in words)]
            story.steps.append(Step(number, command, keys))
            block = None
        elif line.startswith("--- "):
            if not story.steps:
                raise ValueError(f"{path.name}:{number}: a block before the first request")
            block = []
            blocks.append((story.steps[-1], line[4:], block))
        elif block is not None:
            block.append(line)
        elif line.startswith("interface ") and not story.steps:
            _, name, address = line.split(" ")
            story.interfaces.append((name, address))
        elif line.startswith("loop-marker ") and not story.steps:
            story.loop_marker = line.split(" ")[1]
        elif line:
            raise ValueError(f"{path.name}:{number}: {line!r} belongs nowhere")
    for step, name, content in blocks:
        _take_block(path, step, name, content)
    for step in story.steps:
        if not step.outcome:
            raise ValueError(f"{path.name}:{step.number}: nothing is expected of this request")
    return story


def _take_block(path: Path, step: Step, name: str, content: list[str]) -> None:
    while content and not content[-1]:
        content.pop()
    if name in {"in", "in lf"}:
        ending = "\r\n" if name == "in" else "\n"
        step.body = "".join(line + ending for line in content).encode()
    elif name in {"out", "error", "ok"} and not step.outcome:
        step.outcome = name
        step.expected = content
    else:
        raise ValueError(f"{path.name}:{step.number}: block {name!r} is unknown or there twice")


class Ports:
    """The ports that the placeholders of one file have come to stand for."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}
        self._anonymous = 0

    def resolve(self, expected: list[str], actual: list[str]) -> list[str]:
        """The expected lines with their placeholders filled in: known ones as known, new ones from ``actual``.

        A new placeholder whose line differs from the actual one otherwise stays as it is, so that the comparison of
        both shows it.
        """
        resolved = []
        for index, line in enumerate(expected):
            resolved.append(self._resolve_line(line, actual[index] if index < len(actual) else ""))
        return resolved

    def _resolve_line(self, line: str, actual: str) -> str:
        if "{port" not in line:
            return line
        if line.startswith("m=") and "{port}" in line:
            self._anonymous += 1
        pattern = ""
        end = 0
        new: str | None = None
        for found in _PLACEHOLDER.finditer(line):
            name = found[1] or f"#{self._anonymous}"
            pattern += re.escape(line[end : found.start()])
            end = found.end()
            if name in self.by_name:
                pattern += str(self.by_name[name] + bool(found[2]))
            elif found[2] or new is not None:
                return line  # "+1" of nothing
            else:
                new = name
                pattern += r"(\d+)"
        pattern += re.escape(line[end:])
        matched = re.fullmatch(pattern, actual)
        if new is not None and matched is not None:
            self.by_name[new] = int(matched[1])
        return _PLACEHOLDER.sub(self._fill, line)

    def _fill(self, found: re.Match[str]) -> str:
        name = found[1] or f"#{self._anonymous}"
        if name not in self.by_name:
            return found[0]
        return str(self.by_name[name] + bool(found[2]))
