"""RTP that takes several paths, counted as the paths count it."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from mediaproxy.backends.helper import rtp
from mediaproxy.backends.rtp_states import NO_RTP
from mediaproxy.datapath.kernel import RtpState

INTERVAL_NS = 20_000_000
SAMPLES = 160

_HEADER = Struct("!BBHII")


def rtp_header(number: int, ssrc: int = 0xCAFE, payload_type: int = 0) -> bytes:
    """The header of the packet with this extended sequence number."""
    return _HEADER.pack(0x80, payload_type, number & 0xFFFF, number * SAMPLES & 0xFFFFFFFF, ssrc)


class Path:
    """One path: what it is given it counts, as the relay and the kernel do."""

    def __init__(self, state: RtpState = NO_RTP) -> None:
        self._state = bytearray(NO_RTP)
        self._pointer = rtp.state_pointer(self._state)
        self.resume(state)

    @property
    def state(self) -> RtpState:
        return RtpState(bytes(self._state))

    def resume(self, state: RtpState) -> None:
        rtp.functions.mpo_rtp_state_seed(self._pointer, rtp.state_pointer(state))

    def count(self, number: int, now_ns: int, ssrc: int = 0xCAFE) -> None:
        packet = rtp_header(number, ssrc)
        rtp.functions.mpo_rtp_state_count(self._pointer, packet, 172, now_ns)

    def count_all(self, numbers: Iterable[int], start_ns: int) -> int:
        """One every 20 ms. Returns when the next one is due."""
        for number in numbers:
            self.count(number, start_ns)
            start_ns += INTERVAL_NS
        return start_ns
