"""Endpoints that are our own: a call may pass us twice, but its packets must not come round.

A party that names one of our own relay ports makes us send to ourselves. That is in order where the packets leave us
again at the end (two hops of a call through one instance). Where the way leads back to the transport that it began at,
ten packets would circle for ever at full speed, and keep the call alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mediaproxy.calls.media import PortPair, Transport
from mediaproxy.calls.sockets import Sockets
from mediaproxy.datapath import TransportHandle
from mediaproxy.net import Endpoint

_MAX_STEPS: Final = 64
"""Sixteen passes through one instance (each with RTP and RTCP, in and out): a longer way counts as a loop."""


@dataclass(slots=True)
class Prospect:
    """What an exchange is about to change: who will send where, and which pairs will be joined.

    Attributes:
        destinations: of transports, by handle; ``None`` for nowhere.
        peers: for each transport the transports that what it receives will leave by.
    """

    destinations: dict[TransportHandle, Endpoint | None] = field(default_factory=dict)
    peers: dict[TransportHandle, list[Transport]] = field(default_factory=dict)

    def join(self, one: PortPair, other: PortPair) -> None:
        """Each pair's packets will leave by the other."""
        for here, there in ((one, other), (other, one)):
            for transport in (here.rtp, here.rtcp):
                self.peers[transport.handle] = [there.rtp, there.rtcp]


_AS_IT_IS: Final = Prospect()


def comes_round(sockets: Sockets, sender: Transport, destination: Endpoint, prospect: Prospect = _AS_IT_IS) -> bool:
    """Whether packets that ``sender`` would send to ``destination`` come back to ``sender`` to be sent again.

    Args:
        prospect: what will be, where it differs from what is.
    """
    pending = [destination]
    seen: set[Endpoint] = set()
    while pending:
        endpoint = pending.pop()
        entered = sockets.transport_at(endpoint)
        if entered is None or endpoint in seen:
            continue
        seen.add(endpoint)
        if len(seen) > _MAX_STEPS:
            return True
        for leaving in _peers(sockets, entered, prospect.peers):
            if leaving.handle == sender.handle:
                return True
            pending += _destinations(leaving, prospect)
    return False


def _destinations(leaving: Transport, prospect: Prospect) -> list[Endpoint]:
    """Where a transport sends, or would again: a party on hold resumes, and is sent to where it was learnt."""
    latching = leaving.latching
    said = prospect.destinations.get(leaving.handle, latching.signalled)
    if said is not None and said != latching.signalled:
        return [said]
    return [one for one in (latching.learnt, latching.signalled) if one is not None]


def _peers(
    sockets: Sockets, entered: Transport, peers: Mapping[TransportHandle, Iterable[Transport]]
) -> Iterator[Transport]:
    if entered.handle in peers:
        yield from peers[entered.handle]
        return
    owner = sockets.owner(entered.handle)
    pair = None if owner is None else owner[1].pair
    # Whichever of its dialogues a shared pair serves now: that changes with every SDP.
    for media in pair.users if pair is not None else ():
        for stream in (media.rtp, media.rtcp):
            for sink in stream.sinks if stream is not None else ():
                yield sink.transport
