"""Flows in and out of the kernel, and what is counted meanwhile: the whole relay on fakes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.datapath import FlowReason, SourcePolicy, TransportConfig, TransportHandle, Verdict
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind, FlowUp, Refusal
from mediaproxy.datapath.kernel_path import RETRY, SLOT_REST, KernelPath
from mediaproxy.datapath.offload import OffloadingRelay
from mediaproxy.datapath.relay import DropReason
from mediaproxy.net import Endpoint
from tests.support.fake_datapath import NOTHING, FakeDatapath
from tests.support.fake_relay import FakeRelay

ADDRESS_A, ADDRESS_B = "203.0.113.10", "198.51.100.10"
LOCAL_A, LOCAL_B = Endpoint(ADDRESS_A, 30000), Endpoint(ADDRESS_B, 40000)
PHONE_A, PHONE_B = Endpoint("192.0.2.21", 9000), Endpoint("192.0.2.77", 17000)


class Lab:
    """One call between A and B on both paths; ``now`` is set by tests."""

    def __init__(self, datapath: FakeDatapath | None = None) -> None:
        self.now = 100.0
        self.datapath = datapath or FakeDatapath()
        self.sockets = FakeRelay()
        self.kernel = KernelPath(self.datapath, self.sockets, generation=7)
        self.relay = OffloadingRelay(self.sockets, self.kernel, "fake", (("tc", "no BPF"),))
        self.a, self.a_rtcp = self.relay.open_pair(ADDRESS_A, 30000, 0)
        self.b, self.b_rtcp = self.relay.open_pair(ADDRESS_B, 40000, 0)

    def configs(self) -> list[TransportConfig]:
        return [
            TransportConfig(self.a, SourcePolicy.LOCKED, remote=PHONE_A, expected=PHONE_A, rtp_sinks=(self.b,)),
            TransportConfig(self.b, SourcePolicy.LOCKED, remote=PHONE_B, expected=PHONE_B, rtp_sinks=(self.a,)),
        ]

    def configure(self, **changes: object) -> None:
        """Configure both; ``changes`` are A's."""
        a, b = self.configs()
        self.relay.configure([replace(a, **changes), b])  # type: ignore[arg-type]
        self.settle()

    def settle(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.relay.settle(self.now)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, settling at each deadline."""
        end = self.now + seconds
        while (deadline := self.relay.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.settle()
        self.now = end
        self.settle()

    def receive(self, packets: int) -> None:
        """So many packets in all have come to A's socket."""
        self.sockets.receive(ADDRESS_A, 30000, packets, self.now)


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.configure()
    return lab


def test_learnt_call_has_a_flow_each_way(lab: Lab) -> None:
    assert {local: one.flow.target for local, one in lab.datapath.flows.items()} == {LOCAL_A: PHONE_B, LOCAL_B: PHONE_A}
    assert lab.relay.path(lab.a) is None
    assert lab.relay.path(lab.a_rtcp) == Verdict(FlowReason.CLOSED)
    assert lab.relay.kernel().flows == 2
    assert [change.handle for change in lab.relay.take_changes()] == [lab.a, lab.b]


def test_both_ways_are_set_in_one_batch(lab: Lab) -> None:
    assert lab.datapath.log == [([LOCAL_A, LOCAL_B], [])]


def test_new_target_replaces_the_flow_in_its_slot(lab: Lab) -> None:
    slot = lab.datapath.flows[LOCAL_A].slot
    lab.datapath.forward(LOCAL_A, 50, lab.now)
    moved = Endpoint("192.0.2.78", 18000)
    lab.relay.configure([replace(lab.configs()[1], remote=moved, expected=moved)])
    lab.settle()
    assert lab.datapath.flows[LOCAL_A].slot == slot
    assert lab.datapath.flows[LOCAL_A].flow.target == moved
    assert lab.relay.counters(lab.a).rtp.packets == 50
    assert lab.datapath.log[-1][1] == [], "a replaced flow is never away"


def test_another_sink_counts_anew_but_the_flow_is_never_away(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 50, lab.now)
    other, _ = lab.relay.open_pair(ADDRESS_B, 40010, 0)
    lab.relay.configure([TransportConfig(other, SourcePolicy.OPEN, remote=PHONE_B)])
    before = lab.datapath.flows[LOCAL_A].slot
    lab.configure(rtp_sinks=(other,))
    assert lab.datapath.flows[LOCAL_A].slot != before
    assert all(removals == [] for _, removals in lab.datapath.log)
    lab.datapath.forward(LOCAL_A, 7, lab.now)
    assert lab.relay.counters(lab.b).rtp.packets_out == 50
    assert lab.relay.counters(other).rtp.packets_out == 7
    assert lab.relay.counters(lab.a).rtp.packets == 57
    lab.pass_time(2 * SLOT_REST)
    assert lab.relay.counters(lab.b).rtp.packets_out == 50
    assert lab.relay.counters(lab.a).rtp.packets == 57


def test_counts_of_both_paths_add_up_over_changes(lab: Lab) -> None:
    lab.receive(10)
    lab.datapath.forward(LOCAL_A, 100, 101.0)
    slot = lab.datapath.flows[LOCAL_A].slot
    lab.configure(policy=SourcePolicy.OPEN, expected=None)  # a re-INVITE: who it is has to be seen again
    assert LOCAL_A not in lab.datapath.flows
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NOT_LEARNT)
    lab.datapath.forward_late(slot, 1, 101.5)  # a program that was still running
    assert lab.relay.counters(lab.a).rtp.packets == 111
    lab.pass_time(2 * SLOT_REST)
    lab.receive(15)
    lab.configure()
    lab.datapath.forward(LOCAL_A, 200, 105.0)
    counters = lab.relay.counters(lab.a).rtp
    assert (counters.packets, counters.kernel_packets, counters.bytes) == (316, 301, 316 * 172)
    assert (counters.last_kernel, counters.last_seen) == (105.0, 105.0)
    assert counters.ssrcs[0].packets == 316
    assert lab.relay.last_seen(lab.a) == 105.0
    assert lab.relay.counters(lab.b).rtp.packets_out == 301
    totals = lab.relay.totals()
    assert (totals.packets, totals.kernel_packets) == (316, 301)


