"""What an SDP says, as typed facts; and its lines, sorted by what becomes of them in the outgoing SDP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from mediaproxy.errors import SdpIncompleteError
from mediaproxy.sdp.model import (
    Connection,
    SdpMedia,
    SessionDescription,
    fields_of,
    parse_connection,
    parse_number,
)
from mediaproxy.sdp.payload_types import STATIC_CODECS, Codec
from mediaproxy.sdp.plan import Direction, Origin

_MAX_PORT: Final = 65535
_MAX_PAYLOAD_TYPE: Final = 127
_MAX_CLOCK_RATE: Final = 4_294_967_295
_MAX_CHANNELS: Final = 255
_MAX_SSRC: Final = 4_294_967_295

_RTP_PROTOCOLS: Final = frozenset(
    {"RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF"}
)
_DIRECTIONS: Final = {direction.value: direction for direction in Direction}
ICE_ATTRIBUTES: Final = frozenset(
    {
        "candidate",
        "end-of-candidates",
        "ice-lite",
        "ice-mismatch",
        "ice-options",
        "ice-pacing",
        "ice-pwd",
        "ice-ufrag",
        "remote-candidates",
    }
)
"""They hold addresses of the sender and belong to a negotiation that ends at us: never passed on."""
_SESSION_ATTRIBUTES: Final = (
    ICE_ATTRIBUTES
    | _DIRECTIONS.keys()
    | {"crypto", "extmap-allow-mixed", "fingerprint", "group", "rtcp", "rtcp-mux", "rtpengine"}
)
_OPAQUE_GROUPS: Final[Mapping[str, str]] = {
    **{name: name for name in ICE_ATTRIBUTES},
    **dict.fromkeys(_DIRECTIONS, "direction"),
    **{name: name for name in ("bundle-only", "label", "mid", "rtcp", "rtcp-mux")},
}
"""The attributes that we understand in a section that isn't RTP, and what they are sorted under; others are copied."""
_CODEC_GROUPS: Final = frozenset({"fmtp", "rtcp-fb", "rtpmap"})
_RTP_GROUPS: Final[Mapping[str, str]] = {
    **_OPAQUE_GROUPS,
    **{name: name for name in _CODEC_GROUPS},
    **{name: name for name in ("crypto", "extmap", "extmap-allow-mixed", "fingerprint", "maxptime", "ptime")},
    **{name: name for name in ("setup", "tls-id")},
}


class TransportKind(Enum):
    """What an m= section's protocol means to a relay."""

    RTP = "RTP"
    OPAQUE = "opaque"
    """Some other protocol over UDP (``udptl``, ``UDP/BFCP``, ``DTLS/SCTP``, unknown ones): relayed unread."""
    NOT_RELAYED = "not relayed"
    """``message``, or over TCP: it keeps its port and address (reference E.3)."""


class RtcpAttribute(NamedTuple):
    """a=rtcp (RFC 3605). ``address`` is canonical; ``None`` means the one of c=."""

    port: int
    address: str | None


class AttributeLine(NamedTuple):
    """An a= line that we understand.

    Attributes:
        line: printable.
        argument: what follows the colon.
        number: the line's number, from 1.
        place: how many of the section's ``others`` came before it.
    """

    line: str
    argument: str
    number: int
    place: int


