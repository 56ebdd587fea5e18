"""Fence, way out and backend in their order, and what becomes of flows when the network changes."""

from __future__ import annotations

from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, ENOSPC, EOPNOTSUPP, EPERM, EXDEV

import pytest

from mediaproxy.backends.flow_records import (
    CHANGE,
    RESULT,
    RESULT_OFFSET,
    SET,
    FlowRecord,
    pack_changes,
    pack_record,
    unpack_changes,
)
from mediaproxy.backends.kernel_backend import Link
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.datapath.flow import InstalledFlow
from mediaproxy.net import Endpoint
from mediaproxy.privileged.fence import Fence
from mediaproxy.privileged.installer import Installer, describe_refused
from mediaproxy.privileged.links import HostLinks
from mediaproxy.privileged.routes import Routes, WayOut
from tests.support.fake_backend import RELAY4, RELAYS, SLOTS, FakeBackend, a_flow

ETH0 = Link(2, "eth0", 1500)
LO = Link(1, "lo", 65536, loopback=True)


class Network:
    """Ways out by target; all others leave by eth0."""

    def __init__(self) -> None:
        self.ways: dict[str, WayOut] = {}

    def look_up(self, sender: str, target: str) -> WayOut:
        return self.ways.get(target, WayOut(ifindex=2, mtu=1500))


class Bed:
    def __init__(self, backend: FakeBackend | None = None) -> None:
        self.backend = backend or FakeBackend()
        self.network = Network()
        self.fence = Fence(RELAYS, self.backend.capabilities, SLOTS)
        self.installer = Installer(self.backend, self.fence, Routes(self.network.look_up))

    def set(self, *flows: InstalledFlow) -> list[int]:
        return self.installer.apply(bytes(pack_changes(flows, [])))

    def remove(self, *flows: InstalledFlow) -> list[int]:
        return self.installer.apply(bytes(pack_changes([], flows)))

    def reroute_all(self) -> int:
        changed = 0
        while self.installer.has_stale:
            changed += self.installer.reroute(2)
        return changed

    @property
    def ports(self) -> list[int]:
        return sorted(endpoint.port for endpoint in self.backend.installed)


@pytest.fixture
def bed() -> Bed:
    bed = Bed()
    bed.installer.network_changed(HostLinks((LO, ETH0), ((pack_address(RELAY4), 2),)))
    return bed


def test_flow_is_installed_with_its_way_out(bed: Bed) -> None:
    assert bed.set(a_flow()) == [0]
    (record,) = bed.backend.installed.values()
    assert (record.installed, record.ifindex, record.mtu, record.local_peer) == (a_flow(), 2, 1500, False)
    assert len(bed.installer) == 1


def test_removed_flow_is_gone(bed: Bed) -> None:
    bed.set(a_flow(), a_flow(30002))
    assert bed.remove(a_flow()) == [0]
    assert bed.ports == [30002]
    assert len(bed.installer) == 1


def test_padding_never_reaches_the_backend(bed: Bed) -> None:
    record = bytearray(pack_record(FlowRecord(SET, a_flow())))
    record[18:20] = b"\xaa\xbb"  # of the key
    seen: list[bytes] = []
    apply = bed.backend.apply
    bed.backend.apply = lambda records: (seen.append(bytes(records)), apply(records))[1]  # type: ignore[method-assign]
    assert bed.installer.apply(bytes(record)) == [0]
    assert seen[0][18:20] == bytes(2)


def test_each_record_of_a_frame_has_its_own_result(bed: Bed) -> None:
    bed.backend.refusals[Endpoint(RELAY4, 30004)] = -ENOSPC
    outcome = bed.set(a_flow(local="9.9.9.9"), a_flow(30002), a_flow(30004), a_flow(30006, generation=0))
    assert outcome == [-EPERM, 0, -ENOSPC, -EINVAL]
    assert bed.ports == [30002]
    assert len(bed.installer) == 1
    assert bed.installer.take_refused() == {EPERM: 1, EINVAL: 1}
    assert not bed.installer.take_refused()


@pytest.mark.parametrize(
    ("way", "result"),
    [
        (WayOut(errno=ENETUNREACH), -ENETUNREACH),
        (WayOut(errno=EHOSTUNREACH), -EHOSTUNREACH),
        (WayOut(errno=EACCES), -EACCES),
        (WayOut(errno=EINVAL), -ENETUNREACH),
    ],
)
def test_target_without_a_way_out_is_refused(bed: Bed, way: WayOut, result: int) -> None:
    bed.network.ways["198.51.100.2"] = way
    assert bed.set(a_flow()) == [result]
    assert bed.ports == []
    assert not bed.installer.take_refused()


