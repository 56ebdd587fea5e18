"""Session descriptions (RFC 8866): read, understood, and written for the other side."""

from mediaproxy.sdp.attributes import MediaFacts, RtcpAttribute, SessionFacts, TransportKind, read_facts
from mediaproxy.sdp.model import Connection, SdpLine, SdpMedia, SessionDescription, parse_sdp
from mediaproxy.sdp.payload_types import Codec
from mediaproxy.sdp.rewrite import write_outgoing

__all__ = [
    "Codec",
    "Connection",
    "MediaFacts",
    "RtcpAttribute",
    "SdpLine",
    "SdpMedia",
    "SessionDescription",
    "SessionFacts",
    "TransportKind",
    "parse_sdp",
    "read_facts",
    "write_outgoing",
]
