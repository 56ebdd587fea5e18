"""Port pairs for calls: all of a request's pairs, or none."""

from __future__ import annotations

from types import TracebackType

from mediaproxy.calls.call import Call
from mediaproxy.calls.media import Media, PortPair, Transport
from mediaproxy.datapath import Relay, TransportHandle
from mediaproxy.errors import OutOfPortsError, PortBusyError, RelayError
from mediaproxy.interfaces import Interface
from mediaproxy.ports import PortPools


class Sockets:
    """Takes ports from the pools, has the relay bind them, and gives both back."""

    def __init__(self, pools: PortPools, relay: Relay) -> None:
        self._pools = pools
        self._relay = relay
        self._owners: dict[TransportHandle, Call] = {}

    def reserve(self, call: Call, now: float) -> Reservation:
        """Begin a request that may need pairs; see ``Reservation``."""
        return Reservation(self, call, now)

    def owner(self, handle: TransportHandle) -> tuple[Call, Media, Transport] | None:
        """Whose transport it is; ``None`` once it is closed."""
        call = self._owners.get(handle)
        if call is None:
            return None
        for media in call.medias():
            if media.pair is not None:
                for transport in (media.pair.rtp, media.pair.rtcp):
                    if transport.handle == handle:
                        return call, media, transport
        return None

    def open_pair(self, interface: Interface, call: Call, now: float) -> PortPair:
        """Take and bind one pair for a call.

        Raises:
            OutOfPortsError: no pair of the interface is free, or the relay cannot open any more sockets.
        """
        pool = self._pools.of(interface)
        for _ in range(pool.size):
            port = pool.take(now)
            if port is None:
                break
            try:
                rtp, rtcp = self._relay.open_pair(interface.address, port, call.group)
            except PortBusyError:
                pool.set_aside(port)
            except RelayError as error:
                # No descriptor, no slot: to the SIP proxy the same thing, it tries the next node.
                pool.put_back(port)
                raise OutOfPortsError(f"interface {interface.name}: {error}") from error
            else:
                self._owners[rtp] = self._owners[rtcp] = call
                return PortPair(interface, Transport(rtp, interface, port), Transport(rtcp, interface, port + 1))
        raise OutOfPortsError(
            f"interface {interface.name} ({interface.address}): "
            f"no free pair in {interface.port_min}-{interface.port_max}; widen its port range"
        )

    def close_pairs(self, call: Call, pairs: list[PortPair], now: float) -> None:
        """Close pairs, keep their counts with the call, and put their ports to the tail of the queue."""
        handles = []
        for pair in pairs:
            for transport in (pair.rtp, pair.rtcp):
                handles.append(transport.handle)
                del self._owners[transport.handle]
                counters = self._relay.counters(transport.handle)
                call.closed_rtp.add(counters.rtp)
                call.closed_rtcp.add(counters.rtcp)
        self._relay.close(handles)
        for pair in pairs:
            self._pools.of(pair.interface).give_back(pair.rtp.port, now)

    def close_medias(self, call: Call, medias: list[Media], now: float) -> None:
        """Close the pairs of these medias, which then have none."""
        pairs = [media.pair for media in medias if media.pair is not None]
        for media in medias:
            media.let_go()
        self.close_pairs(call, pairs, now)


class Reservation:
    """The pairs that one request opens: kept by ``commit``, closed again if the request fails before.

    ::

        with sockets.reserve(call, now) as reservation:
            pair = reservation.open_pair(interface)     # may raise OutOfPortsError
            ...
            reservation.commit()
    """

    def __init__(self, sockets: Sockets, call: Call, now: float) -> None:
        self._sockets = sockets
        self._call = call
        self._now = now
        self._opened: list[PortPair] = []

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened:
            self._sockets.close_pairs(self._call, self._opened, self._now)
            self._opened = []

    def open_pair(self, interface: Interface) -> PortPair:
        """Open one pair for the request; raises as ``Sockets.open_pair``."""
        pair = self._sockets.open_pair(interface, self._call, self._now)
        self._opened.append(pair)
        return pair

    def commit(self) -> None:
        """The request succeeded: its pairs stay open."""
        self._opened = []