def test_target_on_this_host_needs_a_source_on_this_host(bed: Bed) -> None:
    bed.network.ways["192.0.2.9"] = WayOut(local=True)
    target = Endpoint("192.0.2.9", 6000)
    assert bed.set(a_flow(target=target)) == [-EXDEV]
    assert bed.set(a_flow(target=target, source=Endpoint("192.0.2.9", 5000))) == [0]
    (record,) = bed.backend.installed.values()
    assert (record.local_peer, record.ifindex) == (True, 0)


def test_target_that_is_a_relay_endpoint_is_refused(bed: Bed) -> None:
    assert bed.set(a_flow(target=Endpoint(RELAY4, 30500))) == [-EXDEV]


def test_relay_address_on_a_device_that_is_down_or_not_watched_is_refused(bed: Bed) -> None:
    home = ((pack_address(RELAY4), 2),)
    bed.installer.network_changed(HostLinks((LO,), home))
    assert bed.set(a_flow()) == [-ENODEV]
    bed.installer.network_changed(HostLinks((LO, ETH0), home), unattached=[2])
    assert bed.set(a_flow()) == [-ENODEV]
    bed.installer.network_changed(HostLinks((LO, ETH0), ()))
    assert bed.set(a_flow()) == [0]  # nobody's address, as far as netlink knows: ip_nonlocal_bind


def test_refused_replacement_takes_the_old_flow_away(bed: Bed) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.9"] = WayOut(errno=ENETUNREACH)
    assert bed.set(a_flow(target=Endpoint("198.51.100.9", 6000), generation=2)) == [-ENETUNREACH]
    assert bed.ports == []
    assert len(bed.installer) == 0


def test_refused_replacement_within_one_frame_takes_the_first_away(bed: Bed) -> None:
    assert bed.set(a_flow(), a_flow(target=Endpoint("224.0.0.1", 6000))) == [0, -EINVAL]
    assert bed.ports == []
    assert len(bed.installer) == 0


def test_second_set_of_a_key_in_one_frame_stands_for_itself(bed: Bed) -> None:
    def refuse_generation_1(records: bytearray) -> None:
        for number, record in enumerate(unpack_changes(records)):
            bad = record.installed.slot.generation == 1
            RESULT.pack_into(records, number * CHANGE.size + RESULT_OFFSET, -ENOSPC if bad else 0)

    bed.backend.apply = refuse_generation_1  # type: ignore[method-assign]
    assert bed.set(a_flow(), a_flow(generation=2)) == [-ENOSPC, 0]
    assert len(bed.installer) == 1
    assert bed.set(a_flow(generation=3), a_flow(generation=1)) == [0, -ENOSPC]
    assert len(bed.installer) == 0


def test_removal_of_an_earlier_flow_leaves_the_books_alone(bed: Bed) -> None:
    bed.set(a_flow(generation=2))
    assert bed.remove(a_flow(generation=1)) == [0]
    assert len(bed.installer) == 1


def test_changed_route_moves_the_flow(bed: Bed) -> None:
    bed.set(a_flow(), a_flow(30002, target=Endpoint("198.51.100.9", 6000)))
    bed.network.ways["198.51.100.9"] = WayOut(ifindex=7, mtu=1400)
    bed.installer.routes_changed()
    assert bed.reroute_all() == 1
    assert {endpoint.port: record.ifindex for endpoint, record in bed.backend.installed.items()} == {30000: 2, 30002: 7}
    bed.installer.routes_changed()
    assert bed.reroute_all() == 0


def test_lost_route_hands_the_flow_to_the_sockets_until_it_is_back(bed: Bed) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.2"] = WayOut(errno=ENETUNREACH)
    bed.installer.routes_changed()
    assert bed.reroute_all() == 1
    assert bed.ports == []
    del bed.network.ways["198.51.100.2"]
    bed.installer.routes_changed()
    assert bed.reroute_all() == 1
    assert bed.ports == [30000]


def taken_out(bed: Bed) -> list[tuple[InstalledFlow, int]]:
    records = bed.installer.taken_out(100)
    return [(record.installed, record.result) for record in unpack_changes(b"".join(records))]


