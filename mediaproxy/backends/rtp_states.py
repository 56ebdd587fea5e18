"""``datapath.RtpState``: what is in it, and sums over the paths that a stream has taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mediaproxy.backends.helper import rtp
from mediaproxy.datapath.kernel import RtpState
from mediaproxy.datapath.relay import SsrcCounters

NO_RTP: Final = RtpState(bytes(rtp.STATE_SIZE))
"""The state of a path that has heard nothing."""

_LAST_SEEN: Final = 2
_SHOWN: Final = rtp.SSRCS_MAX * rtp.SSRC_STATS.size


def merge_states(states: Iterable[RtpState]) -> RtpState:
    """The state of a stream from those of its paths: each packet was counted by exactly one of them.

    Sequences that overlap, that wrapped or were restarted on one path only are brought together; how is said in
    ``kernel_offload/src/mpo_rtp_handover.h``. Of more than four SSRCs those heard last are kept.

    Raises:
        ValueError: one of them is too short to be a state.
    """
    merged = bytearray(rtp.STATE_SIZE)
    into = rtp.state_pointer(merged)
    for state in states:
        rtp.functions.mpo_rtp_state_merge(into, rtp.state_pointer(state))
    return RtpState(bytes(merged))


def state_counters(state: RtpState) -> tuple[SsrcCounters, ...]:
    """What a state says of each SSRC, most recently heard first."""
    return read_ssrcs(rtp.SSRC_STATS.iter_unpack(memoryview(state)[:_SHOWN]))


def read_ssrcs(entries: Iterator[Sequence[int]]) -> tuple[SsrcCounters, ...]:
    """Unpacked ``rtp.SSRC_STATS``, which fill up in order; most recently heard first."""
    heard = []
    for fields in entries:
        if fields[_LAST_SEEN] == 0:
            break
        heard.append(fields)
    heard.sort(key=lambda fields: -fields[_LAST_SEEN])
    return tuple(_ssrc_counters(fields) for fields in heard)


def _ssrc_counters(fields: Sequence[int]) -> SsrcCounters:
    packets, octets, _, ssrc, timestamp, sequence, lost, duplicates, reordered, jitter_q4, payload_type = fields
    return SsrcCounters(
        ssrc=ssrc,
        packets=packets,
        bytes=octets,
        last_timestamp=timestamp,
        extended_sequence=sequence,
        lost=lost,
        duplicates=duplicates,
        reordered=reordered,
        jitter_ts=jitter_q4 / 16,
        payload_type=payload_type,
    )
