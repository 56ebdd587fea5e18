"""The dictionary after the cookie, in either encoding."""

from __future__ import annotations

from mediaproxy.ng import bencode, json_body
from mediaproxy.ng.message import Dictionary, Encoding, NgReply


def decode_payload(payload: bytes, encoding: Encoding) -> Dictionary:
    """Decode what follows the cookie.

    Raises:
        PayloadError: with the text of reference A.3 for this encoding.
    """
    return bencode.decode(payload) if encoding is Encoding.BENCODE else json_body.decode(payload)


def encode_payload(reply: NgReply, encoding: Encoding) -> bytes:
    """Encode a reply in the encoding of its request; keys keep their order."""
    return bencode.encode(reply) if encoding is Encoding.BENCODE else json_body.encode(reply)
