"""One ng server as seen by a client: a connected UDP socket, retransmissions, and either encoding.

Works with any server that speaks ng. It shares no code with our listener: bencode is that of the bencode.py library.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from mediaproxy.errors import MediaProxyError

NgValue: TypeAlias = "str | bytes | int | list[NgValue] | dict[str, NgValue]"

DEFAULT_PORT: Final = 2223
_MAX_DATAGRAM: Final = 65_535
_MAX_SHOWN: Final = 80


class NoAnswerError(MediaProxyError):
    """Nobody answered; the text says where, and how long was waited."""


class MalformedReplyError(MediaProxyError):
    """Something answered under our cookie, but it is no ng reply."""


class ServerNameError(MediaProxyError):
    """The server's name does not have the form HOST:PORT."""


def parse_server(text: str) -> tuple[str, int]:
    """Read ``HOST``, ``HOST:PORT``, ``[IPv6]:PORT`` or a bare IPv6 address.

    Raises:
        ServerNameError: it is none of these.
    """
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ServerNameError(f"{text!r}: expected [ADDRESS]:PORT")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) <= 65_535)):
        raise ServerNameError(f"{text!r}: expected HOST:PORT, with a port from 1 to 65535")
    return host, int(port or DEFAULT_PORT)


class NgClient:
    """Asks one server.

    Args:
        server: as ``parse_server`` reads it; of a name with several addresses the first that does not refuse is taken.
        timeout: seconds to wait before the request is sent again.
        retries: how often it is sent again, under the same cookie.
        json_wire: JSON instead of bencode on the wire.
    """

    def __init__(self, server: str, *, timeout: float = 1.0, retries: int = 4, json_wire: bool = False) -> None:
        self._server = server
        self._timeout = timeout
        self._retries = retries
        self._json = json_wire

    def request(self, keys: Mapping[str, NgValue]) -> dict[str, NgValue]:
        """Send one request and wait for its reply.

        Args:
            keys: ``command`` among them.
        Returns:
            The reply, whatever its ``result``; in replies of bencode, strings that are no UTF-8 keep their bytes as
            surrogates, and ``sdp`` is bytes.
        Raises:
            NoAnswerError: nothing came back, nothing listens there, or the name is unknown.
            MalformedReplyError: the reply can't be read, or is no reply.
            ServerNameError: the server's name can't be read.
        """
        host, port = parse_server(self._server)
        cookie = f"{os.getpid()}_{secrets.token_hex(6)}".encode()
        datagram = cookie + b" " + self._encode(keys)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise NoAnswerError(f"no address found for {host!r}: {error}") from error
        refused: OSError | None = None
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                with socket.socket(family, kind, protocol) as udp:
                    udp.connect(address)
                    return self._reply(self._exchange(udp, datagram, cookie))
            except TimeoutError as error:
                seconds = self._timeout * (self._retries + 1)
                tries = "once" if self._retries == 0 else f"{self._retries + 1} times"
                raise NoAnswerError(f"no answer from {self._server} within {seconds:g} s (asked {tries})") from error
            except OSError as error:
                refused = error  # nothing listens there, no route, no IPv6: perhaps at the name's next address
        raise NoAnswerError(_explain(self._server, refused, len(datagram))) from refused

    def _exchange(self, udp: socket.socket, datagram: bytes, cookie: bytes) -> bytes:
        """The payload of the reply; resends, and skips what is not ours.

        Raises:
            TimeoutError: no reply came.
            OSError: the network or the host refused.
        """
        prefix = cookie + b" "
        for _ in range(self._retries + 1):
            udp.send(datagram)
            deadline = time.monotonic() + self._timeout
            while (left := deadline - time.monotonic()) > 0:
                udp.settimeout(left)
                try:
                    reply = udp.recv(_MAX_DATAGRAM)
                except TimeoutError:
                    break
                if reply.startswith(prefix):
                    return reply[len(prefix) :]
                # Somebody answers something else, at most to a request before ours: not to us.
        raise TimeoutError

    def _encode(self, keys: Mapping[str, NgValue]) -> bytes:
        if self._json:
            return json.dumps(_to_json(dict(keys)), separators=(",", ":")).encode()
        import bencodepy  # noqa: PLC0415  # what JSON users don't wait for

        encoded: bytes = bencodepy.encode(_to_bencode(dict(keys)))
        return encoded

    def _reply(self, payload: bytes) -> dict[str, NgValue]:
        try:
            reply = json.loads(payload) if payload.startswith(b"{") else _from_bencode(payload)
        except (ValueError, RecursionError) as error:
            raise MalformedReplyError(f"the reply of {self._server} can't be read: {_shown(payload)}") from error
        if not isinstance(reply, dict) or not isinstance(reply.get("result"), str):
            raise MalformedReplyError(f"the reply of {self._server} has no result: {_shown(payload)}")
        return reply


def _explain(server: str, error: OSError | None, size: int) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {server}: its host refused the request (ICMP port unreachable)"
    reason = error.strerror if error is not None else "no address"
    return f"cannot send {size} bytes to {server}: {reason}"


def _shown(payload: bytes) -> str:
    return ascii(payload[:_MAX_SHOWN])[1:] + ("..." if len(payload) > _MAX_SHOWN else "")


def _to_json(value: NgValue) -> NgValue:
    if isinstance(value, dict):
        return {_unicode(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return _unicode(value) if isinstance(value, str) else value


def _unicode(text: str) -> str:
    """Without what a command line had of bytes that are no UTF-8: JSON can't carry them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _to_bencode(value: NgValue) -> object:
    if isinstance(value, dict):
        return {key.encode("utf-8", "surrogateescape"): _to_bencode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_bencode(item) for item in value]
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _from_bencode(payload: bytes) -> object:
    import bencodepy  # noqa: PLC0415  # see _encode

    try:
        return _with_text(bencodepy.decode(payload), "")
    except bencodepy.BencodeDecodeError as error:
        raise ValueError(str(error)) from error


def _with_text(value: object, key: str) -> object:
    if isinstance(value, bytes):
        return value if key == "sdp" else value.decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return dict(_pairs_with_text(value))
    return [_with_text(item, "") for item in value] if isinstance(value, list) else value


def _pairs_with_text(value: Mapping[bytes, object]) -> Iterator[tuple[str, object]]:
    for raw, item in value.items():
        key = raw.decode("utf-8", "surrogateescape")
        yield key, _with_text(item, key)
