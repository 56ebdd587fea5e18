"""Requests that real clients sent, byte for byte: Kamailio 5.6.3, OpenSIPS 4.1-dev, rtpengine-ng-client.

They are files under ``tests/fuzz/corpus/ng``; the names of files that they ask to be played were shortened, with their
lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CORPUS: Final = Path(__file__).parent.parent / "fuzz" / "corpus" / "ng"


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One datagram; ``name`` says who sent it and which command it is."""

    name: str
    datagram: bytes

    @property
    def cookie(self) -> bytes:
        return self.datagram.partition(b" ")[0]

    @property
    def payload(self) -> bytes:
        return self.datagram.partition(b" ")[2]

    def with_cookie(self, cookie: bytes) -> bytes:
        """The same request as a new one."""
        return cookie + b" " + self.payload


def recorded_requests() -> list[RecordedRequest]:
    """All of them, in the order in which they were captured."""
    return [RecordedRequest(path.stem, path.read_bytes()) for path in sorted(_CORPUS.glob("*.bin"))]


def recorded_request(name: str) -> RecordedRequest:
    """The one of this name.

    Raises:
        FileNotFoundError: there is none.
    """
    return RecordedRequest(name, (_CORPUS / f"{name}.bin").read_bytes())