def test_sequence_state_is_handed_over_before_and_after_the_flow_goes(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 100, lab.now)
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    assert lab.sockets.resumed == [(lab.a, b"100"), (lab.a, b"100")]


def test_slot_rests_before_somebody_else_gets_it() -> None:
    lab = Lab(FakeDatapath(slots=2))
    lab.configure()
    lab.relay.close([lab.a, lab.a_rtcp, lab.b, lab.b_rtcp])
    lab.settle()
    lab.a, lab.a_rtcp = lab.relay.open_pair(ADDRESS_A, 30000, 0)
    lab.b, lab.b_rtcp = lab.relay.open_pair(ADDRESS_B, 40000, 0)
    lab.configure()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.MAP_FULL)
    assert lab.relay.kernel().refusals == {FlowReason.MAP_FULL: 2}
    lab.pass_time(RETRY + 1)
    assert lab.relay.path(lab.a) is None


def test_totals_never_go_back_when_slots_are_used_again() -> None:
    lab = Lab(FakeDatapath(slots=2))
    for _ in range(3):
        lab.configure()
        lab.datapath.forward(LOCAL_A, 10, lab.now, strangers=2)
        lab.relay.close([lab.a, lab.a_rtcp, lab.b, lab.b_rtcp])
        lab.pass_time(2 * SLOT_REST)
        lab.a, lab.a_rtcp = lab.relay.open_pair(ADDRESS_A, 30000, 0)
        lab.b, lab.b_rtcp = lab.relay.open_pair(ADDRESS_B, 40000, 0)
    totals = lab.relay.totals()
    assert (totals.kernel_packets, totals.kernel_errors) == (30, 6)


