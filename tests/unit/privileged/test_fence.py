"""The fence lets through what lies between relay endpoints, and nothing else whatever the bytes are."""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP, EPERM

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.backends.flow_records import CHANGE, LOCAL, REMOVE, SET, FlowRecord, pack_record
from mediaproxy.backends.packed_address import pack_address
from mediaproxy.datapath.flow import Capabilities, InstalledFlow
from mediaproxy.net import Endpoint
from mediaproxy.privileged.fence import Fence, is_host
from tests.support.fake_backend import RELAY4, RELAY6, RELAYS, SLOTS, a_flow

ALL_CAPABILITIES = Capabilities(True, True, True, True, True, True)
OUTSIDE6 = Endpoint("2001:db8::7", 6000)


def judge(
    flow: InstalledFlow,
    capabilities: Capabilities = ALL_CAPABILITIES,
    operation: int = SET,
    is_known: bool = False,
    **more: int,
) -> int:
    record = pack_record(FlowRecord(operation, flow, **more))  # type: ignore[arg-type]  # of FlowRecord
    return Fence(RELAYS, capabilities, SLOTS).judge(record, is_known)


def test_flow_between_relay_endpoints_passes() -> None:
    assert judge(a_flow()) == 0
    assert judge(a_flow(tap=True, opaque=True, drop=True, tos=255, clock_rates=((0, 8000), (127, 1)))) == 0
    assert judge(a_flow(source=None, strict=False)) == 0
    assert judge(a_flow(slot=SLOTS - 1, generation=2**32 - 1)) == 0
    six = a_flow(local=RELAY6, source=OUTSIDE6, sender=Endpoint(RELAY6, 30002), target=OUTSIDE6)
    assert judge(six) == 0


@pytest.mark.parametrize(
    "flow",
    [
        a_flow(local="192.0.2.2"),
        a_flow(port=29999, sender=Endpoint(RELAY4, 30000)),
        a_flow(port=31000, sender=Endpoint(RELAY4, 30000)),
        a_flow(sender=Endpoint("192.0.2.2", 30000)),
        a_flow(sender=Endpoint(RELAY4, 22)),
        a_flow(sender=Endpoint(RELAY4, 0)),
    ],
)
def test_foreign_relay_endpoint_is_not_permitted(flow: InstalledFlow) -> None:
    assert judge(flow) == -EPERM


@pytest.mark.parametrize(
    "flow",
    [
        *(a_flow(target=Endpoint(address, 6000)) for address in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "0.1.2.3")),
        *(a_flow(target=Endpoint(address, 6000)) for address in ("::", "ff02::1", "fe80::1", "240.0.0.1")),
        a_flow(target=Endpoint("198.51.100.2", 0)),
        a_flow(target=OUTSIDE6),
        a_flow(source=OUTSIDE6),
        a_flow(source=Endpoint("239.0.0.1", 5000)),
        a_flow(source=None, strict=True),
        a_flow(slot=SLOTS),
        a_flow(generation=0),
        a_flow(clock_rates=((128, 8000),)),
    ],
)
def test_flow_that_cannot_be_is_refused(flow: InstalledFlow) -> None:
    assert judge(flow) == -EINVAL


def test_way_out_is_not_the_daemons_to_choose() -> None:
    assert judge(a_flow(), ifindex=1) == -EINVAL
    assert judge(a_flow(), mtu=1500) == -EINVAL
    assert judge(a_flow(), local_peer=True) == -EINVAL
    assert judge(a_flow(), result=1) == -EINVAL
    assert judge(a_flow(), operation=3) == -EINVAL
    assert judge(a_flow(), operation=0) == -EINVAL


def test_unknown_flag_and_too_many_clock_rates_are_refused() -> None:
    fields = list(CHANGE.unpack(pack_record(FlowRecord(SET, a_flow()))))
    fence = Fence(RELAYS, ALL_CAPABILITIES, SLOTS)
    for index, value in ((14, LOCAL << 1), (14, 0x8000), (16, 9), (3, 1)):
        changed = [*fields[:index], value, *fields[index + 1 :]]
        assert fence.judge(CHANGE.pack(*changed), False) == -EINVAL
    anybody = [*fields[:4], pack_address("1.2.3.4"), 0, *fields[6:]]  # an address, but no port
    assert fence.judge(CHANGE.pack(*anybody), False) == -EINVAL


@pytest.mark.parametrize(
    "flow",
    [
        a_flow(source=None, strict=False),
        a_flow(tap=True),
        a_flow(opaque=True),
        a_flow(sender=Endpoint(RELAY6, 30002), target=OUTSIDE6),
    ],
)
def test_flow_beyond_the_backend_is_refused(flow: InstalledFlow) -> None:
    assert judge(flow) == 0
    assert judge(flow, Capabilities()) == -EOPNOTSUPP


def test_removal_needs_our_endpoint_or_a_flow_that_is_there() -> None:
    assert judge(a_flow(), operation=REMOVE) == 0
    foreign = a_flow(local="192.0.2.2")
    assert judge(foreign, operation=REMOVE) == -EPERM
    assert judge(foreign, operation=REMOVE, is_known=True) == 0


@given(st.binary(min_size=CHANGE.size, max_size=CHANGE.size))
def test_any_record_is_judged(record: bytes) -> None:
    assert Fence(RELAYS, ALL_CAPABILITIES, SLOTS).judge(record, False) in {-EPERM, -EINVAL, -EOPNOTSUPP}


@given(st.data())
def test_whatever_passes_lies_between_relay_endpoints(data: st.DataObject) -> None:
    """Mutations of a good record, which get further than noise."""
    record = bytearray(pack_record(FlowRecord(SET, a_flow())))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    fence = Fence(RELAYS, ALL_CAPABILITIES, SLOTS)
    if fence.judge(bytes(record), False) == 0:
        fields = CHANGE.unpack(bytes(record))
        assert fence.is_ours(fields[0], fields[1])
        if fields[2] == SET:
            assert fence.is_ours(fields[6], fields[7])
            assert is_host(fields[8])
            assert fields[9] != 0
            assert fields[10] < SLOTS
            assert fields[14] & LOCAL == 0


def test_address_of_the_fence_is_known_whatever_the_port() -> None:
    fence = Fence(RELAYS, ALL_CAPABILITIES, SLOTS)
    assert fence.is_ours(pack_address(RELAY4), 30999)
    assert not fence.is_ours(pack_address(RELAY4), 31000)
    assert not fence.is_ours(pack_address("192.0.2.9"), 30000)
