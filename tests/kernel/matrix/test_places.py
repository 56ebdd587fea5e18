"""Other devices than an Ethernet card: addresses on lo, macvlan, tun, cables plugged in later, and a second daemon."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from mediaproxy.datapath.flow import FlowReason
from mediaproxy.net import Endpoint
from tests.kernel.matrix.bed import DUMMY, LATE, LEFT, MACVLAN, RIGHT, TUN, VIP, VLAN, Bed
from tests.kernel.matrix.call import Call
from tests.kernel.matrix.phone import HOPS, PATIENCE, TOS, Arrival
from tests.support.datagrams import datagrams_delivered
from tests.support.netlab import Namespace, NetLabError
from tests.support.processes import wait_until

SECOND_NG = 2224
TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TUN = 1
IFF_NO_PI = 0x1000
FAMILIES = pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])


@FAMILIES
def test_address_on_lo_that_is_routed_here_is_a_relay_address(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (VIP, RIGHT), families) as call:
        assert call.a.relay.address == VIP.address(families[0], 1)
        call.settle()
        call.carried_by()


@pytest.fixture(scope="module")
def macvlan(bed: Bed) -> None:
    """A device with an Ethernet address of its own upon a cable."""
    bed.relay.ip("link", "add", "mv0", "link", "p0", "type", "macvlan", "mode", "bridge")
    bed.relay.ip("link", "set", "mv0", "up")
    bed.give_addresses(bed.relay, "mv0", MACVLAN, 1)
    bed.give_addresses(bed.hosts["left"], "eth0", MACVLAN, MACVLAN.phone)
    bed.wait_watched("mv0")


@pytest.mark.usefixtures("macvlan")
@FAMILIES
def test_macvlan_is_a_device_like_others(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (MACVLAN, RIGHT), families) as call:
        if not bed.backend.is_xdp:
            call.settle()
            call.carried_by()
            return
        # Towards the macvlan: XDP cannot send by it. From there a native program on the cable has seen it before.
        call.settle({"B": FlowReason.REFUSED})
        call.exchange(20)
        call.check_counters()


@pytest.fixture(scope="module")
def late_cable(bed: Bed) -> None:
    """A host that is connected while the daemon runs."""
    late = bed.hosts["late"] = bed.lab.namespace("late")
    bed.lab.cable(late, "eth0", bed.relay, "p9")
    bed.give_addresses(bed.relay, "p9", LATE, 1)
    bed.give_addresses(late, "eth0", LATE, LATE.phone)
    bed.prepare_cable(late, "eth0", ("late",))
    bed.wait_watched("p9")


@pytest.mark.usefixtures("late_cable")
@FAMILIES
def test_device_that_appears_later_is_watched_too(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (LATE, RIGHT), families) as call:
        call.settle()
        call.carried_by()


class TunPhone:
    """A phone behind a tun device: what it sends is written to the device, what it gets is read from there."""

    def __init__(self, relay: Namespace) -> None:
        self.endpoint = Endpoint(TUN.address(4), 20002)
        self._serial = 0

        def make() -> int:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
            return device

        self.device = relay.call(make)

    def at(self, family: int) -> Endpoint:
        """Where it is."""
        return Endpoint(TUN.address(family), self.endpoint.port)

    def send(self, data: bytes, target: Endpoint) -> None:
        """Send one datagram."""
        datagram = UDP(sport=self.endpoint.port, dport=target.port) / Raw(data)
        if ":" in target.address:
            packet: Packet = IPv6(src=TUN.address(6), dst=target.address, tc=TOS, hlim=HOPS) / datagram
        else:
            packet = IP(src=TUN.address(4), dst=target.address, tos=TOS, ttl=HOPS) / datagram
        os.write(self.device, bytes(packet))

    def expect(self, count: int, patience: float = PATIENCE) -> list[Arrival]:
        """The next datagrams, fewer if time is up."""
        arrivals: list[Arrival] = []
        deadline = time.monotonic() + patience
        while len(arrivals) < count:
            ready, _, _ = select.select([self.device], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            data = os.read(self.device, 2048)
            packet = IP(data) if data[0] >> 4 == 4 else IPv6(data)
            if UDP in packet:
                udp = packet[UDP]
                tos, hops = (packet.tos, packet.ttl) if isinstance(packet, IP) else (packet.tc, packet.hlim)
                arrivals.append(Arrival(bytes(udp.payload), Endpoint(packet.src, udp.sport), tos, hops))
        return arrivals

    def take(self) -> list[Arrival]:
        """None that would not have been expected."""
        return []

    def close(self) -> None:
        """The device stays for the next call."""


@pytest.fixture(scope="module")
def tun_phone(bed: Bed) -> Iterator[TunPhone]:
    """The phone, and the device with the relay's addresses."""
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("this kernel has no tun devices")
    phone = TunPhone(bed.relay)
    bed.relay.ip("link", "set", "tun0", "up")
    bed.give_addresses(bed.relay, "tun0", TUN, 1)
    bed.give_addresses(bed.hosts["left"], "lo", TUN, TUN.phone)  # where its RTCP half is
    if bed.backend.is_xdp:
        # It takes no program; the daemon says so when it has looked.
        wait_until(lambda: "tun0:" in bed.daemon.process.log(), 5.0, "a note about tun0")
    else:
        bed.wait_watched("tun0")
    yield phone
    os.close(phone.device)


