"""SDP as its lines: lossless, so what we don't understand leaves as it came.

The text is the bytes decoded as latin-1: every byte is one character and survives, whatever character set the sender
used. That is also why nothing here calls ``str.split()`` or ``str.strip()`` without an argument: the second byte of a
UTF-8 "à" decodes to U+00A0, which both take for white space.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

from mediaproxy.errors import SdpSyntaxError
from mediaproxy.net import AddressFamily, is_unspecified, parse_address
from mediaproxy.sdp.plan import Origin

MAX_SDP_BYTES: Final = 64 * 1024
"""A UDP datagram can't carry more; the stream transports are held to the same."""
MAX_SDP_LINES: Final = 4096
MAX_MEDIA_SECTIONS: Final = 64
"""Each one costs port pairs on both sides."""

_LINE_KINDS: Final = frozenset("vosiuepcbtrzkam")
_SESSION_ONLY_KINDS: Final = frozenset("vosuetprz")
"""Lines that describe the session wherever they stand: "unusual line order" is accepted (reference E.13)."""
_MIN_MEDIA_FIELDS: Final = 3
_MIN_ORIGIN_FIELDS: Final = 6
_CONNECTION_FIELDS: Final = 3
_MAX_PORT: Final = 65535


class SdpLine(NamedTuple):
    """One line; ``ending`` is what followed the value: CRLF, LF, something odd such as CR CR LF, or nothing."""

    kind: str
    value: str
    ending: str


class Connection(NamedTuple):
    """An address that media is asked for (RFC 8866, section 5.7).

    ``address`` is canonical; a multicast address comes through like any other, whether media may go there is not
    decided here.
    """

    address: str
    family: AddressFamily

    @property
    def unspecified(self) -> bool:
        """``0.0.0.0`` or ``::``: "nowhere" (RFC 3264, section 8.4), or "not known yet" with ICE."""
        return is_unspecified(self.address)


class SdpMedia(NamedTuple):
    """One m= section.

    Attributes:
        number: the line number of the m= line, from 1.
        line: the m= line itself.
        lines: the lines below it, up to the next m=.
        media_type: ``audio``, ``video``, ``image``, ...
        port: 0..65535.
        port_count: the number behind the slash; 1 if there is none.
        protocol: as written.
        formats: as written; may be empty.
        connection: the section's own (first) c=.
    """

    number: int
    line: SdpLine
    lines: tuple[SdpLine, ...]
    media_type: str
    port: int
    port_count: int
    protocol: str
    formats: tuple[str, ...]
    connection: Connection | None


class SessionDescription(NamedTuple):
    """A whole SDP.

    Attributes:
        lines: the session part.
        medias: the m= sections in order.
        strays: session lines that stood inside m= sections (they are in those sections' ``lines`` too).
        origin: the first o=.
        connection: the session's (first) c=.
        tail: everything from the first blank line on, which is not SDP any more (reference E.13).
    """

    lines: tuple[SdpLine, ...]
    medias: tuple[SdpMedia, ...]
    strays: tuple[SdpLine, ...]
    origin: Origin | None
    connection: Connection | None
    tail: str

    def to_bytes(self) -> bytes:
        """The body that was parsed, byte for byte."""
        parts = [f"{kind}={value}{ending}" for kind, value, ending in self.lines]
        for media in self.medias:
            parts += [f"{kind}={value}{ending}" for kind, value, ending in chain((media.line,), media.lines)]
        parts.append(self.tail)
        return "".join(parts).encode("latin-1")


def fields_of(value: str) -> list[str]:
    """The words of a value, separated by any number of spaces and tabs."""
    if "\t" in value:
        value = value.replace("\t", " ")
    words = value.split(" ")
    return [word for word in words if word] if "" in words else words


def parse_number(text: str, maximum: int) -> int | None:
    """A decimal number 0..``maximum``, or ``None``: no sign, no white space, no more digits than needed."""
    if not text.isdecimal() or len(text) > len(str(maximum)):
        return None
    number = int(text)
    return number if number <= maximum else None


def parse_connection(fields: list[str]) -> Connection | None:
    """Read ``IN IP4 ADDRESS``, the address with an optional ``/TTL/COUNT`` (RFC 8866, section 5.7).

    Returns:
        ``None`` if it isn't that: another network, a host name, an address of the other family.
    """
    if len(fields) != _CONNECTION_FIELDS or fields[0].upper() != "IN":
        return None
    text, slash, scope = fields[2].partition("/")
    if slash and not all(parse_number(number, _MAX_PORT) is not None for number in scope.split("/")):
        return None
    try:
        address, family = parse_address(text)
    except ValueError:
        return None
    if fields[1].upper() != ("IP6" if ":" in text else "IP4"):
        return None
    return Connection(address, family)


