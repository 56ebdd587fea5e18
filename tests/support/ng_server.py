"""A little ng server on a real loopback socket, for tests of clients: it answers what the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

Respond = Callable[[bytes, str], bytes | None]


class NgServer:
    """Serves in a thread of its own until the ``with`` block ends.

    Args:
        respond: gets each datagram and the peer's address; returns the reply or ``None``.
    Attributes:
        name: ``HOST:PORT``.
        received: all datagrams so far.
    """

    def __init__(self, respond: Respond, address: str = "127.0.0.1") -> None:
        self._respond = respond
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.address, self.port = self._socket.getsockname()[:2]
        self.name = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self.received: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> NgServer:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as stopper:
            stopper.sendto(b"", (self.address, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            datagram, peer = self._socket.recvfrom(65535)
            if not datagram:
                return
            self.received.append(datagram)
            reply = self._respond(datagram, peer[0])
            if reply is not None:
                self._socket.sendto(reply, peer)
