"""Requests and replies as values, after the wire encoding and before any decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from mediaproxy.net import AddressFamily
from mediaproxy.ng.words import EndpointLearning, Flag, Replace, RtcpMux

NgReplyValue: TypeAlias = "str | bytes | int | list[NgReplyValue] | dict[str, NgReplyValue]"
NgReply: TypeAlias = "dict[str, NgReplyValue]"
"""Written in insertion order (reference A.4), ``result`` last."""


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
    to_label: str | None = None
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
