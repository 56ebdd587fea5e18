"""Prints replies: for people (tables by rich) or as JSON. What comes from the wire can't steer the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mediaproxy.cli.ng_client import NgValue

if TYPE_CHECKING:
    from rich.table import Table

Reply = Mapping[str, NgValue]

_PIPE_WIDTH: Final = 200
"""Columns of tables that don't go to a terminal."""


def print_json(reply: Reply) -> None:
    """The whole reply as one JSON document in ASCII; bytes that are no UTF-8 become U+FFFD."""
    print(json.dumps(_plain(dict(reply)), indent=2))


def print_sdp(reply: Reply) -> None:
    """The body to standard output, byte for byte, so that it can go into a file or a pipe."""
    body = reply.get("sdp")
    if body is None:
        print("ok")
        return
    raw = body if isinstance(body, bytes) else _text(body).encode("utf-8", "surrogateescape")
    if sys.stdout.isatty():
        print(_clean_lines(raw.decode("utf-8", "replace").replace("\r\n", "\n")), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()


def print_calls(reply: Reply) -> None:
    """One call-id a line."""
    for call_id in _items(reply.get("calls")):
        print(printable(_text(call_id)))


def print_call(reply: Reply) -> None:
    """A call as ``query`` and ``delete`` tell it: who sends what to whom, and how much of it."""
    if reply.keys() == {"result"}:
        print("ok")
    created = reply.get("created")
    if isinstance(created, int):
        print(f"created {_moment(created)}, last signalled {_moment(reply.get('last signal'))}")
    streams = _table("party", "media", "stream", "local", "remote", "received", "sent", "SSRC", "path", "flags")
    for tag, party in _mapping(reply.get("tags")).items():
        _add_party(streams, tag, _mapping(party))
    if streams.row_count:
        _show(streams)
    totals = _mapping(reply.get("totals"))
    for kind, total in totals.items():
        print(f"{printable(kind)}: {_traffic(total)} received in all")


def print_orphans(reply: Reply) -> None:
    """The flows that a dead daemon left in the kernel."""
    flows = _table("arrives at", "from", "leaves from", "to", "silent for")
    for flow in map(_mapping, _items(reply.get("orphans"))):
        ends = (_text(flow.get(end, "")) for end in ("local", "source", "sender", "target"))
        flows.add_row(*map(printable, ends), printable(f"{_text(flow.get('silent', '?'))} s"))
    if not flows.row_count:
        print("no flows without a call")
        return
    _show(flows)
    total = reply.get("total")
    if isinstance(total, int) and total > flows.row_count:
        print(f"{flows.row_count} of {total}")


def print_firewall(reply: Reply) -> None:
    """Lines as they are, to be read and pasted."""
    for line in _items(reply.get("firewall")):
        print(printable(_text(line).expandtabs(4)))


def print_tree(reply: Reply) -> None:
    """Any reply: a table of paths and values for each group, ``result`` only if there is nothing else."""
    if reply.keys() == {"result"}:
        print(printable(_text(reply["result"])))
    for name, value in reply.items():
        if name == "result":
            continue
        if not isinstance(value, dict | list):
            print(f"{printable(name)}: {printable(_text(value))}")
            continue
        grouped = isinstance(value, dict) and all(isinstance(item, dict | list) for item in value.values())
        for group, members in value.items() if isinstance(value, dict) and grouped else [(name, value)]:
            table = _table(group, "")
            for path, leaf in _leaves(members, ""):
                table.add_row(printable(path), printable(leaf))
            if table.row_count:
                _show(table)


PRINTERS: Final[Mapping[str, Callable[[Reply], None]]] = {
    "offer": print_sdp,
    "answer": print_sdp,
    "delete": print_call,
    "query": print_call,
    "list": print_calls,
    "list flows": print_orphans,
    "show firewall": print_firewall,
}
"""How the replies of commands are shown; other commands: ``print_tree``."""


def _add_party(table: Table, tag: str, party: Reply) -> None:
    label = party.get("label")
    name = tag if label is None else f"{tag} ({_text(label)})"
    for media in map(_mapping, _items(party.get("medias"))):
        about = " ".join(_text(media[key]) for key in ("index", "type", "protocol", "codec") if key in media)
        for stream in map(_mapping, _items(media.get("streams"))):
            flags = [_text(flag) for flag in _items(stream.get("flags"))]
            kind = "RTCP" if "RTCP" in flags else "RTP"
            local = ""
            if "local port" in stream:
                local = _joined(stream.get("local address"), stream["local port"])
            remote = _mapping(stream.get("endpoint"))
            table.add_row(
                *map(
                    printable,
                    (
                        name,
                        about,
                        kind,
                        local,
                        _joined(remote.get("address"), remote.get("port")) if remote else "",
                        _traffic(stream.get("stats")),
                        _traffic(stream.get("stats_out")),
                        _text(stream.get("SSRC", "")),
                        _path(stream),
                        ", ".join(flag for flag in flags if flag != kind),
                    ),
                )
            )
            name = about = ""
        if about:
            table.add_row(printable(name), printable(about))
            name = ""
    if name:
        table.add_row(printable(name), "no media")


def _leaves(value: NgValue, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, _text(value)


def _table(*columns: str) -> Table:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415  # "ping" needs no tables, and rich takes 50 ms
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(printable(column)), overflow="fold")
    return table


def _show(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415  # as above

    is_terminal = sys.stdout.isatty()
    # Cells are plain text: what is in square brackets there is no markup.
    Console(width=None if is_terminal else _PIPE_WIDTH, highlight=False, markup=False, emoji=False).print(table)


def _moment(seconds: NgValue | None) -> str:
    if not isinstance(seconds, int):
        return "?"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _path(stream: Reply) -> str:
    """Who forwards what arrives here, and why it is not the kernel. Servers that don't say have a flag at most."""
    if "path" not in stream:
        return ""
    reason = stream.get("path reason")
    path = _text(stream["path"])
    return path if reason is None else f"{path}: {_text(reason)}"


def _traffic(value: NgValue | None) -> str:
    counted = _mapping(value)
    if not counted:
        return ""
    text = f"{_text(counted.get('packets', 0))} packets, {_text(counted.get('bytes', 0))} bytes"
    errors = counted.get("errors", 0)
    return text if errors == 0 else f"{text}, {_text(errors)} errors"


def _joined(address: NgValue | None, port: NgValue | None) -> str:
    host = _text("" if address is None else address)
    number = _text("?" if port is None else port)
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def _mapping(value: NgValue | None) -> Reply:
    return value if isinstance(value, dict) else {}


def _items(value: NgValue | None) -> Iterable[NgValue]:
    return value if isinstance(value, list) else ()


def _text(value: NgValue) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def printable(text: str) -> str:
    """One line without control characters, whatever a server put into it."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _clean_lines(text: str) -> str:
    return "\n".join(printable(line.replace("\t", " ")) for line in text.split("\n"))


def _plain(value: NgValue) -> NgValue:
    if isinstance(value, dict):
        return {_unicode(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _unicode(_text(value)) if isinstance(value, str | bytes) else value


def _unicode(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