def test_closing_removes_flows_first_and_keeps_the_counts_for_that_turn(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.relay.close([lab.a, lab.a_rtcp])
    # B's flow leaves by A's port: it must be gone as well before the port is somebody else's.
    assert lab.datapath.flows == {}
    assert lab.relay.counters(lab.a).rtp.packets == 10
    lab.settle()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.CLOSED)
    assert lab.relay.path(lab.b) == Verdict(FlowReason.NO_DESTINATION)
    assert lab.relay.kernel().flows == 0


def test_all_flows_are_taken_back_in_one_request(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.datapath.log.clear()
    lab.relay.take_back_all()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.CLOSED)
    lab.relay.close([lab.a, lab.a_rtcp])
    lab.relay.close([lab.b, lab.b_rtcp])
    assert lab.datapath.log == [([], [LOCAL_A, LOCAL_B])]
    assert lab.relay.counters(lab.a).rtp.packets == 10
    assert lab.relay.kernel().flows == 0


def test_dropped_strangers_are_errors_of_the_stream(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now, strangers=3)
    counters = lab.relay.counters(lab.a)
    assert counters.rtp.errors == 3
    assert counters.drops[DropReason.WRONG_SOURCE] == 3
    assert counters.rtp.kernel_drops == (3, 0, 0, 0)
    lab.datapath.send_up(LOCAL_A, FlowUp.MTU, 5)
    assert lab.relay.counters(lab.a).rtp.kernel_ups[FlowUp.MTU] == 5


def test_refused_flow_is_tried_again_later() -> None:
    lab = Lab()
    lab.datapath.refuse = lambda _: FlowReason.REFUSED
    lab.configure()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.REFUSED, "ENOMEM")
    lab.datapath.refuse = lambda _: None
    lab.pass_time(RETRY - 1)
    assert lab.relay.path(lab.a) is not None
    lab.pass_time(2)
    assert lab.relay.path(lab.a) is None
    assert lab.datapath.slots - len(lab.datapath.flows) == lab.kernel._slots.free


def test_refused_replacement_leaves_the_media_to_the_sockets(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.datapath.refuse = lambda one: FlowReason.NO_ROUTE if one.flow.local == LOCAL_A else None
    moved = Endpoint("192.0.2.78", 18000)
    lab.relay.configure([replace(lab.configs()[1], remote=moved, expected=moved)])
    lab.settle()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NO_ROUTE)
    assert lab.relay.counters(lab.a).rtp.packets == 10
    assert lab.relay.kernel().flows == 1


def test_flow_that_moves_nothing_while_packets_reach_the_socket_falls_back_within_a_second(lab: Lab) -> None:
    start = lab.now
    while lab.relay.path(lab.a) is None and lab.now < start + 2:
        lab.receive(int((lab.now - start) * 50))
        lab.pass_time(0.05)
    assert lab.now - start < 1.0
    assert lab.relay.path(lab.a) == Verdict(FlowReason.MOVED_NOTHING)
    assert lab.relay.path(lab.b) is None, "nothing came for it, nothing is proved"
    assert LOCAL_A not in lab.datapath.flows
    lab.pass_time(RETRY + 1)
    assert LOCAL_A in lab.datapath.flows


def test_packets_that_were_queued_before_do_not_count_against_a_flow(lab: Lab) -> None:
    lab.pass_time(0.1)
    lab.receive(20)  # drained now
    lab.pass_time(5)
    assert lab.relay.path(lab.a) is None


def test_flow_whose_packets_have_a_reason_to_go_up_stays(lab: Lab) -> None:
    lab.pass_time(0.3)
    lab.datapath.send_up(LOCAL_A, FlowUp.MTU, 50)
    lab.receive(50)
    lab.pass_time(5)
    assert lab.relay.path(lab.a) is None


