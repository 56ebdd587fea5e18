"""One host with a daemon, and phones all around it: over two cables, behind one bridge, on the host itself.

::

    left  eth0 ---- p0 [       ] p1 ---- eth0  right
    hub-a eth0 ---\\     [ relay ]
                  br0 -- p2    ]
    hub-b eth0 ---/     [  lo   ] the host's own phones
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.kernel.matrix.backends import Backend
from tests.support.clsact_daemon import clsact_command
from tests.support.devices import pass_by_xdp, set_tx_checksum
from tests.support.media_proxy import MediaProxyProcess, proxy_command
from tests.support.netlab import Namespace, NetLab
from tests.support.processes import wait_until

PROXY_TOS: Final = 184
"""What the daemons are told to send with (Expedited Forwarding)."""
_MOVED: Final = 20
_STRANGER: Final = 66
"""Added to the last part of a phone's addresses."""
_calls: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Side:
    """Where a phone stands, and what the proxy has on that side.

    Attributes:
        interface: the proxy's name for it.
        host: role of the namespace.
        number: part of all addresses: 10.NUMBER.0.1 is the proxy's.
        phone: the last part of the phone's addresses.
    """

    interface: str
    host: str
    number: int
    phone: int = 2

    @property
    def is_local(self) -> bool:
        """Whether the phone is on the proxy's own host."""
        return self.host == "relay"

    def address(self, family: int, last: int | None = None) -> str:
        """An address on this side; the phone's unless another last part is asked for."""
        last = self.phone if last is None else last
        return f"10.{self.number}.0.{last}" if family == 4 else f"fd{self.number:02}::{last}"

    def moved(self, family: int = 4) -> str:
        """Where the phone may move to."""
        return self.address(family, _MOVED + self.phone)

    def stranger(self, family: int = 4) -> str:
        """Somebody else on the phone's host."""
        return self.address(family, _STRANGER + self.phone)


LEFT: Final = Side("left", "left", 1)
RIGHT: Final = Side("right", "right", 2)
HUB_A: Final = Side("hub", "huba", 3, 2)
HUB_B: Final = Side("hub", "hubb", 3, 3)
HOST_A: Final = Side("host", "relay", 9, 2)
HOST_B: Final = Side("host", "relay", 9, 3)
VIP: Final = Side("vip", "left", 50)
MACVLAN: Final = Side("macvlan", "left", 51)
TUN: Final = Side("tun", "left", 52, 7)
LATE: Final = Side("late", "late", 53)
VLAN: Final = Side("vlan", "left", 54)
DUMMY: Final = Side("dummy", "left", 55)
"""Not in every test: whoever wants one of these devices makes it; but for VIP, an address on lo that is routed here."""
_INTERFACES: Final = (LEFT, RIGHT, HUB_A, HOST_A, VIP, MACVLAN, TUN, LATE, VLAN, DUMMY)
TOPOLOGIES: Final = {
    "two interfaces": (LEFT, RIGHT),
    "one interface": (HUB_A, HUB_B),
    "both on the host": (HOST_A, HOST_B),
    "one on the host": (LEFT, HOST_B),
}


