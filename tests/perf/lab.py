"""Two namespaces joined by two veths: the relay's, with its addresses on both sides, and the agents'.

    agents ns          relay ns
    aa  ------------  ra   10.199.1.1 .. (interfaces a0, a1, ...)
    ab  ------------  rb   10.199.2.1 .. (interfaces b0, b1, ...)

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
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Final

from pyroute2 import netns

from tests.perf.accounting import cpu_ns
from tests.perf.errors import BenchError

SIDES: Final = (("aa", "ra", "10.199.1"), ("ab", "rb", "10.199.2"))
AGENT_HOST: Final = 250
AGENT_MAC: Final = "02:00:5e:10:00:01"
SIOCETHTOOL: Final = 0x8946
ETHTOOL_STSO: Final = 0x1F
ETHTOOL_SGRO: Final = 0x2C
ETHTOOL_SGSO: Final = 0x24
NAPI_PRIORITY: Final = 2
SINK_POLL_NS: Final = 50_000
SINK_IDLE_POLLS: Final = 1000


def run(*command: str) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        BenchError: it failed; the text has the command and its complaint.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread is in the namespace meanwhile; sockets made here stay there."""
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()


def _set_feature(device: str, command: int, value: int) -> None:
    data = ctypes.create_string_buffer(struct.pack("II", command, value))
    request = struct.pack("16sP", device.encode(), ctypes.addressof(data)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        ioctl(sock, SIOCETHTOOL, request)


@dataclass(slots=True)
class Lab:
    """The namespaces of one run; ``with Lab(...) as lab`` makes and removes them.

    Attributes:
        addresses: local addresses of the relay on each side.
    """

    relay_cpu: int
    load_cpu: int
    addresses: int = 4
    relay_ns: str = field(init=False, default=f"mpbench-{os.getpid()}-relay")
    agents_ns: str = field(init=False, default=f"mpbench-{os.getpid()}-agents")
    relay_napi: list[int] = field(init=False, default_factory=list)

    def __enter__(self) -> Lab:
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove what exists of the two namespaces, devices included."""
        for name in (self.relay_ns, self.agents_ns):
            if Path("/run/netns", name).exists():
                run("ip", "netns", "del", name)

    def local_address(self, side: int, number: int) -> str:
        """The relay's address behind interface ``a{number}`` or ``b{number}``."""
        return f"{SIDES[side][2]}.{1 + number}"

    def agent_address(self, side: int) -> str:
        """Where the SDP of this side's agents says they are."""
        return f"{SIDES[side][2]}.{AGENT_HOST}"

    def relay_mac(self, side: int) -> str:
        """MAC address of the relay's end on this side."""
        return run(*self.in_relay("cat", f"/sys/class/net/{SIDES[side][1]}/address")).strip()

    def in_relay(self, *command: str) -> list[str]:
        """The command as it runs in the relay's namespace."""
        return ["ip", "netns", "exec", self.relay_ns, *command]

    def in_agents(self, *command: str) -> list[str]:
        """The command as it runs in the agents' namespace."""
        return ["ip", "netns", "exec", self.agents_ns, *command]

    def relay_napi_ns(self) -> int:
        """Exact CPU time of the kernel threads that receive for the relay, in nanoseconds."""
        return sum(cpu_ns(pid) for pid in self.relay_napi)

    def udp_overflows(self) -> int:
        """Datagrams that found a full socket in the relay's namespace (RcvbufErrors of UDP)."""
        lines = [line.split() for line in run(*self.in_relay("cat", "/proc/net/snmp")).splitlines()]
        names, values = (line for line in lines if line[0] == "Udp:")
        return int(values[names.index("RcvbufErrors")])

    def _build(self) -> None:
        _sweep()
        for name in (self.relay_ns, self.agents_ns):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        for agent_end, relay_end, prefix in SIDES:
            run(
                *("ip", "-n", self.relay_ns, "link", "add", relay_end, "type", "veth"),
                *("peer", "name", agent_end, "netns", self.agents_ns),
            )
            for number in range(self.addresses):
                run("ip", "-n", self.relay_ns, "addr", "add", f"{prefix}.{1 + number}/24", "dev", relay_end)
            for namespace, device in ((self.relay_ns, relay_end), (self.agents_ns, agent_end)):
                with inside(namespace):
                    _set_feature(device, ETHTOOL_STSO, 0)
                    _set_feature(device, ETHTOOL_SGSO, 0)
                    _set_feature(device, ETHTOOL_SGRO, 1)
                run("ip", "-n", namespace, "link", "set", device, "up")
            run(
                *("ip", "-n", self.relay_ns, "neigh", "replace", f"{prefix}.{AGENT_HOST}", "lladdr", AGENT_MAC),
                *("dev", relay_end, "nud", "permanent"),
            )
            self.relay_napi += self._thread_napi(self.relay_ns, relay_end, self.relay_cpu)
            self._thread_napi(self.agents_ns, agent_end, self.load_cpu)
            self._poll_by_timer(agent_end)

    def _poll_by_timer(self, agent_end: str) -> None:
        """Let the sink look for packets by itself, so that the relay need not wake it."""
        for name, value in (("gro_flush_timeout", SINK_POLL_NS), ("napi_defer_hard_irqs", SINK_IDLE_POLLS)):
            run(*self.in_agents("sh", "-c", f"echo {value} > /sys/class/net/{agent_end}/{name}"))

    def _thread_napi(self, namespace: str, device: str, cpu: int) -> list[int]:
        before = set(_napi_threads(device))
        switch = f"/sys/class/net/{device}/threaded"
        run("ip", "netns", "exec", namespace, "sh", "-c", f"echo 1 > {switch}")
        threads = [pid for pid in _napi_threads(device) if pid not in before]
        if not threads:
            raise BenchError(f"the kernel made no NAPI thread for {device}: its CPU time can't be told apart")
        for pid in threads:
            os.sched_setaffinity(pid, {cpu})
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(NAPI_PRIORITY))
        return threads


def _sweep() -> None:
    """Remove what an earlier run left that was killed."""
    for path in Path("/run/netns").glob("mpbench-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            run("ip", "netns", "del", path.name)


def _napi_threads(device: str) -> list[int]:
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().startswith(f"napi/{device}-"):
                found.append(int(comm.parent.name))
        except OSError:
            continue  # ended meanwhile
    return found