class MediaLines(NamedTuple):
    """The lines of an m= section, printable, sorted by what becomes of them in the outgoing SDP (reference E.1).

    Attributes:
        by_kind: all but a=, by letter.
        attributes: those that we understand, by name; the four directions are under ``direction``.
        rtpmaps: by payload type.
        codec_parameters: a=fmtp, then a=rtcp-fb, by payload type.
        others: the attributes that aren't ours to touch.
    """

    by_kind: dict[str, list[str]]
    attributes: dict[str, list[AttributeLine]]
    rtpmaps: dict[int, str]
    codec_parameters: dict[int, list[str]]
    others: list[str]


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What one m= section says.

    Attributes:
        index: place in the SDP, from 0.
        kind: ``audio``, ``video``, ``image``, ...
        port: 0 for a rejected section (or one with ``bundle_only``).
        protocol: as written.
        formats: as written. Those of RTP are payload types, checked unless the section is rejected.
        transport: what the protocol means to us.
        connection: of the section, else of the session; ``None`` only if the section is rejected or not relayed.
        rtcp: a=rtcp of an RTP section.
        direction: of the section, else of the session, else ``None``.
        mid, label, ptime, maxptime: as written.
        codecs: one per format of an RTP section, in order. The same number may mean something else in the next section.
        ssrcs: those that a=ssrc announces, each once.
        has_ice, has_crypto, has_fingerprint: in the section, or for the whole session.
        has_extmap: in the section.
        extmap_allow_mixed: in the section, or for the whole session.
        lines: for ``mediaproxy.sdp.rewrite``.
    """

    index: int
    kind: str
    port: int
    port_count: int
    protocol: str
    formats: tuple[str, ...]
    transport: TransportKind
    connection: Connection | None
    rtcp: RtcpAttribute | None
    rtcp_mux: bool
    direction: Direction | None
    mid: str | None
    label: str | None
    bundle_only: bool
    ptime: str | None
    maxptime: str | None
    codecs: tuple[Codec, ...]
    ssrcs: tuple[int, ...]
    has_ice: bool
    has_crypto: bool
    has_fingerprint: bool
    has_extmap: bool
    extmap_allow_mixed: bool
    lines: MediaLines

    @property
    def is_rtp(self) -> bool:
        return self.transport is TransportKind.RTP

    @property
    def relayed(self) -> bool:
        return self.transport is not TransportKind.NOT_RELAYED

    @property
    def unspecified(self) -> bool:
        """Media is asked to ``0.0.0.0`` or ``::``: held without ICE, not known yet with ICE."""
        return self.connection is not None and self.connection.unspecified

    @property
    def held(self) -> bool:
        """The old form of hold (RFC 3264, section 8.4).

        With ICE 0.0.0.0 (and port 9) says that no candidate is known yet (RFC 8839, section 4.3.1): never hold.
        """
        return self.unspecified and not self.has_ice

    @property
    def secure(self) -> bool:
        """SRTP is spoken or, under a plain profile, offered (RFC 8643)."""
        return "SAVP" in self.protocol.upper() or self.has_crypto or self.has_fingerprint

    @property
    def codec_table(self) -> tuple[tuple[int, str, int], ...]:
        """(payload type, ``name/rate[/channels]``, clock rate) of each codec; an unknown one has "" and 0."""
        return tuple((codec.payload_type, codec.encoding, codec.clock_rate) for codec in self.codecs)


class SessionLines(NamedTuple):
    """The lines of the session part by kind, printable; ``times`` is t= and r= as they alternate.

    ``attributes`` keeps the order: each with its name, for those whose passing on depends on the plan.
    """

    by_kind: dict[str, list[str]]
    times: list[str]
    attributes: list[tuple[str, str]]


class SessionFacts(NamedTuple):
    """What an SDP says.

    Attributes:
        loop_markers: values of a=rtpengine (``loop-protect``), ours and those of other instances.
        bundle_group: it groups sections with BUNDLE.
        lines: for ``mediaproxy.sdp.rewrite``.
    """

    origin: Origin | None
    session_name: str | None
    loop_markers: tuple[str, ...]
    bundle_group: bool
    ice_lite: bool
    medias: tuple[MediaFacts, ...]
    lines: SessionLines


class _SessionState(NamedTuple):
    """What the session part says for all sections."""

    connection: Connection | None
    direction: Direction | None
    has_ice: bool
    has_crypto: bool
    has_fingerprint: bool
    extmap_allow_mixed: bool


def classify_protocol(kind: str, protocol: str) -> TransportKind:
    """What the protocol of an m= line means to a relay (reference E.3)."""
    upper = protocol.upper()
    if upper in _RTP_PROTOCOLS:
        return TransportKind.RTP
    # "TCP/MSRP", "TCP/TLS/BFCP", "TCPTL" (T.38 over TCP, RFC 3362), "TLS/MSRP"
    if kind.lower() == "message" or upper.startswith(("TCP", "TLS")) or "/TCP/" in upper:
        return TransportKind.NOT_RELAYED
    return TransportKind.OPAQUE


def read_facts(sdp: SessionDescription) -> SessionFacts:
    """Read what relaying needs to know.

    What it doesn't need (a candidate with a ``.local`` name, a malformed a=ssrc) may say anything.

    Raises:
        SdpIncompleteError: a section that is to be relayed has no c=; an RTP section has a format that is no payload
            type, or an unusable a=rtcp.
    Source: reference E.13.
    """
    by_kind: dict[str, list[str]] = {}
    times: list[str] = []
    attributes: list[tuple[str, str]] = []
    markers: list[str] = []
    session_name: str | None = None
    direction: Direction | None = None
    bundle_group = ice_lite = has_ice = has_crypto = has_fingerprint = allow_mixed = False
    for kind, value, _ in sdp.lines + sdp.strays:
        if kind != "a":
            if kind in {"t", "r"}:
                times.append(f"{kind}={value}")
            else:
                by_kind.setdefault(kind, []).append(f"{kind}={value}")
                if kind == "s" and session_name is None:
                    session_name = value
            continue
        name, _, argument = value.partition(":")
        name = name.strip(" \t")
        if name in _SESSION_ATTRIBUTES:
            if name in ICE_ATTRIBUTES:
                has_ice = has_ice or name == "ice-ufrag"
                ice_lite = ice_lite or name == "ice-lite"
                continue
            if name in _DIRECTIONS:
                direction = _DIRECTIONS[name]
            elif name == "group":
                if fields_of(argument)[:1] == ["BUNDLE"]:
                    bundle_group = True
                    continue
            elif name == "rtpengine":
                markers.append(argument.strip(" \t"))
            elif name in {"rtcp", "rtcp-mux"}:
                continue  # not a session attribute; it would name the sender's port and address
            elif name == "extmap-allow-mixed":
                allow_mixed = True
                continue
            elif name == "crypto":
                has_crypto = True
            elif name == "fingerprint":
                has_fingerprint = True
        attributes.append((name, f"a={value}"))
    state = _SessionState(sdp.connection, direction, has_ice, has_crypto, has_fingerprint, allow_mixed)
    medias = tuple([_read_media(index, media, state) for index, media in enumerate(sdp.medias)])
    lines = SessionLines(by_kind, times, attributes)
    return SessionFacts(sdp.origin, session_name, tuple(markers), bundle_group, ice_lite, medias, lines)


def _read_media(index: int, media: SdpMedia, session: _SessionState) -> MediaFacts:
    transport = classify_protocol(media.media_type, media.protocol)
    is_rtp = transport is TransportKind.RTP
    connection = media.connection or session.connection
    if connection is None and media.port and transport is not TransportKind.NOT_RELAYED:
        raise SdpIncompleteError(f"line {media.number}: m={media.media_type} has no c=")
    payload_types = _payload_types(media) if is_rtp else ()
    lines = _sort_lines(media, _RTP_GROUPS if is_rtp else _OPAQUE_GROUPS, frozenset(payload_types))
    attributes = lines.attributes
    direction = session.direction
    if "direction" in attributes:
        direction = _DIRECTIONS[attributes["direction"][-1].line[2:].partition(":")[0].strip(" \t")]
    rtcp: RtcpAttribute | None = None
    if is_rtp and media.port:
        for attribute in attributes.get("rtcp", ()):
            rtcp = _read_rtcp(attribute)
    return MediaFacts(
        index=index,
        kind=media.media_type,
        port=media.port,
        port_count=media.port_count,
        protocol=media.protocol,
        formats=media.formats,
        transport=transport,
        connection=connection,
        rtcp=rtcp,
        rtcp_mux=is_rtp and "rtcp-mux" in attributes,
        direction=direction,
        mid=_first_argument(attributes, "mid"),
        label=_first_argument(attributes, "label"),
        bundle_only="bundle-only" in attributes,
        ptime=_first_argument(attributes, "ptime"),
        maxptime=_first_argument(attributes, "maxptime"),
        codecs=tuple([_read_codec(payload_type, lines.rtpmaps) for payload_type in payload_types]),
        ssrcs=_read_ssrcs(lines.others),
        has_ice=session.has_ice or "ice-ufrag" in attributes or "candidate" in attributes,
        has_crypto=session.has_crypto or _has(lines, "crypto"),
        has_fingerprint=session.has_fingerprint or _has(lines, "fingerprint"),
        has_extmap="extmap" in attributes,
        extmap_allow_mixed=session.extmap_allow_mixed or "extmap-allow-mixed" in attributes,
        lines=lines,
    )


def _sort_lines(media: SdpMedia, groups: Mapping[str, str], payload_types: frozenset[int]) -> MediaLines:
    by_kind: dict[str, list[str]] = {}
    attributes: dict[str, list[AttributeLine]] = {}
    rtpmaps: dict[int, str] = {}
    parameters: dict[int, list[str]] = {}
    feedbacks: list[tuple[int, str]] = []
    others: list[str] = []
    for number, (kind, value, _) in enumerate(media.lines, media.number + 1):
        line = f"{kind}={value}"
        if kind != "a":
            by_kind.setdefault(kind, []).append(line)
            continue
        name, _, argument = value.partition(":")
        group = groups.get(name) or groups.get(name.strip(" \t"))
        if group is None:
            others.append(line)
        elif group not in _CODEC_GROUPS:
            attribute = AttributeLine(line, argument.strip(" \t"), number, len(others))
            attributes.setdefault(group, []).append(attribute)
        else:
            payload_type = parse_number(_first_word(argument), _MAX_PAYLOAD_TYPE)
            if payload_type is None:
                others.append(line)  # "rtcp-fb:*" speaks of all formats at once
            elif payload_type not in payload_types:
                # Of no use to anybody; only rtcp-fb passes, as rtpengine lets it.
                if group == "rtcp-fb":
                    others.append(line)
            elif group == "rtpmap":
                rtpmaps.setdefault(payload_type, line)
            elif group == "fmtp":
                parameters.setdefault(payload_type, []).append(line)
            else:
                feedbacks.append((payload_type, line))
    for payload_type, line in feedbacks:
        parameters.setdefault(payload_type, []).append(line)
    return MediaLines(by_kind, attributes, rtpmaps, parameters, others)


def _first_argument(attributes: Mapping[str, list[AttributeLine]], name: str) -> str | None:
    found = attributes.get(name)
    return found[0].argument if found else None


def _first_word(text: str) -> str:
    words = fields_of(text)
    return words[0] if words else ""


def _has(lines: MediaLines, name: str) -> bool:
    """Whether there is such an attribute, even in a section that isn't RTP, where it is not ours to touch."""
    return name in lines.attributes or any(line.startswith(f"a={name}:") for line in lines.others)


