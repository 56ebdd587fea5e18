"""What checks can ask of a host: a protocol, and the host that we are on."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mediaproxy.backends.kernel_backend import BackendSettings, NftForm
from mediaproxy.backends.netlink import NetlinkError, can_bind, read_host_network
from mediaproxy.errors import MediaProxyError
from mediaproxy.net import Endpoint
from mediaproxy.privileged.links import read_links
from mediaproxy.privileged.openers import OPENERS
from mediaproxy.privileged.probe import try_in_child
from mediaproxy.privileged.rights import effective_capabilities
from mediaproxy.privileged.settings import Candidate

_PROC_FILE_LIMIT: Final = 64 * 1024
_TIME_ERROR: Final = 5  # adjtimex(2)
_STA_UNSYNC: Final = 0x40


@dataclass(frozen=True, slots=True)
class Device:
    """A network device with its addresses.

    Attributes:
        mtu: 0 where it is down.
    """

    name: str
    mtu: int
    up: bool
    loopback: bool
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A resource limit, in descriptors or bytes; ``None`` for no limit."""

    soft: int | None
    hard: int | None


@dataclass(frozen=True, slots=True)
class Clock:
    """What adjtimex(2) says.

    Attributes:
        max_error: estimated, in seconds.
    """

    synchronised: bool
    max_error: float


class Host(Protocol):
    """What checks look at. Nothing raises: what cannot be had is ``None`` or empty."""

    @property
    def release(self) -> str:
        """The kernel's, such as ``6.1.0-18-amd64``."""
        ...

    def read(self, path: str) -> str | None:
        """The stripped text of a file below /proc or /sys; ``None`` if it is not there or not for us."""
        ...

    def lines(self, path: str, limit: int) -> Iterator[str]:
        """The first ``limit`` lines of a file that may be huge."""
        ...

    def devices(self) -> Sequence[Device]: ...

    def features(self, device: str) -> Mapping[str, bool] | None:
        """Offloads by their ethtool names."""
        ...

    def capabilities(self) -> frozenset[int]:
        """Numbers of those in effect."""
        ...

    def descriptor_limit(self) -> Limit: ...

    def locked_memory_limit(self) -> Limit: ...

    def clock(self) -> Clock | None: ...

    def can_bind(self, address: str) -> bool: ...

    def lock_holder(self, path: Path) -> int | None:
        """The process that holds a lock (flock) on a file."""
        ...

    def udp_owner(self, endpoint: Endpoint) -> tuple[int, str] | None:
        """Who has bound a UDP port: process id (0 if it cannot be told) and name."""
        ...

    def try_backend(self, name: str, form: NftForm) -> Candidate:
        """Have a kernel backend forward a packet in a place of its own."""
        ...


class _Timex(ctypes.Structure):
    """``struct timex``, as far as it is read; the kernel's is smaller than the padding."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("more", ctypes.c_char * 512),
    )


class LiveHost:
    """The host and the network namespace that this process is in; see ``Host``."""

    @property
    def release(self) -> str:
        return platform.release()

    def read(self, path: str) -> str | None:
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                return file.read(_PROC_FILE_LIMIT).strip()
        except OSError:
            return None

    def lines(self, path: str, limit: int) -> Iterator[str]:
        try:
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file):
                    if number == limit:
                        return
                    yield line
        except OSError:
            return

    def devices(self) -> Sequence[Device]:
        try:
            links = {link.name: link for link in read_links().links}
            found: dict[str, list[str]] = {name: [] for name in links}
            for one in read_host_network().addresses:
                found.setdefault(one.device, []).append(one.address)
        except (OSError, NetlinkError):
            return ()
        return [
            Device(
                name=name,
                mtu=links[name].mtu if name in links else 0,
                up=name in links,
                loopback=name in links and links[name].loopback,
                addresses=tuple(addresses),
            )
            for name, addresses in found.items()
        ]

    def features(self, device: str) -> Mapping[str, bool] | None:
        from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool  # noqa: PLC0415  # slow, and untyped

        ethtool: Any = IoctlEthtool(device)
        try:
            return {name: bool(active) for name, active, *_ in ethtool.get_features() if name}
        except (OSError, EthtoolError):
            return None
        finally:
            ethtool.close()

    def capabilities(self) -> frozenset[int]:
        return effective_capabilities()

    def descriptor_limit(self) -> Limit:
        return _limit(resource.RLIMIT_NOFILE)

    def locked_memory_limit(self) -> Limit:
        return _limit(resource.RLIMIT_MEMLOCK)

    def clock(self) -> Clock | None:
        timex = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
        if state < 0:
            return None
        unsynchronised = state == _TIME_ERROR or bool(timex.status & _STA_UNSYNC)
        return Clock(not unsynchronised, timex.maxerror / 1e6)

    def can_bind(self, address: str) -> bool:
        return can_bind(address)

    def lock_holder(self, path: Path) -> int | None:
        try:
            status = path.stat()
        except OSError:
            return None
        wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in self.lines("/proc/locks", 100_000):
            fields = line.split()
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == wanted:
                return int(fields[4])
        return None

    def udp_owner(self, endpoint: Endpoint) -> tuple[int, str] | None:
        inode = _udp_inode(self, endpoint)
        return None if inode is None else _socket_owner(inode)

    def try_backend(self, name: str, form: NftForm) -> Candidate:
        settings = BackendSettings("doctor", None, 64, form)
        try:
            reason = try_in_child(name, OPENERS[name], settings)
        except (OSError, MediaProxyError) as error:
            reason = str(error)
        return Candidate(name, not reason, reason or "forwarded a packet")


def _limit(kind: int) -> Limit:
    soft, hard = (None if value == resource.RLIM_INFINITY else value for value in resource.getrlimit(kind))
    return Limit(soft, hard)


def _udp_inode(host: Host, endpoint: Endpoint) -> str | None:
    """Of the socket that a packet to this endpoint would reach, by its port in /proc/net/udp."""
    wanted = f"{endpoint.port:04X}"
    for path in ("/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"):
        for line in host.lines(path, 200_000):
            fields = line.split()
            if len(fields) > 9 and fields[1].rpartition(":")[2] == wanted:
                return fields[9]
    return None


def _socket_owner(inode: str) -> tuple[int, str]:
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            for link in (folder / "fd").iterdir():
                if os.readlink(link) == wanted:
                    return int(folder.name), (folder / "comm").read_text().strip()
        except OSError:
            continue  # ended meanwhile, or not for us
    return 0, "another program"
