"""Flows that a dead daemon has left: their ports are nobody else's until they end."""

from __future__ import annotations

import pytest

from mediaproxy.calls.events import EventKind
from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.engine import EngineSettings
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint
from mediaproxy.ng.bencode import encode
from tests.support.sessions import Session, media_ports

ADDRESS = "203.0.113.10"
LONG = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:1001"
NARROW = Interface("pub", ADDRESS, ADDRESS, 30000, 30007)
"""Four pairs: one call takes two of them."""
PHONE = Endpoint("192.0.2.21", 9000)


class Holder:
    def __init__(self, *orphans: InstalledFlow) -> None:
        self.orphans = orphans
        self.heard: dict[int, float] = {}
        self.removed: list[InstalledFlow] = []

    def orphan_last_seen(self, orphan: InstalledFlow) -> float | None:
        return self.heard.get(orphan.slot.index)

    def remove_orphans(self, orphans: list[InstalledFlow]) -> None:
        self.removed += orphans
        self.orphans = tuple(one for one in self.orphans if one not in orphans)


def orphan(port: int, sender: int, slot: int) -> InstalledFlow:
    return InstalledFlow(Flow(Endpoint(ADDRESS, port), PHONE, Endpoint(ADDRESS, sender), PHONE), Slot(slot, 1))


@pytest.fixture
def holder() -> Holder:
    return Holder(orphan(30002, 30004, 0), orphan(30004, 30002, 1))


@pytest.fixture
def session(holder: Holder) -> Session:
    return Session(interfaces=(NARROW,), settings=EngineSettings(timeouts=Timeouts(media=60.0)), orphans=holder)


def ports_of_a_call(session: Session) -> set[int]:
    offered, answered = session.offer(), session.answer()
    return {media_ports(offered)[0], media_ports(answered)[0]}


def test_new_call_never_gets_the_ports_of_an_orphan(session: Session) -> None:
    assert ports_of_a_call(session) == {30000, 30006}


def test_ports_of_orphans_are_bound(session: Session) -> None:
    assert sorted(one.port for one in session.relay.open) == [30002, 30003, 30004, 30005]


def test_silent_orphans_end_and_give_their_ports_back(session: Session, holder: Holder) -> None:
    holder.heard = {0: session.now + 30, 1: session.now + 30}
    session.pass_time(80)
    assert len(holder.orphans) == 2, "heard within the time-out"
    session.pass_time(15)
    assert holder.orphans == ()
    assert session.relay.open == []
    ended = [event for event in session.engine.take_events() if event.kind is EventKind.ORPHAN_ENDED]
    assert [event.facts["why"] for event in ended] == ["silent", "silent"]
    assert session.engine.next_deadline() is None
    session.offer(call_id="other")
    assert len({*ports_of_a_call(session)}) == 2


def test_pair_stays_reserved_while_one_of_its_flows_goes_on(session: Session, holder: Holder) -> None:
    holder.heard = {1: session.now + 1000}
    session.pass_time(90)
    assert [one.slot.index for one in holder.orphans] == [1]
    assert sorted(one.port for one in session.relay.open) == [30002, 30003, 30004, 30005]


def test_sweep_ends_them_at_once_and_list_says_what_they_are(session: Session, holder: Holder) -> None:
    holder.heard = {0: session.now - 5}
    listed = session.call("list flows", None)["orphans"]
    assert isinstance(listed, list)
    assert session.call("list flows", None)["total"] == 2
    assert listed[0] == {
        "local": f"{ADDRESS}:30002",
        "source": "192.0.2.21:9000",
        "sender": f"{ADDRESS}:30004",
        "target": "192.0.2.21:9000",
        "silent": 0,
    }
    assert session.call("sweep flows", None) == {"ended": 2, "result": "ok"}
    assert session.call("list flows", None)["orphans"] == []
    assert len(holder.removed) == 2
    assert session.call("sweep flows", None)["ended"] == 0


def test_orphan_port_that_somebody_has_bound_is_withheld_all_the_same(holder: Holder) -> None:
    session = Session(interfaces=(NARROW,), orphans=holder, busy={(ADDRESS, 30002)})
    assert ports_of_a_call(session) == {30000, 30006}


def test_list_of_very_many_fits_into_a_datagram() -> None:
    wide = Interface("pub", LONG, LONG, 10000, 60000)
    phone = Endpoint(LONG[:-1] + "9", 65535)
    orphans = [
        InstalledFlow(Flow(Endpoint(LONG, port), phone, Endpoint(LONG, port + 2), phone), Slot(port, 1))
        for port in range(10000, 14000, 2)
    ]
    session = Session(interfaces=(wide,), orphans=Holder(*orphans))
    reply = session.call("list flows", None)
    assert reply["total"] == 2000
    assert 0 < len(encode(reply)) < 60_000


def test_only_orphans_that_may_be_silent_are_looked_at(holder: Holder, session: Session) -> None:
    holder.heard = {0: session.now + 59, 1: session.now + 30}
    looks: list[int] = []
    last_seen = holder.orphan_last_seen
    holder.orphan_last_seen = lambda orphan: looks.append(orphan.slot.index) or last_seen(orphan)  # type: ignore[method-assign, func-returns-value]
    session.pass_time(59)
    assert looks == []
    session.pass_time(2)
    assert looks == [0, 1]
    session.pass_time(30)
    assert looks == [0, 1, 1]
    assert [one.slot.index for one in holder.orphans] == [0]


def test_orphans_never_end_by_themselves_without_a_time_out(holder: Holder) -> None:
    session = Session(interfaces=(NARROW,), settings=EngineSettings(timeouts=Timeouts(media=0.0)), orphans=holder)
    session.pass_time(100_000)
    assert len(holder.orphans) == 2
    assert session.call("sweep flows", None)["ended"] == 2
    assert session.relay.open == []


def test_without_a_kernel_path_there_are_none() -> None:
    session = Session(interfaces=(NARROW,))
    assert session.call("list flows", None)["orphans"] == []
    assert session.call("sweep flows", None)["ended"] == 0
