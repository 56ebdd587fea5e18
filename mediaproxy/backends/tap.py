"""Reading copies of forwarded packets out of the kernel's ring; needs no privileges, only the descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mediaproxy.backends.helper import bpf as helper
from mediaproxy.backends.packed_address import unpack_address
from mediaproxy.datapath.flow import Slot
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint

INTERVAL: Final = 0.005
"""How often ``take`` should be called, seconds: to wake the reader for each packet would cost the packet 4 us."""

_BUFFER: Final = 256 * 1024
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True)
class TappedPacket:
    """One copy.

    Attributes:
        local: where it arrived: the key of its flow.
        ifindex: the device on which it arrived.
        when: monotonic seconds.
        packet: the IP packet as it arrived, of which at most 2048 bytes are copied.
        length: of the whole packet.
    """

    local: Endpoint
    slot: Slot
    ifindex: int
    when: float
    packet: bytes
    length: int


class TapReader:
    """The one reader of a ring.

    Args:
        fd: ``KernelBackend.tap_fd``, the caller's, not needed afterwards.
    Raises:
        OffloadError: it is no ring, or no memory is left.
    """

    def __init__(self, fd: int) -> None:
        try:
            self._tap: helper.TapPointer | None = helper.open_tap(fd)
        except OSError as error:
            raise OffloadError(str(error)) from error
        self._buffer = bytearray(_BUFFER)

    def take(self) -> Iterator[TappedPacket]:
        """All copies that are in the ring, oldest first."""
        while self._tap is not None:
            length = helper.take_tap(self._tap, self._buffer)
            if length <= 0:
                return
            taken, at = bytes(self._buffer[:length]), 0
            while at < length:
                address, port, index, generation, ifindex, when_ns, copied, whole = helper.TAP_RECORD.unpack_from(
                    taken, at
                )
                first = at + helper.TAP_RECORD.size
                yield TappedPacket(
                    Endpoint(unpack_address(address), port),
                    Slot(index, generation),
                    ifindex,
                    when_ns * 1e-9,
                    taken[first : first + copied],
                    whole,
                )
                at += -(-(helper.TAP_RECORD.size + copied) // _ALIGNMENT) * _ALIGNMENT

    def close(self) -> None:
        """Let go of the ring; a second call does nothing."""
        if self._tap is not None:
            helper.functions.mpo_tap_close(self._tap)
            self._tap = None
