"""Port pairs for calls: all of a request's pairs, or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType

from mediaproxy.calls.call import Call
from mediaproxy.calls.media import Media, PortPair, Transport
from mediaproxy.datapath import Relay, TransportHandle
from mediaproxy.errors import OutOfPortsError, PortBusyError, RelayError
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint
from mediaproxy.ports import PortPools


class Sockets:
    """Takes ports from the pools, has the relay bind them, and gives both back."""

    def __init__(self, pools: PortPools, relay: Relay) -> None:
        self._pools = pools
        self._relay = relay
        self._owners: dict[TransportHandle, tuple[Call, PortPair]] = {}
        self._bound: dict[tuple[str, int], TransportHandle] = {}

    def reserve(self, call: Call, now: float) -> Reservation:
        """Begin a request that may need pairs; see ``Reservation``."""
        return Reservation(self, call, now)

    def owner(self, handle: TransportHandle) -> tuple[Call, Media, Transport] | None:
        """Whose transport it is, and which media it serves; ``None`` once it is closed, and before it serves any."""
        owner = self._owners.get(handle)
        if owner is None or not owner[1].users:
            return None
        call, pair = owner
        return call, pair.users[-1], pair.rtp if pair.rtp.handle == handle else pair.rtcp

    def transport_at(self, endpoint: Endpoint) -> Transport | None:
        """Our transport with this local or advertised endpoint; ``None`` if it is none of ours."""
        handle = self._bound.get((endpoint.address, endpoint.port))
        if handle is None:
            return None
        pair = self._owners[handle][1]
        return pair.rtp if pair.rtp.handle == handle else pair.rtcp

    def open_pair(self, interfaces: Sequence[Interface], call: Call, now: float) -> PortPair:
        """Take and bind one pair for a call.

        Args:
            interfaces: the first one with a free pair serves.
        Raises:
            OutOfPortsError: no pair of the interfaces is free, or the relay cannot open any more sockets.
        """
        for interface in interfaces:
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
                    pair = PortPair(interface, Transport(rtp, interface, port), Transport(rtcp, interface, port + 1))
                    self._register(call, pair)
                    return pair
        first = interfaces[0]
        raise OutOfPortsError(
            f"interface {first.name} ({', '.join(interface.address for interface in interfaces)}): "
            f"no free pair in {first.port_min}-{first.port_max}; widen its port range"
        )

    def close_pairs(self, call: Call, pairs: Iterable[PortPair], now: float) -> None:
        """Close pairs, keep their counts with the call, and put their ports to the tail of the queue."""
        closing = list(pairs)
        self._relay.close([transport.handle for pair in closing for transport in (pair.rtp, pair.rtcp)])
        for pair in closing:
            for transport in (pair.rtp, pair.rtcp):
                counters = self._relay.counters(transport.handle)  # only now nothing is added any more
                call.closed_rtp.add(counters.rtp)
                call.closed_rtcp.add(counters.rtcp)
                del self._owners[transport.handle]
                for address in {pair.interface.address, pair.interface.advertised}:
                    self._bound.pop((address, transport.port), None)
            self._pools.of(pair.interface).give_back(pair.rtp.port, now)

    def close_medias(self, call: Call, medias: Iterable[Media], now: float) -> None:
        """Let medias go of their pairs, and close those that nobody uses any more."""
        released = [media.let_go(now) for media in medias]
        self.close_pairs(call, [pair for pair in released if pair is not None], now)

    def _register(self, call: Call, pair: PortPair) -> None:
        for transport in (pair.rtp, pair.rtcp):
            self._owners[transport.handle] = (call, pair)
            for address in {pair.interface.address, pair.interface.advertised}:
                self._bound[address, transport.port] = transport.handle


class Reservation:
    """The pairs that one request opens: kept by ``commit``, closed again if the request fails before.

    ::

        with sockets.reserve(call, now) as reservation:
            pair = reservation.open_pair(interfaces)     # may raise OutOfPortsError
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

    def open_pair(self, interfaces: Sequence[Interface]) -> PortPair:
        """Open one pair for the request; raises as ``Sockets.open_pair``."""
        pair = self._sockets.open_pair(interfaces, self._call, self._now)
        self._opened.append(pair)
        return pair

    def commit(self) -> None:
        """The request succeeded: its pairs stay open."""
        self._opened = []