def test_flow_to_this_host_that_arrives_from_outside_is_named(lab: Lab) -> None:
    lab.pass_time(0.3)
    lab.datapath.send_up(LOCAL_A, FlowUp.LOCAL, 50)
    lab.receive(50)
    lab.pass_time(1)
    assert lab.relay.path(lab.a) == Verdict(FlowReason.LOCAL_PEER)


def test_lost_flows_come_back_when_the_path_is_restored(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.datapath.flows.clear()
    lab.datapath.events = [DatapathEvent(DatapathEventKind.LOST, "flushed", flows_gone=True)]
    assert [event.text for event in lab.relay.take_datapath_events()] == ["flushed"]
    lab.settle()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.LOST)
    assert lab.sockets.resumed[-1] == (lab.b, b"0")
    lab.datapath.events = [DatapathEvent(DatapathEventKind.RESTORED, "back")]
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) is None
    assert set(lab.datapath.flows) == {LOCAL_A, LOCAL_B}
    assert lab.relay.counters(lab.a).rtp.packets == 10


def test_flow_whose_way_vanishes_is_the_sockets_until_it_is_back(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    slot = lab.datapath.flows[LOCAL_A].slot
    lab.relay.take_changes()
    lab.datapath.take_out(LOCAL_A, FlowReason.NO_ROUTE)
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NO_ROUTE)
    assert lab.relay.path(lab.b) is None
    assert [change.handle for change in lab.relay.take_changes()] == [lab.a]
    assert lab.relay.kernel().flows == 1
    assert lab.sockets.resumed == [(lab.a, b"10"), (lab.a, b"10")]
    assert lab.datapath.log[-1] == ([], [LOCAL_A]), "should it have been put back meanwhile"
    lab.datapath.events = [DatapathEvent(DatapathEventKind.WAYS_BACK, "back")]
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) is None
    assert lab.datapath.flows[LOCAL_A].slot != slot
    lab.datapath.forward(LOCAL_A, 5, lab.now)
    assert lab.relay.counters(lab.a).rtp.packets == 15


def test_flow_whose_way_vanishes_is_tried_again_though_nobody_says_that_it_is_back(lab: Lab) -> None:
    lab.datapath.take_out(LOCAL_A, FlowReason.NO_ROUTE)
    lab.relay.take_datapath_events()
    lab.pass_time(RETRY + 1)
    assert lab.relay.path(lab.a) is None


def test_flow_that_was_replaced_in_its_slot_as_it_was_taken_out_is_nowhere_but_with_the_sockets(lab: Lab) -> None:
    there = lab.datapath.flows[LOCAL_A]
    lab.datapath.take_out(LOCAL_A, FlowReason.NO_ROUTE)
    lab.datapath.flows[LOCAL_A] = there
    lab.relay.take_datapath_events()
    lab.settle()
    assert LOCAL_A not in lab.datapath.flows
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NO_ROUTE)


def test_flow_that_was_taken_out_after_it_was_removed_is_nobodys(lab: Lab) -> None:
    there = lab.datapath.flows[LOCAL_A]
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    lab.configure()
    gone = (Refusal(there, FlowReason.NO_ROUTE),)
    lab.datapath.events = [DatapathEvent(DatapathEventKind.TAKEN_OUT, "late", flows=gone)]
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) is None
    assert LOCAL_A in lab.datapath.flows


def test_kernel_path_that_ends_as_flows_are_taken_out_is_the_reason_of_all(lab: Lab) -> None:
    lab.datapath.take_out(LOCAL_A, FlowReason.NO_ROUTE)
    lab.datapath.broken = True
    lab.relay.take_datapath_events()
    lab.settle()
    reason = Verdict(FlowReason.NO_BACKEND, "the privileged process does not answer")
    assert (lab.relay.path(lab.a), lab.relay.path(lab.b)) == (reason, reason)


def test_lost_hook_that_keeps_its_flows_takes_nothing_back(lab: Lab) -> None:
    lab.datapath.events = [DatapathEvent(DatapathEventKind.LOST, "qdisc gone")]
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) is None


