"""Three namespaces in a row: agents, the relay's with its addresses on both sides, agents.

    agents[0]          relay                  agents[1]
    aa  ------------  ra   rb  ------------  ab         10.199.1.1 .. on ra, 10.199.2.1 .. on rb

The receive path of each end runs in a kernel thread of its own (threaded NAPI), so that its CPU time is exact and on a
chosen core: that of ra and rb on the relay's core, that of aa and ab on the generator's. For this a veth needs GRO on
and its peer's TSO off; otherwise the kernel would run the relay's receive path on the sender's core, out of sight.
The sink polls every 50 us as long as packets come: otherwise each packet that the relay sends would wake a thread on
the other core, an interrupt between cores that no network card asks for and that took 30 % of the relay's time here.
The agents' addresses exist only in the generator's frames. Their permanent neighbour entries name a MAC that is not the
device's, so that the agents' stack drops what the packet sockets have already seen.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Any, Final

from mediaproxy.bench.accounting import cpu_ns
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.namespaces import Namespace

AGENT_HOST: Final = 250
AGENT_MAC: Final = "02:00:5e:10:00:01"
PREFIXES: Final = ("10.199.1", "10.199.2")
SIOCETHTOOL: Final = 0x8946
ETHTOOL_STSO: Final = 0x1F
ETHTOOL_SGRO: Final = 0x2C
ETHTOOL_SGSO: Final = 0x24
NAPI_PRIORITY: Final = 2
SINK_POLL_NS: Final = 50_000
SINK_IDLE_POLLS: Final = 1000


@dataclass(frozen=True, slots=True)
class Device:
    """One end of a cable."""

    name: str
    index: int
    mac: str
    mtu: int


@dataclass(slots=True)
class Lab:
    """The namespaces of one run; ``with Lab(...) as lab`` makes and removes them.

    Attributes:
        addresses: local addresses of the relay on each side.
        relay_devices, agent_devices: by side.
        relay_napi: the kernel threads that receive for the relay.
    """

    relay_cpu: int
    load_cpu: int
    addresses: int = 4
    relay: Namespace = field(init=False)
    agents: tuple[Namespace, Namespace] = field(init=False)
    relay_devices: list[Device] = field(init=False, default_factory=list)
    agent_devices: list[Device] = field(init=False, default_factory=list)
    relay_napi: list[int] = field(init=False, default_factory=list)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)

    def __enter__(self) -> Lab:
        try:
            self._build()
        except OSError as error:
            self.close()
            raise BenchError(f"the network for the measurement can't be built: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what exists of the namespaces, devices included."""
        self._stack.close()

    def local_address(self, side: int, number: int) -> str:
        """The relay's address ``number`` on this side."""
        return f"{PREFIXES[side]}.{1 + number}"

    def agent_address(self, side: int) -> str:
        """Where the agents of this side are."""
        return f"{PREFIXES[side]}.{AGENT_HOST}"

    def relay_napi_ns(self) -> int:
        """Exact CPU time of the kernel threads that receive for the relay, in nanoseconds."""
        return sum(cpu_ns(pid) for pid in self.relay_napi)

    def udp_overflows(self) -> int:
        """Datagrams that found a full socket in the relay's namespace (RcvbufErrors of UDP)."""
        lines = [line.split() for line in self.relay.read("/proc/thread-self/net/snmp").splitlines()]
        names, values = (line for line in lines if line[0] == "Udp:")
        return int(values[names.index("RcvbufErrors")])

    def _build(self) -> None:
        self.relay = self._namespace()
        self.agents = (self._namespace(), self._namespace())
        for side, agents in enumerate(self.agents):
            # The process id keeps the kernel threads of several runs apart, which are named after their devices.
            relay_end, agent_end = (f"{letter}{'ab'[side]}{os.getpid():x}" for letter in "ra")
            self._cable(side, agents, relay_end, agent_end)
            self.relay_napi += self._thread_napi(self.relay, relay_end, self.relay_cpu)
            self._thread_napi(agents, agent_end, self.load_cpu)
        self._set_sink_poll(SINK_POLL_NS, SINK_IDLE_POLLS)

    @contextmanager
    def prompt_sink(self) -> Iterator[None]:
        """Meanwhile each packet wakes the sink, so that delays are seen to the microsecond; the relay pays for it."""
        self._set_sink_poll(0, 0)
        try:
            yield
        finally:
            self._set_sink_poll(SINK_POLL_NS, SINK_IDLE_POLLS)

    def _set_sink_poll(self, every_ns: int, idle_polls: int) -> None:
        for agents, device in zip(self.agents, self.agent_devices, strict=True):
            agents.set_device_files(
                {f"{device.name}/gro_flush_timeout": every_ns, f"{device.name}/napi_defer_hard_irqs": idle_polls}
            )

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._stack.callback(namespace.close)
        values: dict[str, object] = {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/default/rp_filter": 0}
        if Path("/proc/sys/net/ipv6").exists():
            values |= {"ipv6/conf/all/disable_ipv6": 1, "ipv6/conf/default/disable_ipv6": 1}
        namespace.set_sysctls(values)
        return namespace

    def _cable(self, side: int, agents: Namespace, relay_end: str, agent_end: str) -> None:
        import pyroute2  # noqa: PLC0415  # takes 0.2 s, which only this command is to pay

        try:
            with self.relay.inside(), pyroute2.IPRoute() as route:
                route.link("set", index=route.link_lookup(ifname="lo")[0], state="up")
                route.link("add", ifname=relay_end, kind="veth", peer={"ifname": agent_end, "net_ns_fd": agents.fd})
            # This end first: the kernel lets XDP send by a veth only whose peer had GRO on when it was set up.
            with agents.inside(), pyroute2.IPRoute() as route:
                _prepare_offloads(agent_end)
                self.agent_devices.append(_bring_up(route, agent_end))
            with self.relay.inside(), pyroute2.IPRoute() as route:
                _prepare_offloads(relay_end)
                device = _bring_up(route, relay_end)
                for number in range(self.addresses):
                    route.addr("add", index=device.index, address=self.local_address(side, number), prefixlen=24)
                neighbour = {"dst": self.agent_address(side), "lladdr": AGENT_MAC, "ifindex": device.index}
                route.neigh("replace", **neighbour, state="permanent")
                self.relay_devices.append(device)
        except pyroute2.NetlinkError as error:
            raise BenchError(f"the network for the measurement can't be built: {error}") from error

    def _thread_napi(self, namespace: Namespace, device: str, cpu: int) -> list[int]:
        before = set(_napi_threads(device))
        namespace.set_device_files({f"{device}/threaded": 1})
        threads = [pid for pid in _napi_threads(device) if pid not in before]
        if not threads:
            raise BenchError(f"the kernel made no NAPI thread for {device}: its CPU time can't be told apart")
        for pid in threads:
            os.sched_setaffinity(pid, {cpu})
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(NAPI_PRIORITY))
        return threads


def _bring_up(route: Any, name: str) -> Device:  # pyroute2's messages are untyped
    index = route.link_lookup(ifname=name)[0]
    route.link("set", index=index, state="up")
    link = route.get_links(index)[0]
    return Device(name, index, link.get_attr("IFLA_ADDRESS"), link.get_attr("IFLA_MTU"))


def _prepare_offloads(device: str) -> None:
    for command, value in ((ETHTOOL_STSO, 0), (ETHTOOL_SGSO, 0), (ETHTOOL_SGRO, 1)):
        data = ctypes.create_string_buffer(struct.pack("II", command, value))
        request = struct.pack("16sP", device.encode(), ctypes.addressof(data)).ljust(40, b"\0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            ioctl(sock, SIOCETHTOOL, request)


def _napi_threads(device: str) -> list[int]:
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().startswith(f"napi/{device}-"):
                found.append(int(comm.parent.name))
        except OSError:
            continue  # ended meanwhile
    return found
