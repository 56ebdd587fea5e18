"""What tests of kernel paths need beside namespaces: a bpffs, offloads of devices, tun devices, RTP on sockets."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from mediaproxy.backends import flow_records
from mediaproxy.backends.flow_records import REMOVE, SET, FlowRecord
from mediaproxy.backends.kernel_backend import KernelBackend, Link
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from tests.support.netlab import Namespace

_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_STXCSUM: Final = 0x17
_ETHTOOL_SGRO: Final = 0x2C
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_ARPHRD_ETHER: Final = "1"
_ARPHRD_LOOPBACK: Final = "772"
_BPF_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_BPF_PROG_QUERY: Final = 16
_TCX_INGRESS: Final = 46
_libc: Final = ctypes.CDLL(None, use_errno=True)
RECEIVE_TIMEOUT: Final = 2.0


@contextlib.contextmanager
def bpffs() -> Iterator[Path]:
    """A mounted bpffs of the test's own."""
    with tempfile.TemporaryDirectory(prefix=f"mp-{os.getpid()}-bpf-") as folder:
        subprocess.run(["mount", "-t", "bpf", "bpf", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def set_offload(namespace: Namespace, device: str, *, tx_checksum: bool | None = None, gro: bool | None = None) -> None:
    """Switch what a device does for the packets that pass it."""

    def switch() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for command, value in ((_ETHTOOL_STXCSUM, tx_checksum), (_ETHTOOL_SGRO, gro)):
                if value is None:
                    continue
                argument = ctypes.create_string_buffer(struct.pack("=II", command, value))
                request = struct.pack("@16sP16x", device.encode(), ctypes.addressof(argument))
                fcntl.ioctl(control, _SIOCETHTOOL, request)

    namespace.call(switch)


def tcx_programs(namespace: Namespace, device: str) -> int:
    """How many programs hang on a device's TCX ingress; bpftool of Debian 12 does not know of them."""

    def query() -> int:
        # union bpf_attr: target_ifindex, attach_type, query_flags, attach_flags, prog_ids (NULL), count
        attributes = ctypes.create_string_buffer(
            struct.pack("=IIIIQI36x", socket.if_nametoindex(device), _TCX_INGRESS, 0, 0, 0, 0)
        )
        if _libc.syscall(_BPF_SYSCALL[os.uname().machine], _BPF_PROG_QUERY, attributes, len(attributes) - 1) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(struct.unpack_from("=I", attributes, 24)[0])

    return namespace.call(query)


def open_tun(namespace: Namespace, device: str) -> int:
    """Make a tun device; what is written to the descriptor arrives on it. The caller closes it."""

    def make() -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH14x", device.encode(), _IFF_TUN_NO_PI))
        return fd

    fd = namespace.call(make)
    namespace.ip("link", "set", device, "up")
    return fd


def links(namespace: Namespace) -> list[Link]:
    """All devices of a namespace, as whoever watches them would name them."""

    def read() -> list[Link]:
        found = []
        for index, name in socket.if_nameindex():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                answer = fcntl.ioctl(control, 0x8927, struct.pack("=16s24x", name.encode()))  # SIOCGIFHWADDR
                mtu = fcntl.ioctl(control, 0x8921, struct.pack("=16s24x", name.encode()))  # SIOCGIFMTU
            kind = str(struct.unpack_from("=H", answer, 16)[0])
            found.append(
                Link(
                    index,
                    name,
                    struct.unpack_from("=i", mtu, 16)[0],
                    loopback=kind == _ARPHRD_LOOPBACK,
                    ethernet=kind in {_ARPHRD_ETHER, _ARPHRD_LOOPBACK},
                )
            )
        return found

    return namespace.call(read)


def ifindex(namespace: Namespace, device: str) -> int:
    """The index of a device."""
    return namespace.call(lambda: socket.if_nametoindex(device))


def set_flow(
    backend: KernelBackend, flow: Flow, slot: Slot, *, way_out: int = 0, mtu: int = 1500, local_peer: bool = False
) -> int:
    """Install one flow; returns the result."""
    return apply(backend, [FlowRecord(SET, InstalledFlow(flow, slot), way_out, mtu, local_peer)])[0]


def remove_flow(backend: KernelBackend, flow: Flow, slot: Slot) -> int:
    """Remove one flow; returns the result."""
    return apply(backend, [FlowRecord(REMOVE, InstalledFlow(flow, slot))])[0]


def apply(backend: KernelBackend, records: Sequence[FlowRecord]) -> list[int]:
    """Carry out changes; returns the results."""
    packed = bytearray().join(map(flow_records.pack_record, records))
    backend.apply(packed)
    return flow_records.results(packed)


def rtp(sequence: int, size: int = 172, ssrc: int = 0x5EED) -> bytes:
    """An RTP packet (PCMU) of ``size`` bytes."""
    head = struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, 160 * sequence & 0xFFFFFFFF, ssrc)
    return head + bytes(number & 0xFF for number in range(size - len(head)))


def receive(udp: socket.socket, timeout: float = RECEIVE_TIMEOUT) -> tuple[bytes, tuple[str, int]] | None:
    """One datagram and where it came from; ``None`` if none comes."""
    udp.settimeout(timeout)
    try:
        data, source = udp.recvfrom(65536)
    except TimeoutError:
        return None
    return data, (source[0], source[1])


def nothing_waits(*sockets: socket.socket) -> bool:
    """Whether no datagram waits on any of them."""
    return all(receive(udp, 0.0001) is None for udp in sockets)
