"""Proof that media gets in and out: one datagram each way, between this host and a host made for the purpose.

That host is a network namespace at the other end of a veth pair. So the packets take the way of those of phones, by
all tables of prerouting and input, output and postrouting - but for rules about a device: the device is a new one. Nor
is routing asked: a host that chooses the way by the source (``ip rule``) has none to a host that was not there before.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mediaproxy.backends.firewall_rules import Opening
from mediaproxy.net import AddressFamily

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_TRIES: Final = 4
_WAIT: Final = 0.5
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of it.

    Attributes:
        passed: ``None`` if it could not be tried.
        text: one line for an operator.
    """

    passed: bool | None
    text: str


def prove(opening: Opening) -> Proof:
    """Send one datagram to a free port of the opening, and one back.

    Needs CAP_NET_ADMIN and CAP_SYS_ADMIN. Everything is gone when it returns.
    """
    with ExitStack() as stack:
        try:
            ours = _listen(opening, stack)
            if ours is None:
                return Proof(None, f"not tried: no port of {opening.address} is free")
            theirs, address, device = _other_host(opening.family, stack)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode("ascii"))
        except OSError as error:
            return Proof(None, f"not tried: {error.strerror or error}")
        target = (address if opening.any_address else opening.address, ours.getsockname()[1])
        here = f"{target[0]} port {target[1]}"
        try:
            if not _passes(theirs, ours, target):
                return Proof(False, f"a datagram from another host does not arrive at {here}")
            if not _passes(ours, theirs, theirs.getsockname()[:2]):
                return Proof(False, f"a datagram arrives at {here}, but the answer does not leave")
        except OSError as error:
            return Proof(False, f"a datagram to or from {here} can't be sent: {error.strerror}")
        return Proof(True, f"a datagram from another host (a veth pair) arrived at {here}, and one left from there")


def _listen(opening: Opening, stack: ExitStack) -> socket.socket | None:
    """A socket on a port of the range that nobody has, searched from its end, where calls come last."""
    family = socket.AF_INET6 if opening.family is AddressFamily.IP6 else socket.AF_INET
    for port in range(opening.last_port, opening.first_port - 1, -1):
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            udp.bind((opening.address, port))
        except OSError as error:
            udp.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            stack.callback(udp.close)
            return udp
    return None


def _other_host(family: AddressFamily, stack: ExitStack) -> tuple[socket.socket, str, str]:
    """A socket on a host of its own, our address on the way to it, and our device.

    Raises:
        OSError: no privilege, or no network namespaces or veth devices here.
    """
    import pyroute2  # noqa: PLC0415  # takes 0.2 s, which only this is to pay

    number = secrets.randbelow(1 << 12)
    near_name, far_name = f"mpfw{number:x}n", f"mpfw{number:x}f"
    kind = socket.AF_INET6 if family is AddressFamily.IP6 else socket.AF_INET
    if family is AddressFamily.IP6:
        network = f"fd{secrets.token_hex(1)}:{secrets.token_hex(2)}:{secrets.token_hex(2)}::"
        near, far, length = f"{network}1", f"{network}2", 126
    else:
        # Of the net for benchmarks (RFC 2544), which nobody routes: 198.18.0.0/15.
        third, fourth = number >> 4, (number & 15) << 2
        near, far, length = f"198.18.{third}.{fourth + 1}", f"198.18.{third}.{fourth + 2}", 30
    inside = stack.enter_context(ThreadPoolExecutor(1, "firewall proof"))  # the namespace ends with this thread
    namespace = inside.submit(_enter_new_namespace).result()
    stack.callback(os.close, namespace)
    try:
        with pyroute2.IPRoute() as route:
            peer = {"ifname": far_name, "net_ns_fd": namespace}
            route.link("add", ifname=near_name, kind="veth", peer=peer)
            index = route.link_lookup(ifname=near_name)[0]
            stack.callback(_delete_link, near_name)
            _loosen_source_check(near_name)
            _configure(route, index, kind, near, length)

        def set_up() -> socket.socket:
            with pyroute2.IPRoute() as there:
                _configure(there, there.link_lookup(ifname=far_name)[0], kind, far, length)
                there.route("add", family=kind, dst="default", gateway=near)
            udp = socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                udp.bind((far, 0))
            except OSError:
                udp.close()
                raise
            return udp

        theirs = inside.submit(set_up).result()
    except pyroute2.NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error
    stack.callback(theirs.close)
    return theirs, near, near_name


def _loosen_source_check(device: str) -> None:
    """Take packets whose source another device leads to (ip-sysctl, rp_filter 2), if we may say so."""
    with suppress(OSError):
        Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("2\n", encoding="ascii")


def _configure(route: object, index: int, kind: int, address: str, length: int) -> None:
    flags = {"flags": 0x02} if kind == socket.AF_INET6 else {}  # IFA_F_NODAD: usable at once
    route.addr("add", index=index, family=kind, address=address, prefixlen=length, **flags)  # type: ignore[attr-defined]  # untyped
    route.link("set", index=index, state="up")  # type: ignore[attr-defined]  # untyped


def _delete_link(name: str) -> None:
    import pyroute2  # noqa: PLC0415  # see _other_host

    with pyroute2.IPRoute() as route:
        for index in route.link_lookup(ifname=name):
            route.link("del", index=index)


def _enter_new_namespace() -> int:
    """Put the calling thread into a network namespace of its own. Returns a descriptor of it.

    Raises:
        OSError: no privilege, or no network namespaces here.
    """
    if _libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"no network namespace: {os.strerror(number)}")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _passes(sender: socket.socket, receiver: socket.socket, target: tuple[str, int]) -> bool:
    token = secrets.token_bytes(16)
    for _ in range(_TRIES):
        try:
            sender.sendto(token, target)
        except PermissionError:
            return False  # dropped on its way out
        while select.select([receiver], [], [], _WAIT)[0]:
            try:
                if receiver.recv(2048) == token:
                    return True
            except OSError:
                break  # an ICMP error that a former datagram has met
    return False
