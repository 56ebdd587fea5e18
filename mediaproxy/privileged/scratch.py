"""Two places to try a backend: a network of our own, or the loopback device of this one."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mediaproxy.backends.kernel_backend import Link
from mediaproxy.net import Endpoint
from mediaproxy.privileged.links import read_links
from mediaproxy.privileged.rights import enter_new_network

_NETWORK: Final = "198.18.0"
"""Of the range for tests of network devices (RFC 2544, RFC 6815)."""
_RELAY: Final = f"{_NETWORK}.1"
_SOURCE: Final = f"{_NETWORK}.2"
_TARGET: Final = f"{_NETWORK}.3"
_NEAR: Final = "mpo-near"
_FAR: Final = "mpo-far"
_ETH_P_IP: Final = 0x0800
_PERMANENT: Final = 0x80  # NUD_PERMANENT
_UDP: Final = 17
_SYSCTLS: Final = (Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/netfilter/nf_conntrack_acct"))
"""What a backend may need to be on; where it is off, opening the backend in the real network says what to do."""


class Place(Protocol):
    """Where a packet can be sent to a relay endpoint and be met again once it was forwarded."""

    @property
    def links(self) -> tuple[Link, ...]:
        """What the backend is to watch."""

    @property
    def ifindex(self) -> int:
        """Way out to the target; 0 if that is on this host."""

    @property
    def path(self) -> tuple[Endpoint, Endpoint, Endpoint, Endpoint]:
        """Source, the relay endpoint that it sends to, the one that it is forwarded from, target."""

    def send(self, payload: bytes) -> None:
        """Send from the source to the relay."""

    def receive(self, timeout: float) -> bytes | None:
        """The payload of what came to the target from the relay, in the right way; ``None`` if nothing did."""


@dataclass(frozen=True, slots=True)
class OwnNetwork:
    """A veth pair in a namespace of its own: the relay's address at the near end, all others behind the far one."""

    links: tuple[Link, ...]
    ifindex: int
    far: socket.socket
    near_mac: bytes
    far_mac: bytes
    path: tuple[Endpoint, Endpoint, Endpoint, Endpoint] = (
        Endpoint(_SOURCE, 40000),
        Endpoint(_RELAY, 40002),
        Endpoint(_RELAY, 40004),
        Endpoint(_TARGET, 40006),
    )

    def send(self, payload: bytes) -> None:
        source, local, _, _ = self.path
        self.far.send(self.near_mac + self.far_mac + struct.pack("!H", _ETH_P_IP) + ip_packet(source, local, payload))

    def receive(self, timeout: float) -> bytes | None:
        _, _, sender, target = self.path
        self.far.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            while True:
                payload = udp_payload(self.far.recv(2048)[14:], sender, target)
                if payload is not None:
                    return payload
        return None


@contextlib.contextmanager
def own_network() -> Iterator[OwnNetwork]:
    """Move this process into a new namespace and build it there; it is gone with the process.

    Raises:
        OSError: not allowed here.
    """
    import pyroute2  # noqa: PLC0415  # takes 0.1 s, which only the privileged process is to pay

    enter_new_network()
    for path in _SYSCTLS:
        with contextlib.suppress(OSError):  # not there, or read-only as in most containers
            path.write_text("1\n", encoding="ascii")
    try:
        with pyroute2.IPRoute() as route:
            near, near_mac, far_mac = _build(route)
    except pyroute2.NetlinkError as error:
        raise OSError(error.code, str(error)) from error
    # The far end too: a veth takes frames of XDP only where its peer has a program as well.
    links = read_links().links
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_IP)) as packets:
        packets.bind((_FAR, _ETH_P_IP))
        yield OwnNetwork(links, near, packets, near_mac, far_mac)


def _build(route: Any) -> tuple[int, bytes, bytes]:  # pyroute2 is untyped
    route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")
    route.link("add", ifname=_NEAR, kind="veth", peer={"ifname": _FAR})
    near, far = (route.link_lookup(ifname=name)[0] for name in (_NEAR, _FAR))
    macs = [bytes.fromhex(route.get_links(index)[0].get_attr("IFLA_ADDRESS").replace(":", "")) for index in (near, far)]
    for index in (near, far):
        route.link("set", index=index, state="up")
    route.addr("add", index=near, address=_RELAY, prefixlen=24)
    for address in (_SOURCE, _TARGET):
        route.neigh("add", dst=address, lladdr=macs[1].hex(":"), ifindex=near, state=_PERMANENT)
    return near, macs[0], macs[1]


@dataclass(frozen=True, slots=True)
class Loopback:
    """Four sockets on 127.0.0.1."""

    links: tuple[Link, ...]
    source: socket.socket
    target: socket.socket
    path: tuple[Endpoint, Endpoint, Endpoint, Endpoint]
    ifindex: int = 0

    def send(self, payload: bytes) -> None:
        local = self.path[1]
        self.source.sendto(payload, (local.address, local.port))

    def receive(self, timeout: float) -> bytes | None:
        sender = self.path[2]
        self.target.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            while True:
                payload, peer = self.target.recvfrom(2048)
                if peer == (sender.address, sender.port):
                    return payload
        return None


@contextlib.contextmanager
def loopback() -> Iterator[Loopback]:
    """Four sockets on the loopback device of this namespace.

    Raises:
        OSError: there is none.
    """
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(4):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            one.bind(("127.0.0.1", 0))
            sockets.append(one)
        source, local, sender, target = (Endpoint(*one.getsockname()) for one in sockets)
        links = tuple(link for link in read_links().links if link.loopback)
        yield Loopback(links, sockets[0], sockets[3], (source, local, sender, target))


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total = int(sum(struct.unpack(f"!{len(data) // 2}H", data)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(source: Endpoint, target: Endpoint, payload: bytes) -> bytes:
    """An IPv4 packet (RFC 791) with a UDP datagram (RFC 768), both checksums in place."""
    addresses = socket.inet_aton(source.address) + socket.inet_aton(target.address)
    length = 8 + len(payload)
    head = struct.pack("!HHHH", source.port, target.port, length, 0)
    pseudo = addresses + struct.pack("!HH", _UDP, length)
    udp = head[:6] + struct.pack("!H", checksum(pseudo + head + payload) or 0xFFFF) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, _UDP, 0)
    return ip[:10] + struct.pack("!H", checksum(ip + addresses)) + addresses + udp


def udp_payload(packet: bytes, source: Endpoint, target: Endpoint) -> bytes | None:
    """The payload of an IPv4 packet from ``source`` to ``target`` whose checksums are right, else ``None``."""
    addresses = socket.inet_aton(source.address) + socket.inet_aton(target.address)
    if (
        len(packet) < 28
        or packet[0] != 0x45
        or packet[9] != _UDP
        or packet[12:20] != addresses
        or checksum(packet[:20])
    ):
        return None
    udp = packet[20 : struct.unpack_from("!H", packet, 2)[0]]
    if len(udp) < 8:
        return None
    ports_and_length = (source.port, target.port, len(udp))
    pseudo = addresses + struct.pack("!HH", _UDP, len(udp))
    if struct.unpack_from("!HHH", udp) != ports_and_length or (udp[6:8] != b"\0\0" and checksum(pseudo + udp)):
        return None
    return udp[8:]
