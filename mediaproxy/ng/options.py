"""The ng options as tables: one row per key and per word, from which requests are read and the manual is printed.

Spellings: keys and words are compared after ``normalise``, which covers the variants of all ng clients (``call-ID``,
``call id``, ``to_tag``, ...); a row lists only the further ones. What no row knows is ignored and named in
``NgRequest.unknown``: refusing it would break clients that are newer than we are (reference A.4, G.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mediaproxy.errors import PayloadError, RequestError
from mediaproxy.ng.message import Dictionary, NgRequest, NgValue
from mediaproxy.ng.readers import (
    Direction,
    Reader,
    normalise,
    read_address,
    read_body,
    read_direction,
    read_family,
    read_integer,
    read_natural,
    read_received_from,
    read_sdes,
    read_text,
    read_tos,
    to_text,
    word_reader,
    words_of,
    words_reader,
)
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux

MAX_UNKNOWN: Final = 32
"""How many unknown keys and words of one request are named."""

MAX_NAME: Final = 1024
"""The longest call-id, tag, branch, label or metadata, in bytes: they are kept, logged and listed."""

_MAX_UNKNOWN_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a list.

    Attributes:
        name: canonical spelling.
        meaning: what the field of the request gets; ``None``: accepted without effect.
        doc: for the manual; completes "the word ... ".
        spellings: further ones, beyond those that ``normalise`` makes alike.
        field: the field of ``NgRequest`` for words of ``flags``; other lists have one field for all their words.
    """

    name: str
    meaning: Enum | str | None
    doc: str
    spellings: tuple[str, ...] = ()
    field: str = "flags"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the dictionary.

    Attributes:
        name: canonical spelling, normalised.
        field: the field of ``NgRequest``; ``None``: accepted without effect.
        read: how its value is read.
        form: the value's form, for the manual.
        doc: for the manual.
        spellings: further ones, beyond those that ``normalise`` makes alike.
        prefix: words of ``flags`` that begin with ``name`` and a hyphen go on with a word of this key's list.
        max_bytes: of a string; a longer one is refused.
    """

    name: str
    field: str | None
    read: Reader
    form: str
    doc: str
    spellings: tuple[str, ...] = ()
    prefix: bool = False
    max_bytes: int | None = None


REPLACE_WORDS: Final = (
    Word("origin", Replace.ORIGIN, "put our address into `o=`"),
    Word("origin-full", Replace.ORIGIN_FULL, "write a whole `o=` line of our own, with its own version"),
    Word("session-connection", Replace.SESSION_CONNECTION, "no effect: the session's `c=` is always rewritten"),
    Word("sdp-version", Replace.SDP_VERSION, "keep the first `o=` version, and raise it by 1 when the SDP changes"),
    Word("username", Replace.USERNAME, "keep the first user name of `o=`"),
    Word("session-name", Replace.SESSION_NAME, "keep the first `s=`"),
    Word("zero-address", Replace.ZERO_ADDRESS, "print our address where the original has 0.0.0.0"),
    Word(
        "force-increment-sdp-ver",
        Replace.FORCE_INCREMENT_SDP_VERSION,
        "raise the `o=` version by 1 in every message after the first",
        ("force-increment-sdp-version",),
    ),
)

RTCP_MUX_WORDS: Final = (
    Word("offer", RtcpMux.OFFER, "offer rtcp-mux, with a port for RTCP to fall back to"),
    Word("require", RtcpMux.REQUIRE, "offer rtcp-mux, without a port for RTCP"),
    Word("demux", RtcpMux.DEMUX, "accept it from the offerer, and don't offer it to the other side"),
    Word("accept", RtcpMux.ACCEPT, "accept it from the offerer, even if the other side declines"),
    Word("reject", RtcpMux.REJECT, "decline it towards the offerer"),
)

ENDPOINT_LEARNING_WORDS: Final = (
    Word("delayed", EndpointLearning.DELAYED, "the latest source of the first seconds counts"),
    Word("immediate", EndpointLearning.IMMEDIATE, "the first packet decides"),
    Word("off", EndpointLearning.OFF, "only the SDP's address counts"),
    Word("heuristic", EndpointLearning.HEURISTIC, "the best match with the SDP among the first seconds' sources"),
)

ICE_WORDS: Final = (
    Word("remove", "remove", "no ICE towards the receiver of this SDP"),
    Word("force", "force", "our ICE instead of the client's"),
    Word("default", None, "as without this key"),
    Word("optional", "optional", "our candidates beside the client's"),
    Word("force-relay", "force-relay", "the client's relay candidates, and ours"),
    Word("trickle", "trickle", "advertise trickle ICE"),
)

DTLS_WORDS: Final = (
    Word("off", "off", "no DTLS towards the receiver of this SDP", ("no", "disable", "disabled")),
    Word("passive", "passive", "be passive where there is a choice"),
    Word("active", "active", "be active where there is a choice"),
)

SDES_WORDS: Final = (
    Word("off", "off", "no `a=crypto` towards the receiver of this SDP", ("no", "disable", "disabled")),
    Word("unencrypted-srtp", "unencrypted-srtp", "session parameter UNENCRYPTED_SRTP"),
    Word("unencrypted-srtcp", "unencrypted-srtcp", "session parameter UNENCRYPTED_SRTCP"),
    Word("unauthenticated-srtp", "unauthenticated-srtp", "session parameter UNAUTHENTICATED_SRTP"),
    Word("encrypted-srtp", "encrypted-srtp", "not the session parameter UNENCRYPTED_SRTP"),
    Word("encrypted-srtcp", "encrypted-srtcp", "not the session parameter UNENCRYPTED_SRTCP"),
    Word("authenticated-srtp", "authenticated-srtp", "not the session parameter UNAUTHENTICATED_SRTP"),
    Word("lifetime", "lifetime", "print the key's lifetime"),
    Word("pad", "pad", "keep the padding of base64 keys"),
    Word("static", "static", "keep suite and keys over re-negotiations"),
    Word("nonew", "nonew", "add no suite to those that were offered"),
    Word("prefer", "prefer", "SDES before DTLS where both would work", ("priority",)),
)

FLAG_WORDS: Final = (
    Word("trust-address", Flag.TRUST_ADDRESS, "believe the SDP's addresses (the default)"),
    Word(
        "SIP-source-address",
        Flag.SIP_SOURCE_ADDRESS,
        "send media to the address of `received-from` instead of the SDP's; the port is the SDP's",
    ),
    Word("asymmetric", Flag.ASYMMETRIC, "this party's source differs from its SDP's address: learn nothing"),
    Word("strict-source", Flag.STRICT_SOURCE, "drop media from other sources once the source is known"),
    Word("media-handover", Flag.MEDIA_HANDOVER, "follow a source that changes later"),
    Word("port-latching", Flag.PORT_LATCHING, "no effect: ports always stay"),
    Word("no-port-latching", Flag.NO_PORT_LATCHING, "no effect: ports always stay"),
    Word("loop-protect", Flag.LOOP_PROTECT, "mark the SDP, and pass it unchanged if it bears our mark already"),
    Word("no-rtcp-attribute", Flag.NO_RTCP_ATTRIBUTE, "print no `a=rtcp`"),
    Word("full-rtcp-attribute", Flag.FULL_RTCP_ATTRIBUTE, "print `a=rtcp` with its address"),
    Word("generate-mid", Flag.GENERATE_MID, "add `a=mid` where it is missing"),
    Word("strip-extmap", Flag.STRIP_EXTMAP, "remove all `a=extmap`"),
    Word("original-sendrecv", Flag.ORIGINAL_SENDRECV, "print the direction attribute as its sender wrote it"),
    Word("new-branch", Flag.NEW_BRANCH, "a new to-tag in this answer is another callee"),
    Word("provisional", Flag.PROVISIONAL, "this answer is not the final one"),
    Word("to-tag", Flag.TO_TAG, "`delete` selects by `to-tag` too"),
    Word("fatal", Flag.FATAL, "`delete` of something unknown is an error"),
    Word("fast", Flag.FAST, "`delete` replies without statistics"),
    Word("pad-crypto", "pad", "as `SDES` `pad`", field="sdes"),
    Word("trickle-ICE", "trickle", "as `ICE` `trickle`", field="ice"),
    Word("symmetric", None, "the default"),
    Word("force", None, "of rtpproxy's days"),
    Word("asymmetric-codecs", None, "obsolete"),
    Word("symmetric-codecs", None, "obsolete"),
    Word("reorder-codecs", None, "obsolete"),
)


def _by_spelling(words: Sequence[Word]) -> dict[bytes, Word]:
    return {normalise(spelling.encode()): word for word in words for spelling in (word.name, *word.spellings)}


def _enums(words: Sequence[Word]) -> dict[bytes, Enum | None]:
    table = _by_spelling(words)
    return {spelling: word.meaning for spelling, word in table.items() if not isinstance(word.meaning, str)}


def _strings(words: Sequence[Word]) -> dict[bytes, str | None]:
    table = _by_spelling(words)
    return {spelling: word.meaning for spelling, word in table.items() if not isinstance(word.meaning, Enum)}


_SDES_NAMES: Final = {spelling: word.name for spelling, word in _by_spelling(SDES_WORDS).items()}
_TRANSPORT_PROTOCOLS: Final = {
    name.encode(): name
    for name in ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF")
}
_read_supported: Final = words_reader({b"load-limit": "load limit"})


def _read_supports(value: NgValue, rejected: list[bytes]) -> bool | None:
    supported = _read_supported(value, rejected)
    return None if supported is None else bool(supported)


def _read_sdes_list(value: NgValue, rejected: list[bytes]) -> tuple[str, ...] | None:
    return None if words_of(value) is None else read_sdes(value, rejected, _SDES_NAMES)


def _read_transport_protocol(value: NgValue, _rejected: list[bytes]) -> str | None:
    return _TRANSPORT_PROTOCOLS.get(value.upper()) if type(value) is bytes else None


def _read_nothing(_value: NgValue, _rejected: list[bytes]) -> bool:
    return True


KEYS: Final = (
    Key("command", "command", read_text, "string", "What to do; compared as it stands."),
    Key("call-id", "call_id", read_text, "string", "Which call.", max_bytes=MAX_NAME),
    Key("from-tag", "from_tag", read_text, "string", "The offerer's tag.", max_bytes=MAX_NAME),
    Key("to-tag", "to_tag", read_text, "string", "The answerer's tag.", max_bytes=MAX_NAME),
    Key("via-branch", "via_branch", read_text, "string", "Tells the branches of a forked offer apart.",
        max_bytes=MAX_NAME),
    Key("sdp", "sdp", read_body, "string", "The session description."),
    Key("supports", "supports_load_limit", _read_supports, "list", "`load limit`: the client knows that result."),
    Key("flags", "flags", _read_nothing, "list", "See below."),
    Key("replace", "replace", words_reader(_enums(REPLACE_WORDS)), "list", "What to replace in the SDP.",
        prefix=True),
    Key("direction", "from_interface", read_direction, "list of 1 or 2 strings",
        "The interfaces that face the sender of this SDP and its receiver."),
    Key("from-interface", "from_interface", read_text, "string", "As the first element of `direction`."),
    Key("to-interface", "to_interface", read_text, "string", "As the second element of `direction`."),
    Key("received-from", "received_from", read_received_from, "list: `IP4` or `IP6`, address; or string",
        "Where the SIP message came from; used with the flag `SIP-source-address`."),
    Key("transport-protocol", "transport_protocol", _read_transport_protocol, "string",
        "The profile of the outgoing `m=` lines, e.g. `RTP/AVP`."),
    Key("address-family", "address_family", read_family, "`IP4` or `IP6`",
        "The family of our addresses that face the receiver of this SDP."),
    Key("media-address", "media_address", read_address, "IP address",
        "Print this address instead of the interface's; sockets stay as they are."),
    Key("rtcp-mux", "rtcp_mux", words_reader(_enums(RTCP_MUX_WORDS)), "list", "See below.", prefix=True),
    Key("endpoint-learning", "endpoint_learning", word_reader(_enums(ENDPOINT_LEARNING_WORDS)), "string or list",
        "How this call's parties are found; see below.", prefix=True),
    Key("tos", "tos", read_tos, "integer 0 to 255, or negative",
        "The TOS byte of relayed packets; a negative number leaves the sockets as they are."),
    Key("label", "label", read_text, "string", "A name for the sender of this SDP.", ("from-label",),
        max_bytes=MAX_NAME),
    Key("set-label", "set_label", read_text, "string", "As `label`.", max_bytes=MAX_NAME),
    Key("metadata", "metadata", read_text, "string", "Kept with the call and shown by `query`.",
        max_bytes=MAX_NAME),
    Key("delete-delay", "delete_delay", read_natural, "integer, seconds",
        "How long `delete` keeps ports open; 0: not at all."),
    Key("sip-code", "sip_code", read_integer, "integer",
        "The status of the SIP response; from 200 on the answer is final.", ("sip-response-code",)),
    Key("limit", "limit", read_integer, "integer", "How many calls `list` names; 32 by default."),
    Key("ice", "ice", words_reader(_strings(ICE_WORDS)), "string or list", "See below."),
    Key("dtls", "dtls", word_reader(_strings(DTLS_WORDS)), "string or list", "Read, but without effect as yet."),
    Key("sdes", "sdes", _read_sdes_list, "list", "Read, but without effect as yet.", prefix=True),
    Key("sip-message-type", None, _read_nothing, "string", "No effect; sent by Kamailio."),
    Key("repacketize", None, _read_nothing, "integer", "No effect; sent by Kamailio."),
)  # fmt: skip

_KEYS: Final[Mapping[bytes, Key]] = {spelling.encode(): key for key in KEYS for spelling in (key.name, *key.spellings)}
_FLAGS: Final[Mapping[bytes, Word]] = _by_spelling(FLAG_WORDS)
_PREFIXES: Final = tuple((f"{key.name}-".encode(), key) for key in KEYS if key.prefix)
_FIRST_COUNTS: Final = frozenset({"command", "limit"})


def parse_request(dictionary: Dictionary, control_peer: str) -> NgRequest:
    """Read a request; never refuses anything but a missing command and a name that is too long.

    Of a key that occurs twice the last one counts, lists add up; of ``command`` and ``limit`` the first one counts.

    Args:
        control_peer: the IP address that the request came from.
    Raises:
        PayloadError: there is no ``command``, or it is no string.
        RequestError: a call-id, tag, branch, label or metadata is longer than ``MAX_NAME``.
    """
    request = NgRequest("", control_peer)
    unknown: list[bytes] = []
    rejected: list[bytes] = []
    seen: set[str] = set()
    has_command = False
    for spelling, value in dictionary:
        key = _KEYS.get(spelling) or _KEYS.get(normalise(spelling))
        if key is None:
            unknown.append(spelling)
            continue
        name = key.name
        if name == "flags":
            _read_flags(request, value, unknown)
            continue
        if name in _FIRST_COUNTS:
            if name in seen:
                continue
            seen.add(name)
            has_command = has_command or (name == "command" and type(value) is bytes)
        _store(request, key, value, rejected, unknown)
    if not has_command:
        raise PayloadError('Dictionary contains no key "command"')
    if unknown:
        request.unknown = tuple(to_text(word[:_MAX_UNKNOWN_BYTES]) for word in unknown[:MAX_UNKNOWN])
    return request


def _store(request: NgRequest, key: Key, value: NgValue, rejected: list[bytes], unknown: list[bytes]) -> None:
    """Put one option into its field, and whatever it has that we don't know into ``unknown``."""
    if key.max_bytes is not None and type(value) is bytes and len(value) > key.max_bytes:
        raise RequestError(f"{key.name} is too long", f"{len(value)} bytes; at most {key.max_bytes}")
    parsed = key.read(value, rejected)
    if parsed is None:
        # Nothing given is no mistake: OpenSIPS sends "received-from" as an empty list.
        if not rejected and value not in (b"", []):
            unknown.append(key.name.encode())
    elif key.field is not None:
        if isinstance(parsed, Direction):
            request.from_interface = parsed.from_interface
            request.to_interface = parsed.to_interface or request.to_interface
        elif isinstance(parsed, frozenset | tuple):
            _add(request, key.field, parsed)
        else:
            setattr(request, key.field, parsed)
    if rejected:
        unknown.extend(key.name.encode() + b":" + word for word in rejected)
        rejected.clear()


