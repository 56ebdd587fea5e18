"""The lab of the main job with media alone: calls are signalled to the proxy directly, RTP comes at any rate."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.media_proxy import MediaProxyProcess
from tests.support.netlab import Namespace
from tests.support.ng_call import NgCall, SocketAddress
from tests.support.processes import wait_until
from tests.support.rtp_stream import RtpStream
from tests.support.sip_lab import SipLab

SOAK_SCALE: Final = float(os.environ.get("SOAK_SCALE", "0"))
"""The fraction of the full figures that is wanted; 0 for each test's own small one."""


def scaled(full: int, small: int) -> int:
    """How much of a full figure is to be done: ``small`` unless ``SOAK_SCALE`` says more."""
    return max(small, round(full * SOAK_SCALE))


def host_counters(namespace: Namespace) -> dict[str, int]:
    """The IPv4 counters of a host by their names in RFC 4113 and its like, e.g. ``Udp.InDatagrams``."""

    def read() -> dict[str, int]:
        lines = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
        return {
            f"{names[0].rstrip(':')}.{name}": int(value)
            for names, values in zip(lines[::2], lines[1::2], strict=True)
            for name, value in zip(names[1:], values[1:], strict=True)
        }

    return namespace.call(read)


def flows_in_bpf_map(lab: SipLab) -> int | None:
    """How many flows are in the map that is pinned in the lab, by the kernel's own word; ``None`` if none is pinned."""
    pins = list((lab.folder / "run").glob("*/bpf/*-flows"))
    return len(json.loads(lab.proxy.run("bpftool", "-j", "map", "dump", "pinned", str(pins[0])))) if pins else None


class MediaLab(SipLab):
    """Caller, proxy and callee; use it in a ``with`` statement."""

    def _build(self) -> None:
        super()._build()
        # A sender at full speed must not lose what comes before its neighbour is found: that is not what is tested.
        ends = (
            (self.caller, "eth0", self.addresses.caller, self.proxy, "ext0", self.addresses.external),
            (self.callee, "eth0", self.addresses.callee, self.proxy, "int0", self.addresses.internal),
        )
        for host, device, address, proxy, proxy_device, proxy_address in ends:
            _make_known(host, device, proxy_address, proxy, proxy_device)
            _make_known(proxy, proxy_device, address, host, device)

    def start_proxy(self, *options: str, kernel_path: str = "tc", program: Sequence[str] = ()) -> MediaProxyProcess:
        """Start the media proxy and wait until it answers; ``kernel_path`` and ``program`` as it has them."""
        addresses = self.addresses
        interfaces = (f"external/{addresses.external}", f"internal/{addresses.internal}")
        self.media_proxy = MediaProxyProcess(self, self.proxy, interfaces, options, kernel_path, program=program)
        return self.media_proxy

    def let_host_forward(self) -> None:
        """What the iptables backend asks of the proxy's host, and tells who has not done it."""
        self.proxy.sysctl(ipv4__ip_forward=1)
        with contextlib.suppress(FileNotFoundError):  # before the connection tracking module is loaded
            self.proxy.sysctl(netfilter__nf_conntrack_acct=1)

    def caller_socket(self, port: int = 0) -> socket.socket:
        """A UDP socket of the caller's, closed with the lab."""
        return self._socket(self.caller, self.addresses.caller, port)

    def callee_socket(self, port: int = 0) -> socket.socket:
        """A UDP socket of the callee's, closed with the lab."""
        return self._socket(self.callee, self.addresses.callee, port)

    def _socket(self, namespace: Namespace, address: str, port: int) -> socket.socket:
        udp = namespace.udp_socket(address, port)
        self.on_exit(udp.close)
        return udp

    def ng_call(self, at_caller: socket.socket, at_callee: socket.socket, **options: Any) -> NgCall:
        """A call between these sockets, answered; ``options`` are keys of its offers and answers."""
        return NgCall(self.media_proxy.ng, address_of(at_caller), address_of(at_callee), options=options).set_up()

    def streams(
        self, at_caller: socket.socket, at_callee: socket.socket, name: str = ""
    ) -> tuple[RtpStream, RtpStream]:
        """What the caller says to the callee, and the other way round; not started."""
        return (
            RtpStream(self, f"caller{name}", at_caller, [at_callee]),
            RtpStream(self, f"callee{name}", at_callee, [at_caller]),
        )

    def kernel_path(self) -> dict[str, Any]:
        """The proxy's statistics of its kernel path."""
        report: dict[str, Any] = self.media_proxy.ng.request("statistics")["statistics"]["kernelpath"]
        return report

    def talk(self, pps: int, name: str = "") -> tuple[NgCall, RtpStream, RtpStream]:
        """A call whose parties both speak, by way of the kernel."""
        sockets = self.caller_socket(), self.callee_socket()
        call = self.ng_call(*sockets)
        caller, callee = self.streams(*sockets, name)
        caller.start(call.at_caller, pps, ssrc=0xCA11E400)
        callee.start(call.at_callee, pps, ssrc=0xCA11EE00)
        wait_until(call.in_kernel, 3.0, "both ways in the kernel")
        return call, caller, callee


def _make_known(namespace: Namespace, device: str, address: str, neighbour: Namespace, its_device: str) -> None:
    """Enter a neighbour's hardware address for good."""
    (link,) = json.loads(neighbour.ip("-json", "link", "show", "dev", its_device))
    namespace.ip("neigh", "replace", address, "lladdr", link["address"], "dev", device, "nud", "permanent")


def address_of(udp: socket.socket) -> SocketAddress:
    """Where a socket is bound."""
    address, port = udp.getsockname()[:2]
    return str(address), int(port)