def _read_ssrcs(lines: list[str]) -> tuple[int, ...]:
    ssrcs: dict[int, None] = {}
    for line in lines:
        if line.startswith("a=ssrc:"):
            ssrc = parse_number(_first_word(line[7:]), _MAX_SSRC)
            if ssrc is not None:
                ssrcs[ssrc] = None
    return tuple(ssrcs)


def _payload_types(media: SdpMedia) -> tuple[int, ...]:
    """The numbers of the m= line; a rejected section may list anything."""
    numbers = []
    for text in media.formats:
        number = parse_number(text, _MAX_PAYLOAD_TYPE)
        if number is not None:
            numbers.append(number)
        elif media.port:
            raise SdpIncompleteError(f"line {media.number}: format {text[:20]!r} is not a payload type from 0 to 127")
    return tuple(numbers)


def _read_codec(payload_type: int, rtpmaps: Mapping[int, str]) -> Codec:
    """What a=rtpmap says, else what RFC 3551 says.

    A clock rate or channel count that is no number leaves the codec without it; the line passes all the same.
    """
    line = rtpmaps.get(payload_type)
    if line is None:
        return STATIC_CODECS.get(payload_type) or Codec(payload_type, "", 0)
    fields = fields_of(line.partition(":")[2])
    name, _, rest = (fields[1] if len(fields) > 1 else "").partition("/")
    rate, _, channels = rest.partition("/")
    return Codec(
        payload_type, name, parse_number(rate, _MAX_CLOCK_RATE) or 0, parse_number(channels, _MAX_CHANNELS) or 1
    )


def _read_rtcp(attribute: AttributeLine) -> RtcpAttribute | None:
    number = attribute.number
    fields = fields_of(attribute.argument)
    port = parse_number(fields[0], _MAX_PORT) if fields else None
    if port is None:
        raise SdpIncompleteError(f"line {number}: a=rtcp without a port from 0 to {_MAX_PORT}")
    address: str | None = None
    if len(fields) > 1:
        connection = parse_connection(fields[1:])
        if connection is None:
            raise SdpIncompleteError(f"line {number}: a=rtcp with an unusable address")
        address = connection.address
    return RtcpAttribute(port, address) if port else None  # port 0: as if it weren't there