def test_flow_that_was_taken_out_is_named_until_the_daemon_was_told(bed: Bed) -> None:
    bed.set(a_flow(), a_flow(30002, target=Endpoint("198.51.100.9", 7)))
    bed.network.ways["198.51.100.2"] = WayOut(errno=ENETUNREACH)
    bed.installer.routes_changed()
    bed.reroute_all()
    assert taken_out(bed) == [(a_flow(), -ENETUNREACH)]
    bed.installer.routes_changed()
    bed.reroute_all()
    assert len(bed.installer.taken_out(100)) == 1
    bed.installer.taken_out_told(bed.installer.taken_out(100))
    assert taken_out(bed) == []


def test_flow_whose_new_way_the_backend_refuses_is_taken_out(bed: Bed) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.2"] = WayOut(ifindex=7, mtu=1500)
    bed.backend.refusals[Endpoint(RELAY4, 30000)] = -EOPNOTSUPP
    bed.installer.routes_changed()
    bed.reroute_all()
    assert taken_out(bed) == [(a_flow(), -EOPNOTSUPP)]


def test_flow_that_cannot_be_taken_out_is_not_called_so(bed: Bed) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.2"] = WayOut(errno=ENETUNREACH)
    bed.backend.refusals[Endpoint(RELAY4, 30000)] = -ENOSPC
    bed.installer.routes_changed()
    bed.reroute_all()
    assert taken_out(bed) == []


@pytest.mark.parametrize("change", ["put back", "removed", "set anew"])
def test_nobody_is_told_of_a_flow_that_has_changed_since_it_was_taken_out(bed: Bed, change: str) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.2"] = WayOut(errno=ENETUNREACH)
    bed.installer.routes_changed()
    bed.reroute_all()
    if change == "put back":
        bed.network.ways.clear()
        bed.installer.routes_changed()
        bed.reroute_all()
    elif change == "removed":
        bed.remove(a_flow())
    else:
        bed.set(a_flow(target=Endpoint("198.51.100.9", 7)))
    assert taken_out(bed) == []


def test_way_of_a_flow_that_the_daemon_has_removed_is_seen_to_be_back(bed: Bed) -> None:
    bed.set(a_flow())
    bed.network.ways["198.51.100.2"] = WayOut(errno=ENETUNREACH)
    bed.installer.routes_changed()
    bed.reroute_all()
    bed.remove(a_flow())
    bed.installer.routes_changed()
    bed.reroute_all()
    assert not bed.installer.has_ways_back
    bed.network.ways.clear()
    bed.installer.routes_changed()
    assert bed.reroute_all() == 0
    assert bed.installer.has_ways_back
    assert bed.ports == []


def test_way_of_a_flow_that_was_refused_is_seen_to_be_back(bed: Bed) -> None:
    bed.network.ways["198.51.100.2"] = WayOut(errno=EHOSTUNREACH)
    assert bed.set(a_flow()) == [-EHOSTUNREACH]
    bed.network.ways.clear()
    bed.installer.routes_changed()
    bed.reroute_all()
    assert bed.installer.has_ways_back


def test_flow_removed_while_ways_out_are_looked_at_stays_removed(bed: Bed) -> None:
    bed.set(a_flow())
    bed.installer.routes_changed()
    bed.remove(a_flow())
    assert bed.reroute_all() == 0
    assert bed.ports == []


def test_flows_of_a_daemon_that_died_are_taken_over() -> None:
    backend = FakeBackend()
    backend.installed[Endpoint("203.0.113.1", 77)] = FlowRecord(SET, a_flow(77, local="203.0.113.1"))
    bed = Bed(backend)
    assert len(bed.installer) == 1
    assert bed.remove(a_flow(77, local="203.0.113.1")) == [0]  # though that is no relay address any more
    assert bed.ports == []
    assert bed.remove(a_flow(77, local="203.0.113.1")) == [-EPERM]


def test_lost_kernel_path_empties_the_books(bed: Bed) -> None:
    bed.set(a_flow())
    bed.installer.forget_all()
    assert len(bed.installer) == 0


def test_frame_of_nothing_but_refusals_asks_the_backend_for_nothing(bed: Bed) -> None:
    bed.set(a_flow(local="9.9.9.9"))
    assert "apply" not in bed.backend.steps


def test_refusals_are_described_for_people() -> None:
    assert describe_refused([(EPERM, 2), (EINVAL, 1)]) == "2 not between relay endpoints, 1 no flow can be like that"


def test_records_keep_their_size() -> None:
    assert len(pack_record(FlowRecord(SET, a_flow()))) == CHANGE.size