def test_kernel_path_that_answers_no_more_is_given_up_and_calls_go_on(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.datapath.broken = True
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    assert lab.relay.kernel().failure == "the privileged process does not answer"
    assert lab.relay.kernel().backend == "userspace"
    assert lab.relay.path(lab.b) == Verdict(FlowReason.NO_BACKEND, "the privileged process does not answer")
    lab.configure()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NO_BACKEND, "the privileged process does not answer")
    lab.relay.close([lab.a, lab.a_rtcp])
    lab.pass_time(60)
    assert lab.relay.next_deadline() is None
    assert lab.relay.totals().packets == 10


def test_flows_that_cannot_be_removed_any_more_forward_nothing_and_their_counts_stay(lab: Lab) -> None:
    lab.datapath.forward(LOCAL_A, 10, lab.now)
    lab.datapath.broken = True
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    left = [one.slot for one in lab.datapath.flows.values()]
    assert len(left) == 2
    assert all(lab.datapath.counted[slot.index][0] != slot.generation for slot in left)
    for _ in range(2):
        assert lab.relay.counters(lab.a).rtp.kernel_packets == 10
        assert lab.relay.counters(lab.b).rtp.packets_out == 10
        assert lab.relay.totals().kernel_packets == 10
        lab.pass_time(2 * SLOT_REST)


def test_orphans_that_cannot_be_removed_any_more_forward_nothing() -> None:
    orphan = InstalledFlow(Flow(Endpoint(ADDRESS_A, 30050), PHONE_A, Endpoint(ADDRESS_B, 40050), PHONE_B), Slot(1, 99))
    datapath = FakeDatapath(flows={orphan.flow.local: orphan}, counted={1: (99, NOTHING)})
    lab = Lab(datapath)
    datapath.broken = True
    lab.configure()
    assert lab.relay.orphans == (orphan,)
    assert datapath.counted[1][0] == 99
    lab.relay.remove_orphans([orphan])
    assert lab.relay.orphans == ()
    assert datapath.counted[1][0] != 99


def test_given_up_kernel_path_is_an_event_whoever_noticed_it(lab: Lab) -> None:
    lab.datapath.broken = True
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    assert lab.relay.has_events
    (event,) = lab.relay.take_datapath_events()
    assert (event.kind, event.text) == (DatapathEventKind.LOST, "the privileged process does not answer")
    assert not lab.relay.has_events
    assert lab.relay.take_datapath_events() == []


def test_what_was_said_before_the_end_is_still_told(lab: Lab) -> None:
    lab.datapath.events = [DatapathEvent(DatapathEventKind.NOTE, "a device is gone")]
    lab.datapath.broken = True
    lab.configure(policy=SourcePolicy.OPEN, expected=None)
    told = [event.text for event in lab.relay.take_datapath_events()]
    assert told == ["a device is gone", "the privileged process does not answer"]


def test_flows_of_a_path_that_never_came_back_have_its_end_for_a_reason(lab: Lab) -> None:
    lab.datapath.events = [DatapathEvent(DatapathEventKind.LOST, "flushed", flows_gone=True)]
    lab.relay.take_datapath_events()
    lab.datapath.broken = True
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) == Verdict(FlowReason.NO_BACKEND, "the privileged process does not answer")


@pytest.mark.parametrize("reason", [FlowReason.REFUSED, FlowReason.NOT_ATTACHED, FlowReason.MAP_FULL])
def test_flows_refused_while_the_path_was_away_come_back_with_it(lab: Lab, reason: FlowReason) -> None:
    lab.datapath.refuse = lambda one: reason if one.flow.local == LOCAL_A else None
    moved = Endpoint("192.0.2.78", 18000)
    lab.relay.configure([replace(lab.configs()[1], remote=moved, expected=moved)])
    lab.settle()
    assert lab.relay.path(lab.a) is not None
    lab.datapath.refuse = lambda _: None
    lab.datapath.events = [DatapathEvent(DatapathEventKind.RESTORED, "back")]
    lab.relay.take_datapath_events()
    lab.settle()
    assert lab.relay.path(lab.a) is None


