"""A relay host between two phones, in namespaces, with sockets on its ports: what a kernel backend is tried on."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mediaproxy.backends import flow_records
from mediaproxy.backends.flow_records import FlowRecord
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.net import Endpoint
from tests.support import netlab
from tests.support.netlab import Namespace, NetLab
from tests.support.rtp_agent import rtp_packet

PATIENCE: Final = 3.0
"""How long a datagram that is to arrive is waited for."""
STUN: Final = struct.pack("!HHI12s", 1, 0, 0x2112A442, b"transaction!")
RTCP: Final = struct.pack("!BBHI", 0x80, 201, 1, 7)


def why_not_iptables() -> str | None:
    """Why legacy iptables rules can't be tried here, in one sentence; ``None`` if they can."""
    reason = netlab.why_not()
    if reason is not None:
        return reason
    programs = ("iptables-legacy", "ip6tables-legacy", "iptables-nft", "nft", "conntrack")
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        return f"needs the programs {', '.join(missing)} (Debian: iptables, nftables, conntrack)"
    for table in ("nat", "raw", "mangle", "filter"):
        trial = ["unshare", "--net", "iptables-legacy", "-t", table, "-S"]
        if subprocess.run(trial, capture_output=True, check=False).returncode != 0:
            return f"this kernel has no legacy table {table} of iptables"
    return None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of one IP version: left and right phone, and the relay's on either side."""

    left: str
    left_relay: str
    right: str
    right_relay: str
    prefix: int


V4: Final = Addresses("10.1.0.2", "10.1.0.1", "10.2.0.2", "10.2.0.1", 24)
V6: Final = Addresses("fd01::2", "fd01::1", "fd02::2", "fd02::1", 64)


class FlowLab:
    """Namespaces ``left``, ``relay`` and ``right``, both IP versions; the relay's host forwards."""

    def __init__(self, lab: NetLab) -> None:
        self.lab = lab
        self.left, self.relay, self.right = (lab.namespace(role) for role in ("left", "relay", "right"))
        lab.cable(self.left, "l0", self.relay, "r0")
        lab.cable(self.right, "l0", self.relay, "r1")
        for addresses in (V4, V6):
            lab.address(self.left, "l0", f"{addresses.left}/{addresses.prefix}")
            lab.address(self.right, "l0", f"{addresses.right}/{addresses.prefix}")
            lab.address(self.relay, "r0", f"{addresses.left_relay}/{addresses.prefix}")
            lab.address(self.relay, "r1", f"{addresses.right_relay}/{addresses.prefix}")
        self.relay.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv4__conf__all__send_redirects=0)

    def socket(self, namespace: Namespace, address: str, port: int = 0) -> socket.socket:
        """A UDP socket that is closed with the lab."""
        udp = namespace.udp_socket(address, port)
        self.lab.on_exit(udp.close)
        udp.settimeout(PATIENCE)
        return udp


def endpoint_of(udp: socket.socket) -> Endpoint:
    """Where a socket is bound."""
    return Endpoint(*udp.getsockname()[:2])


def rtp(sequence: int, payload_type: int = 0) -> bytes:
    """An RTP packet with 20 ms of silence."""
    return rtp_packet(0x11223344, sequence, sequence * 160, bytes(160), payload_type)


def received(udp: socket.socket) -> tuple[bytes, Endpoint]:
    """The next datagram and whose it is.

    Raises:
        TimeoutError: none has arrived within ``PATIENCE``.
    """
    data, source = udp.recvfrom(2048)
    return data, Endpoint(*source[:2])


def waiting(udp: socket.socket) -> list[bytes]:
    """What has arrived already and not been taken."""
    taken = []
    timeout = udp.gettimeout()
    udp.setblocking(False)
    try:
        while True:
            taken.append(udp.recv(2048))
    except BlockingIOError:
        return taken
    finally:
        udp.settimeout(timeout)


def set_of(flow: Flow, slot: int = 0, generation: int = 1, *, local_peer: bool = False) -> bytes:
    """A record that installs a flow."""
    return flow_records.pack_record(
        FlowRecord(flow_records.SET, InstalledFlow(flow, Slot(slot, generation)), 1, 1500, local_peer)
    )


def removal_of(flow: Flow, slot: int = 0, generation: int = 1) -> bytes:
    """A record that removes a flow."""
    return flow_records.pack_record(FlowRecord(flow_records.REMOVE, InstalledFlow(flow, Slot(slot, generation))))


@contextmanager
def flow_lab() -> Iterator[FlowLab]:
    """A lab for one test."""
    with NetLab("flows") as lab:
        yield FlowLab(lab)
