"""Requests and replies as values, after the wire encoding and before any decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from mediaproxy.errors import NgSyntaxError, PayloadError
from mediaproxy.net import AddressFamily
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux

NgReplyValue: TypeAlias = "str | bytes | int | list[NgReplyValue] | dict[str, NgReplyValue]"
NgReply: TypeAlias = "dict[str, NgReplyValue]"
"""Written in insertion order (reference A.4), ``result`` last."""

NgValue: TypeAlias = "bytes | int | list[NgValue] | Dictionary | None"
"""What a request is made of; ``None`` only stands for JSON's ``null``, a type that no option has."""

MAX_COOKIE: Final = 1024
"""Clients' cookies have some 20 bytes. The protocol names no limit, but the cookie comes back with every reply."""


class Dictionary(list[tuple[bytes, NgValue]]):
    """A decoded dictionary: its pairs in transmitted order, duplicates included."""

    __slots__ = ()


class Encoding(Enum):
    """How the dictionary after the cookie is written; a reply has the encoding of its request."""

    BENCODE = "bencode"
    JSON = "json"


def split_message(datagram: bytes) -> tuple[bytes, bytes]:
    """Split one ng datagram into its cookie and its still encoded dictionary.

    Args:
        datagram: one whole UDP payload.
    Raises:
        NgSyntaxError: there is no space, or the cookie is empty or longer than ``MAX_COOKIE`` bytes.
    Source: rtpengine, docs/ng_control_protocol.md, "a unique message cookie"; reference A.1.
    """
    space = datagram.find(b" ", 0, MAX_COOKIE + 1)
    if space <= 0:
        raise NgSyntaxError("no cookie")
    return datagram[:space], datagram[space + 1 :]


def detect_encoding(payload: bytes) -> Encoding:
    """Tell the encoding from the first byte (reference A.3).

    Args:
        payload: what follows the cookie.
    Raises:
        PayloadError: it is neither; such a reply is bencoded.
    """
    first = payload[:1]
    if first == b"d":
        return Encoding.BENCODE
    if first == b"{":
        return Encoding.JSON
    raise PayloadError("Invalid NG data format" if first else "Invalid data (no payload)")


@dataclass(slots=True)
class NgRequest:
    """One command with its options; a field that was absent or of the wrong type has its default.

    Strings come from the wire as UTF-8 with ``surrogateescape``: any byte survives, and a tag or call-id is compared
    and echoed byte for byte. Built by ``mediaproxy.ng.options.parse_request``.

    Attributes:
        command: as on the wire, e.g. ``offer``; not yet known to exist.
        control_peer: the IP address that the request came from.
        from_interface, to_interface: ``direction`` (or its single-element keys): facing the sender of this SDP, and
            facing its receiver.
        received_from: canonical address of the SIP source.
        transport_protocol: one of the six names of reference C.1 in upper case; ``None`` leaves the profile unchanged.
        ice: ``remove``, ``force``, ... in canonical form; empty means default.
        tos: 0..255; ``None`` if absent or out of range (the default applies); -1 leaves the packets' own value.
        unknown: the keys, flags and list words that we don't know, as ``key`` or ``key:word``.
    """

    command: str
    control_peer: str = ""
    sdp: bytes | None = None
    call_id: str | None = None
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None
    supports_load_limit: bool = False
    label: str | None = None
    set_label: str | None = None
    metadata: str | None = None
    limit: int = 32
    delete_delay: int | None = None
    from_interface: str | None = None
    to_interface: str | None = None
    received_from: str | None = None
    transport_protocol: str | None = None
    address_family: AddressFamily | None = None
    media_address: str | None = None
    ice: frozenset[str] = frozenset()
    sdes: tuple[str, ...] = ()
    dtls: str | None = None
    replace: frozenset[Replace] = frozenset()
    rtcp_mux: frozenset[RtcpMux] = frozenset()
    endpoint_learning: EndpointLearning | None = None
    tos: int | None = None
    sip_code: int | None = None
    flags: frozenset[Flag] = frozenset()
    unknown: tuple[str, ...] = field(default=())