def parse_sdp(body: bytes) -> SessionDescription:
    """Take an SDP apart into its lines.

    An empty body is an SDP without m= lines: refused when it is rewritten, not here (reference E.13).

    Args:
        body: as received; line ends may be CRLF, LF or mixed, the last one may be missing.
    Raises:
        SdpSyntaxError: it is larger than ``MAX_SDP_BYTES``, ``MAX_SDP_LINES`` or ``MAX_MEDIA_SECTIONS``; the first line
            isn't ``v=0``; a line is not ``letter=value`` with a letter of RFC 8866, or holds a NUL or a CR that ends
            no line; o= has too few fields; c= has no IP address; m= has no type, port and protocol.
    Source: RFC 8866, section 5; reference E.13.
    """
    lines, tail = _split_lines(body)
    if lines and (lines[0].kind != "v" or lines[0].value.strip(" \t") != "0"):
        raise SdpSyntaxError("line 1: not v=0")
    starts = [index for index, line in enumerate(lines) if line.kind == "m"]
    if len(starts) > MAX_MEDIA_SECTIONS:
        raise SdpSyntaxError(f"line {starts[MAX_MEDIA_SECTIONS] + 1}: more than {MAX_MEDIA_SECTIONS} m= sections")
    ends = [*starts[1:], len(lines)]
    session_lines = tuple(lines[: starts[0]] if starts else lines)
    medias = tuple([_parse_media(start + 1, lines[start:end]) for start, end in zip(starts, ends, strict=False)])
    strays = tuple([line for media in medias for line in media.lines if line.kind in _SESSION_ONLY_KINDS])
    origin = _parse_origins(lines)
    connection = _parse_connections(1, session_lines)
    return SessionDescription(session_lines, medias, strays, origin, connection, tail)


def _split_lines(body: bytes) -> tuple[list[SdpLine], str]:
    """The lines up to the first blank one, and the rest as it is."""
    if len(body) > MAX_SDP_BYTES:
        raise SdpSyntaxError(f"{len(body)} bytes, more than {MAX_SDP_BYTES}")
    raw_lines = body.decode("latin-1").split("\n")
    if len(raw_lines) > MAX_SDP_LINES + 1:
        raise SdpSyntaxError(f"more than {MAX_SDP_LINES} lines")
    lines: list[SdpLine] = []
    last = len(raw_lines)
    for number, raw in enumerate(raw_lines, 1):
        text = raw
        ending = "\n" if number != last else ""
        if text.endswith("\r"):
            text = text.rstrip("\r")
            ending = raw[len(text) :] + ending
        if text[1:2] != "=":
            if not text.strip(" \t"):
                return lines, "\n".join(raw_lines[number - 1 :])
            raise SdpSyntaxError(f"line {number}: not of the form letter=value")
        if text[0] not in _LINE_KINDS:
            raise SdpSyntaxError(f"line {number}: unknown line type {text[0]!r}")
        if "\r" in text or "\0" in text:
            raise SdpSyntaxError(f"line {number}: holds a NUL or a CR that ends no line")
        lines.append(SdpLine(text[0], text[2:], ending))
    return lines, ""


def _parse_origins(lines: list[SdpLine]) -> Origin | None:
    """The first o=; each one is checked."""
    origins = [_parse_origin(number, line.value) for number, line in enumerate(lines, 1) if line.kind == "o"]
    return origins[0] if origins else None


def _parse_connections(first_number: int, lines: Sequence[SdpLine]) -> Connection | None:
    """The first c=; each one is checked."""
    first: Connection | None = None
    for number, line in enumerate(lines, first_number):
        if line.kind == "c":
            connection = parse_connection(fields_of(line.value))
            if connection is None:
                raise SdpSyntaxError(f"line {number}: c= without a usable IP address")
            first = first or connection
    return first


def _parse_origin(number: int, value: str) -> Origin:
    fields = fields_of(value)
    if len(fields) < _MIN_ORIGIN_FIELDS:
        raise SdpSyntaxError(f"line {number}: o= has {len(fields)} fields, not {_MIN_ORIGIN_FIELDS}")
    # Some user agents put a display name with spaces first; the other five fields have none.
    return Origin(" ".join(fields[:-5]), *fields[-5:])


def _parse_media(number: int, lines: list[SdpLine]) -> SdpMedia:
    line = lines[0]
    fields = fields_of(line.value)
    if len(fields) < _MIN_MEDIA_FIELDS:
        raise SdpSyntaxError(f"line {number}: m= without type, port and protocol")
    port_text, slash, count_text = fields[1].partition("/")
    port = parse_number(port_text, _MAX_PORT)
    if port is None:
        raise SdpSyntaxError(f"line {number}: m= port is not a number from 0 to {_MAX_PORT}")
    count = parse_number(count_text, _MAX_PORT) if slash else 1
    if not count:
        raise SdpSyntaxError(f"line {number}: m= port count is not a number from 1 to {_MAX_PORT}")
    below = tuple(lines[1:])
    connection = _parse_connections(number + 1, below)
    return SdpMedia(number, line, below, fields[0], port, count, fields[2], tuple(fields[3:]), connection)