def test_what_was_sent_by_a_transport_stays_counted_when_who_fed_it_is_closed() -> None:
    lab = Lab(FakeDatapath(slots=2))
    lab.configure()
    lab.datapath.forward(LOCAL_A, 50, lab.now)
    lab.relay.close([lab.a, lab.a_rtcp])
    lab.pass_time(2 * SLOT_REST)
    assert lab.relay.counters(lab.b).rtp.packets_out == 50
    for _ in range(2):  # until each slot is somebody else's
        lab.a, lab.a_rtcp = lab.relay.open_pair(ADDRESS_A, 30000, 0)
        lab.configure()
        lab.relay.close([lab.a, lab.a_rtcp])
        lab.pass_time(2 * SLOT_REST)
    assert lab.relay.counters(lab.b).rtp.packets_out == 50
    assert lab.kernel._fed == {}


def test_totals_begin_at_zero_after_a_restart_and_never_go_back() -> None:
    orphan = InstalledFlow(Flow(Endpoint(ADDRESS_A, 30050), PHONE_A, Endpoint(ADDRESS_B, 40050), PHONE_B), Slot(2, 99))
    datapath = FakeDatapath(slots=3)
    datapath.flows[orphan.flow.local] = orphan
    for index, generation in ((0, 97), (1, 98), (2, 99)):
        datapath.seed_as(Slot(index, generation), packets=1000)
    lab = Lab(datapath)
    assert lab.relay.totals().kernel_packets == 0
    lab.configure()
    assert lab.relay.totals().kernel_packets == 0
    datapath.forward(LOCAL_A, 5, lab.now)
    datapath.forward(orphan.flow.local, 7, lab.now)
    assert lab.relay.totals().kernel_packets == 12
    assert lab.kernel.orphan_last_seen(orphan) == lab.now


def test_orphans_are_left_alone_and_their_slots_are_nobody_elses() -> None:
    orphan = InstalledFlow(Flow(Endpoint(ADDRESS_A, 30050), PHONE_A, Endpoint(ADDRESS_B, 40050), PHONE_B), Slot(1, 99))
    datapath = FakeDatapath(slots=3)
    datapath.flows[orphan.flow.local] = orphan
    lab = Lab(datapath)
    assert lab.relay.orphans == (orphan,)
    lab.configure()
    assert lab.datapath.flows[orphan.flow.local] == orphan
    assert sorted(one.slot.index for one in datapath.flows.values()) == [0, 1, 2]
    lab.relay.remove_orphans([orphan])
    assert orphan.flow.local not in datapath.flows
    assert lab.relay.orphans == ()
    lab.pass_time(2 * SLOT_REST)
    assert lab.kernel._slots.free == 1


def test_nothing_is_remembered_of_closed_calls(lab: Lab) -> None:
    for round_ in range(5):
        lab.configure()
        lab.datapath.forward(LOCAL_A, 10, lab.now)
        lab.relay.close([lab.a, lab.a_rtcp, lab.b, lab.b_rtcp])
        lab.pass_time(2 * SLOT_REST)
        lab.a, lab.a_rtcp = lab.relay.open_pair(ADDRESS_A, 30000, round_)
        lab.b, lab.b_rtcp = lab.relay.open_pair(ADDRESS_B, 40000, round_)
    lab.pass_time(RETRY + 1)
    kernel = lab.kernel
    assert (len(kernel._tracks), kernel._closed, kernel._fed, list(kernel._retries)) == (4, {}, {}, [])
    assert kernel._slots.free == lab.datapath.slots
    assert sum(kernel.reasons.values()) == 4
    assert kernel._plan._feeders == {}


def test_unknown_transport_is_closed(lab: Lab) -> None:
    nobody = TransportHandle(999)
    assert lab.relay.path(nobody) == Verdict(FlowReason.CLOSED)
    assert lab.kernel.last_seen(nobody) is None
