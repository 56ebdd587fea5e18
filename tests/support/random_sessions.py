"""Random sessions as values that can be played again: requests, reports of sources, and the passing of time.

The requests are well-formed, so that they reach the session rules; what they say need not make sense.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import Enum
from random import Random
from typing import Final, TypeAlias, TypeVar

from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.datapath import PacketClass, SourceEventKind
from mediaproxy.engine import EngineSettings
from mediaproxy.net import AddressFamily, Endpoint
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux
from tests.support.sessions import LOOP_MARKER, PRIVATE, PUBLIC, PUBLIC6

Word = TypeVar("Word", bound=Enum)

_CALL_IDS: Final = ("c1", "c1", "c1", "c2", "c3")
_TAGS: Final = ("a", "b", "c", "b1", "b2")
_BRANCHES: Final = (None, None, "z1", "z2", "z3")
_OWN: Final = (PUBLIC.address, PUBLIC6.address, PRIVATE.address)
_ADDRESSES: Final = ("192.0.2.1", "192.0.2.2", "10.0.0.5", "2001:db8::5")
_ODD_ADDRESSES: Final = ("0.0.0.0", "0.0.0.0", "::", "224.0.0.1", "127.0.0.1", *_OWN)
_PORTS: Final = (0, 1, 9, 9000, 9002, 17000, 65535)
_OWN_PORTS: Final = range(PUBLIC.port_min, PUBLIC.port_min + 16)
"""Ports are taken in order, so these are in use early."""

_KINDS: Final = ("audio", "audio", "audio", "video", "image", "application", "message", "text")
_PROTOCOLS: Final = (
    "RTP/AVP", "RTP/AVP", "RTP/AVP", "RTP/AVPF", "RTP/SAVP", "UDP/TLS/RTP/SAVPF", "udptl", "UDPTL", "UDP/BFCP",
    "TCP/MSRP", "rtp/avp",
)  # fmt: skip
_OTHER_FORMATS: Final = {"udptl": "t38", "UDPTL": "t38", "UDP/BFCP": "*", "TCP/MSRP": "*"}
_FORMATS: Final = ("0", "8", "9", "34", "96", "97", "101", "127")
_VERSIONS: Final = ("1", "2", "200", "x", "9" * 20, "9" * 5000)
_SESSION_LINES: Final = (
    "a=sendonly", "a=inactive", "a=group:BUNDLE 1", "a=ice-lite", f"a=rtpengine:{LOOP_MARKER}", "a=extmap-allow-mixed",
    "a=setup:active",
)  # fmt: skip
_SECTION_LINES: Final = (
    "a=sendonly", "a=recvonly", "a=inactive", "a=sendrecv", "a=rtcp-mux", "a=rtcp-mux", "a=rtcp:9055", "a=rtcp:0",
    "a=rtcp:65535 IN IP4 10.0.0.9", "a=rtcp:9 IN IP4 0.0.0.0", f"a=rtcp:30001 IN IP4 {PUBLIC.address}", "a=mid",
    "a=mid:1", "a=ptime", "a=ptime:20", "a=maxptime:", "a=rtpmap:0", "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 x",
    "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=candidate:1 1 UDP 1 x.local 9 typ host",
    "a=ice-ufrag:abcd", "a=crypto:1 x inline:y", "a=fingerprint:sha-1 AA", "a=extmap:1 urn:x", "a=extmap-allow-mixed",
    "a=rtcp-fb:96 nack", "a=label:1", "a=bundle-only", "b=AS:5", "k=x", "i=\xe9", "a=ssrc:5 cname:x",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """The relay reports a source; ``place`` picks one of the open transports, whatever their number."""

    place: int
    kind: SourceEventKind
    packet_class: PacketClass
    source: Endpoint


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


Step: TypeAlias = NgRequest | Report | Wait


@dataclass(frozen=True, slots=True)
class Setup:
    """How the proxy is set up for one session.

    Attributes:
        capacity: transports that the relay can open.
        busy: (address, even port) pairs that other programs have bound.
    """

    settings: EngineSettings
    capacity: int
    busy: frozenset[tuple[str, int]]


def random_setup(random: Random) -> Setup:
    """Short timeouts, and now and then scarce ports."""
    timeouts = Timeouts(
        media=60.0,
        silent=200.0,
        offer=120.0,
        final=random.choice((0.0, 0.0, 300.0)),
        delete_delay=random.choice((0.0, 5.0, 30.0)),
    )
    settings = EngineSettings(
        timeouts=timeouts, max_sessions=random.choice((None, None, 2)), port_quarantine=random.choice((0.0, 60.0))
    )
    settings = replace(settings, session=replace(settings.session, source_lock=random.random() < 0.8))
    busy = frozenset((address, port) for address in _OWN for port in _OWN_PORTS[::2] if random.random() < 0.1)
    return Setup(settings, random.choice((10, 40, 1000, 1000)), busy)


def random_step(random: Random) -> Step:
    """Mostly offers and answers, as many as other steps can be about."""
    kind = random.random()
    if kind < 0.7:
        return _random_exchange(random, "offer" if kind < 0.35 else "answer")
    if kind < 0.8:
        return _random_other_request(random)
    if kind < 0.95:
        return _random_report(random)
    return Wait(random.choice((0.1, 1.0, 3.0, 5.0, 30.0, 61.0)))


def describe_step(step: Step) -> str:
    """As its constructor call, without defaults."""
    if not isinstance(step, NgRequest):
        return repr(step)
    plain = NgRequest(step.command)
    values = ((one.name, getattr(step, one.name)) for one in fields(step))
    given = ", ".join(f"{name}={value!r}" for name, value in values if value != getattr(plain, name))
    return f"NgRequest({step.command!r}, {given})"


def _random_report(random: Random) -> Report:
    own = random.random() < 0.3
    address = random.choice(_OWN if own else (*_ADDRESSES, "203.0.113.66"))
    port = random.choice(_OWN_PORTS if own else (9000, 9002, 4444))
    return Report(
        random.randrange(1000), random.choice(list(SourceEventKind)), random.choice(list(PacketClass)),
        Endpoint(address, port),
    )  # fmt: skip


def _random_other_request(random: Random) -> NgRequest:
    command = random.choice(("delete", "delete", "delete", "query", "query", "list", "statistics", "ping"))
    request = NgRequest(command, call_id=random.choice(_CALL_IDS), from_tag=random.choice((None, *_TAGS)))
    if command == "delete":
        request.to_tag = random.choice((None, *_TAGS))
        request.via_branch = random.choice(_BRANCHES)
        request.delete_delay = random.choice((None, None, -1, 0, 5, 30))
        request.flags = _some(random, Flag, 0.1)
    return request


def _random_exchange(random: Random, command: str) -> NgRequest:
    request = NgRequest(
        command,
        sdp=_random_sdp(random),
        call_id=random.choice(_CALL_IDS),
        from_tag=random.choice(_TAGS),
        to_tag=random.choice((None, None, *_TAGS) if command == "offer" else _TAGS),
        via_branch=random.choice(_BRANCHES),
    )
    if random.random() < 0.7:
        _add_options(random, request)
    return request


def _add_options(random: Random, request: NgRequest) -> None:
    def often(share: float) -> bool:
        return random.random() < share

    if often(0.15):
        request.from_interface = random.choice(("pub", "priv", "dmz", "internal"))
    if often(0.15):
        request.to_interface = random.choice(("pub", "priv", "dmz", "external"))
    if often(0.15):
        request.address_family = random.choice(list(AddressFamily))
    if often(0.15):
        request.received_from = random.choice(("192.0.2.99", "2001:db8::99", "224.0.0.9"))
    if often(0.2):
        request.transport_protocol = random.choice(("RTP/AVP", "RTP/AVPF", "RTP/SAVPF"))
    if often(0.1):
        request.media_address = random.choice(("198.18.1.1", "2001:db8::7"))
    if often(0.4):
        request.rtcp_mux = _some(random, RtcpMux, 0.3)
    if often(0.4):
        request.replace = _some(random, Replace, 0.3)
    if often(0.5):
        request.flags = _some(random, Flag, 0.12)
    if often(0.3):
        request.endpoint_learning = random.choice(list(EndpointLearning))
    if often(0.15):
        request.tos = random.choice((0, 184, -1, 255))
    if often(0.4):
        request.sip_code = random.choice((180, 183, 200))
    if often(0.1):
        request.ice = random.choice((frozenset({"remove"}), frozenset({"force"})))
    if often(0.1):
        request.label, request.metadata = "desk", "note"


def _random_sdp(random: Random) -> bytes:
    lines = ["v=0"]
    if random.random() < 0.95:
        user, version = random.choice(("anna", "-", "\xe9")), random.choice(_VERSIONS)
        lines.append(f"o={user} {random.randrange(9)} {version} IN IP4 {random.choice(('host', '192.0.2.1'))}")
    lines.append("s=x")
    if random.random() < 0.9:
        lines.append(_random_connection(random))
    if random.random() < 0.9:
        lines.append("t=0 0")
    lines += [line for line in _SESSION_LINES if random.random() < 0.03]
    for _ in range(0 if random.random() < 0.03 else random.choice((1, 1, 1, 2, 2, 3))):
        lines += _random_section(random)
    body = ("\r\n".join(lines) + "\r\n").encode("latin-1")
    return _garble(random, body) if random.random() < 0.1 else body


def _random_section(random: Random) -> list[str]:
    protocol = random.choice(_PROTOCOLS)
    formats = _OTHER_FORMATS.get(protocol) or " ".join(random.choices(_FORMATS, k=random.randrange(5)))
    own = random.random() < 0.1
    port = random.choice(_OWN_PORTS if own else _PORTS)
    lines = [f"m={random.choice(_KINDS)} {port} {protocol} {formats}"]
    if own:
        lines.append(_connection(random.choice(_OWN)))
    elif random.random() < 0.4:
        lines.append(_random_connection(random))
    return lines + [line for line in _SECTION_LINES if random.random() < 0.08]


def _random_connection(random: Random) -> str:
    return _connection(random.choice(_ADDRESSES if random.random() < 0.8 else _ODD_ADDRESSES))


def _connection(address: str) -> str:
    return f"c=IN {'IP6' if ':' in address else 'IP4'} {address}"


def _garble(random: Random, body: bytes) -> bytes:
    for _ in range(random.randrange(1, 4)):
        begin = random.randrange(len(body) + 1)
        end = begin + random.choice((0, 0, 1, 6))
        piece = random.choice((
            b"",
            random.randbytes(1),
            bytes([random.choice(b"0123456789=:/ \r\n")]) * random.choice((1, 2, 20, 300)),
            body[random.randrange(len(body) + 1) :][:30],
        ))  # fmt: skip
        body = body[:begin] + piece + body[end:]
    return body


def _some(random: Random, words: Iterable[Word], share: float) -> frozenset[Word]:
    return frozenset(word for word in words if random.random() < share)