def _add(request: NgRequest, field: str, more: Iterable[Enum | str]) -> None:
    """Add words to a field that holds a set or a sequence of them."""
    present: frozenset[Enum | str] | tuple[Enum | str, ...] = getattr(request, field)
    setattr(request, field, (*present, *more) if isinstance(present, tuple) else present.union(more))


def _read_flags(request: NgRequest, value: NgValue, unknown: list[bytes]) -> None:
    words = words_of(value)
    if words is None:
        unknown.append(b"flags")
        return
    flags: list[Flag] = []
    for spelling in words:
        word = _FLAGS.get(spelling) or _FLAGS.get(normalise(spelling))
        if word is None:
            _read_prefixed(request, spelling, unknown)
        elif isinstance(word.meaning, Flag):
            flags.append(word.meaning)
        elif word.meaning is not None:
            _add(request, word.field, (word.meaning,))
    if flags:
        request.flags = request.flags.union(flags)


def _read_prefixed(request: NgRequest, spelling: bytes, unknown: list[bytes]) -> None:
    """A word of ``flags`` that carries a word of another list, as ``replace-origin`` does."""
    canonical = normalise(spelling)
    for prefix, key in _PREFIXES:
        if canonical.startswith(prefix):
            _store(request, key, [spelling[len(prefix) :]], [], unknown)
            return
    unknown.append(b"flags:" + spelling)
