"""A small ng client for tests: JSON on the wire, which shares no code with the proxy under test."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any, Final

from tests.support.netlab import Namespace

_serial: Final = itertools.count()


class NoReplyError(Exception):
    """The proxy did not answer in time."""


class NgJsonClient:
    """Asks an ng server.

    Args:
        namespace: from which host.
        address, port: of the server's ng listener.
        timeout: seconds for each of two tries, the second with the same cookie.
    """

    def __init__(
        self, namespace: Namespace, address: str = "127.0.0.1", port: int = 2223, timeout: float = 1.0
    ) -> None:
        self._socket = namespace.udp_socket("::" if ":" in address else "0.0.0.0")
        self._socket.connect((address, port))
        self._timeout = timeout

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, command: str, **keys: Any) -> dict[str, Any]:
        """Send one command and return its reply, whatever the result.

        Args:
            keys: further keys; an underscore stands for a hyphen (``call_id``).
        Raises:
            NoReplyError: nothing came back.
        """
        cookie = f"test-{os.getpid()}-{next(_serial)}".encode()
        body = json.dumps({"command": command} | {key.replace("_", "-"): value for key, value in keys.items()})
        self._socket.settimeout(self._timeout)
        for _ in range(2):
            try:
                self._socket.send(cookie + b" " + body.encode())
                while True:
                    reply_cookie, _, reply = self._socket.recv(65535).partition(b" ")
                    if reply_cookie == cookie:
                        decoded: dict[str, Any] = json.loads(reply)
                        return decoded
            except TimeoutError:
                continue
            except ConnectionRefusedError as error:
                raise NoReplyError(f"{command}: nothing listens there") from error
        raise NoReplyError(f"{command}: no reply within {2 * self._timeout:g} s")

    def is_up(self) -> bool:
        """Whether it answers a ping."""
        try:
            return self.request("ping").get("result") == "pong"
        except NoReplyError:
            return False

    def calls(self) -> list[str]:
        """The call-ids that it knows."""
        reply = self.request("list", limit=100_000)
        return list(reply["calls"])

    def query(self, call_id: str) -> dict[str, Any]:
        """The reply to ``query``."""
        return self.request("query", call_id=call_id)