@FAMILIES
def test_tun_device_has_no_ethernet_header_and_is_watched(
    bed: Bed, tun_phone: TunPhone, families: tuple[int, int]
) -> None:
    with Call(bed, (TUN, RIGHT), families, said=(tun_phone.at(families[0]), None)) as call:
        call.a.phone.rtp.close()
        call.a.phone.rtp = tun_phone
        reasons = {party.tag: call.expected_reason(party) for party in call.parties}
        if bed.backend.is_xdp:
            reasons = {"A": FlowReason.NOT_ATTACHED, "B": FlowReason.REFUSED}
        call.settle(reasons)
        before = datagrams_delivered(bed.relay)
        call.exchange(20)
        by_socket = sum(reason is not None for reason in reasons.values())
        assert datagrams_delivered(bed.relay) - before == 20 * by_socket
        call.check_counters()


def test_second_instance_on_the_host_neither_disturbs_nor_is_disturbed(bed: Bed) -> None:
    daemon = bed.start("--source-lock=rtpengine", name="-b", ng_port=SECOND_NG, ports=(40000, 40001))
    try:
        with Call(bed, (LEFT, RIGHT)) as ours:
            ours.settle()
            with Call(bed, (LEFT, RIGHT), ng=daemon.ng) as theirs:
                assert theirs.a.relay.port == 40000
                reason = theirs.expected_reason(theirs.a)
                if not bed.backend.shares_devices:
                    reason = FlowReason.NOT_ATTACHED
                theirs.settle({"A": reason, "B": reason})
                before = datagrams_delivered(bed.relay)
                theirs.exchange(10)
                assert datagrams_delivered(bed.relay) - before == (0 if reason is None else 20)
                theirs.check_counters()
                ours.carried_by()
            wait_until(lambda: daemon.ng.calls() == [], 3.0, "their call is gone")
            ours.carried_by()
            daemon.process.stop()
            ours.carried_by()
        with Call(bed, (LEFT, RIGHT)) as later:
            later.settle()
            later.carried_by()
    finally:
        daemon.process.stop()


def test_port_that_is_had_again_forwards_nothing_of_the_call_before(bed: Bed) -> None:
    daemon = bed.start("--source-lock=rtpengine", name="-c", ng_port=SECOND_NG, ports=(40000, 40001))
    try:
        for _ in range(5):
            with Call(bed, (LEFT, RIGHT), ng=daemon.ng) as call:
                assert (call.a.relay.port, call.b.relay.port) == (40000, 40000)
                reason = call.expected_reason(call.a) if bed.backend.shares_devices else FlowReason.NOT_ATTACHED
                call.settle({"A": reason, "B": reason})
                call.check_counters()
                call.delete()
                call.a.speak(10)
                with Call(bed, (LEFT, RIGHT), ng=daemon.ng, media=call.media) as after:
                    call.a.speak(10)
                    assert call.b.phone.rtp.take() == []
                    assert after.a.relay == call.a.relay
    finally:
        daemon.process.stop()


def _make_vlan(bed: Bed) -> None:
    for host, device in ((bed.relay, "p0"), (bed.hosts["left"], "eth0")):
        host.ip("link", "add", "link", device, "name", "vlan5", "type", "vlan", "id", "5")
        host.ip("link", "set", "vlan5", "up")
    bed.give_addresses(bed.relay, "vlan5", VLAN, 1)
    bed.give_addresses(bed.hosts["left"], "vlan5", VLAN, VLAN.phone)


def test_vlan_is_a_device_like_others(bed: Bed) -> None:
    try:
        _make_vlan(bed)
    except NetLabError as error:
        pytest.skip(f"no VLAN devices here: {error}")
    with Call(bed, (VLAN, RIGHT)) as call:
        call.settle()
        call.carried_by()


def test_address_on_a_dummy_device_is_a_relay_address(bed: Bed) -> None:
    try:
        bed.relay.ip("link", "add", "dummy9", "type", "dummy")
    except NetLabError as error:
        pytest.skip(f"no dummy devices here: {error}")
    bed.relay.ip("link", "set", "dummy9", "up")
    bed.route_by_left(DUMMY, "dummy9")
    with Call(bed, (DUMMY, RIGHT)) as call:
        call.settle()
        call.carried_by()


def test_loss_on_the_way_is_counted(bed: Bed) -> None:
    try:
        bed.hosts["left"].run("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "loss", "20%")
    except NetLabError as error:
        pytest.skip(f"no netem here: {error}")
    try:
        with Call(bed, (LEFT, RIGHT)) as call:
            wait_until(lambda: call.a.speak() and call.has_path(call.a, call.expected_reason(call.a)), 5.0, "a path")
    finally:
        bed.hosts["left"].run("tc", "qdisc", "del", "dev", "eth0", "root")
