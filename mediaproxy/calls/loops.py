"""Endpoints that are our own: a call may pass us twice, but its packets must not come round.

A party that names one of our own relay ports makes us send to ourselves. That is in order where the packets leave us
again at the end (two hops of a call through one instance). Where the way leads back to the transport that it began at,
ten packets would circle for ever at full speed, and keep the call alive.
"""

from __future__ import annotations

from typing import Final

from mediaproxy.calls.media import Transport
from mediaproxy.calls.sockets import Sockets
from mediaproxy.net import Endpoint

_MAX_HOPS: Final = 16
"""More passes through one instance than any call makes; a longer way counts as a loop."""


def comes_round(sockets: Sockets, sender: Transport, destination: Endpoint) -> bool:
    """Whether packets that ``sender`` would send to ``destination`` come back to ``sender`` to be sent again."""
    pending = [destination]
    for _ in range(_MAX_HOPS):
        if not pending:
            return False
        found = sockets.owner_at(pending.pop())
        if found is None:
            continue
        _, media, _ = found
        for stream in (media.rtp, media.rtcp):
            for sink in stream.sinks if stream is not None else ():
                if sink.transport is sender:
                    return True
                onward = sink.transport.latching.destination
                if onward is not None:
                    pending.append(onward)
    return bool(pending)