class Bed:
    """The networks and the daemon of one backend.

    Args:
        lab: entered.
    """

    def __init__(self, lab: NetLab, backend: Backend) -> None:
        self.lab = lab
        self.backend = backend
        self.relay = lab.namespace("relay")
        self.hosts = {"relay": self.relay} | {role: lab.namespace(role) for role in ("left", "right", "huba", "hubb")}
        lab.cable(self.hosts["left"], "eth0", self.relay, "p0")
        lab.cable(self.hosts["right"], "eth0", self.relay, "p1")
        self._build_hub()
        for side, device in ((LEFT, "p0"), (RIGHT, "p1"), (HUB_A, "p2"), (HOST_A, "lo")):
            self.give_addresses(self.relay, device, side, 1)
        for side in (LEFT, RIGHT, HUB_A, HUB_B):
            self.give_addresses(
                self.hosts[side.host], "eth0", side, side.phone, side.phone + _MOVED, side.phone + _STRANGER
            )
        for side in (HOST_A, HOST_B):
            self.give_addresses(self.relay, "lo", side, side.phone, side.phone + _MOVED, side.phone + _STRANGER)
        self.route_by_left(VIP, "lo")
        if backend.forwards:
            self.relay.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1, ipv4__conf__all__send_redirects=0)
        if backend.conntrack:
            self.relay.sysctl(netfilter__nf_conntrack_acct=1)
        self.prepare_cable(self.hosts["left"], "eth0", ("left",))
        self.prepare_cable(self.hosts["right"], "eth0", ("right",))
        self.prepare_cable(lab["hub"], "torelay", ("huba", "hubb"))
        self.daemon = self.start()

    def _build_hub(self) -> None:
        hub = self.lab.namespace("hub")
        hub.ip("link", "add", "br0", "type", "bridge")
        hub.ip("link", "set", "br0", "up")
        for role, device in (("huba", "eth0"), ("hubb", "eth0"), ("relay", "p2")):
            self.lab.cable(self.hosts[role], device, hub, f"to{role}")
            hub.ip("link", "set", f"to{role}", "master", "br0")

    def prepare_cable(self, host: Namespace, device: str, phones: Sequence[str]) -> None:
        """For XDP: a cable's other end must take redirected frames, and a checksum left to a device gets lost.

        Args:
            phones: roles of the hosts behind it.
        """
        if self.backend.is_xdp:
            program = pass_by_xdp(host, device)
            self.lab.on_exit(lambda: os.close(program))
            for role in phones:
                set_tx_checksum(self.hosts[role], "eth0", on=False)

    def give_addresses(self, namespace: Namespace, device: str, side: Side, *lasts: int) -> None:
        """Give a device addresses of a side, of both families."""
        for last in lasts:
            ip4, ip6 = ("/32", "/128") if device == "lo" else ("/24", "/64")
            self.lab.address(namespace, device, side.address(4, last) + ip4, side.address(6, last) + ip6)

    def route_by_left(self, side: Side, device: str) -> None:
        """Put a side's relay addresses on a device without a cable; its phone is reached over the one to the left."""
        self.give_addresses(self.relay, device, side, 1)
        self.give_addresses(self.hosts["left"], "lo", side, side.phone)
        for family in (4, 6):
            option = f"-{family}"
            self.hosts["left"].ip(option, "route", "add", side.address(family, 1), "via", LEFT.address(family, 1))
            self.relay.ip(option, "route", "replace", side.address(family), "via", LEFT.address(family))

    def start(self, *options: str, **places: Any) -> MediaProxyProcess:
        """Start a daemon with the backend.

        Args:
            places: what sets a second one apart (see ``MediaProxyProcess``).
        """
        interfaces = [f"{side.interface}/{side.address(family, 1)}" for side in _INTERFACES for family in (4, 6)]
        return MediaProxyProcess(
            self.lab,
            self.relay,
            interfaces,
            [f"--tos={PROXY_TOS}", *self.backend.options, *options],
            self.backend.kernel_path,
            program=self._program(),
            **places,
        )

    def _program(self) -> Sequence[str]:
        if self.backend.clsact:
            return clsact_command(self.lab.folder)
        if self.backend.conntrack:
            # Whoever uses iptables on this machine meanwhile holds the same lock, though not the same tables.
            lock = self.lab.folder / "xtables.lock"
            lock.touch()
            script = f'touch /run/xtables.lock && mount --bind {lock} /run/xtables.lock && exec "$@"'
            return ["unshare", "--mount", "sh", "-c", script, "sh", *proxy_command()]
        return ()

    def new_call_id(self) -> str:
        """One that no other call of this run has."""
        return f"matrix-{self.backend}-{next(_calls)}"

    def wait_watched(self, device: str) -> None:
        """Wait until the daemon has taken notice of a device that was made while it runs."""

        def is_watched() -> bool:
            if self.backend.kernel_path == "nft":
                return f'"{device}"' in self.relay.run("nft", "list", "ruleset")
            return re.search(f"\\b{device}: .* attached", self.daemon.process.log()) is not None

        if self.backend.is_kernel and not self.backend.conntrack:
            wait_until(is_watched, 3.0, f"{device} is watched")

    def left_in_kernel(self) -> str:
        """All that a daemon may have left behind on the proxy's host."""
        relay = self.relay
        devices = ("p0", "p1", "p2", "lo")
        found = [relay.run("tc", "filter", "show", "dev", device, "ingress") for device in devices]
        found += [line for line in relay.ip("-details", "link").splitlines() if "prog/xdp" in line]
        tables = (
            relay.run("nft", "list", "ruleset"),
            relay.run("iptables-legacy-save"),
            relay.run("ip6tables-legacy-save"),
        )
        found += [line for table in tables for line in table.splitlines() if "mediaproxy" in line.lower()]
        return "\n".join(filter(None, found))


@contextmanager
def bed_of(backend: Backend) -> Iterator[Bed]:
    """A bed, and at the end the certainty that the daemon stopped in order and left nothing in the kernel."""
    with NetLab("matrix") as lab:
        bed = Bed(lab, backend)
        assert bool(bed.left_in_kernel()) is (backend.is_kernel and not backend.has_link)
        yield bed
        bed.daemon.process.stop()
        assert bed.daemon.process.returncode == 0
        assert bed.left_in_kernel() == ""
