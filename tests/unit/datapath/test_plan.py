"""Which flows follow from the configurations of transports, and why there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mediaproxy.datapath import FlowReason, SourcePolicy, TransportConfig, TransportHandle, Verdict
from mediaproxy.datapath.flow import Capabilities, Flow
from mediaproxy.datapath.plan import FlowPlan
from mediaproxy.net import Endpoint
from tests.support.fake_datapath import EVERYTHING

A, B, C = TransportHandle(1), TransportHandle(2), TransportHandle(3)
LOCAL_A, LOCAL_B = Endpoint("203.0.113.10", 30000), Endpoint("198.51.100.10", 40000)
PHONE_A, PHONE_B = Endpoint("192.0.2.21", 9000), Endpoint("192.0.2.77", 17000)

CONFIG_A = TransportConfig(A, SourcePolicy.LOCKED, remote=PHONE_A, expected=PHONE_A, rtp_sinks=(B,), tos=184)
CONFIG_B = TransportConfig(B, SourcePolicy.LOCKED, remote=PHONE_B, expected=PHONE_B, rtp_sinks=(A,), tos=104)


def make_plan(capabilities: Capabilities = EVERYTHING) -> FlowPlan:
    plan = FlowPlan(capabilities)
    plan.open(A, LOCAL_A)
    plan.open(B, LOCAL_B)
    plan.configure([CONFIG_A, CONFIG_B])
    return plan


def test_flow_of_a_learnt_transport_goes_from_its_sink_to_the_sinks_remote() -> None:
    plan = make_plan()
    assert plan.flow(A) == Flow(LOCAL_A, PHONE_A, LOCAL_B, PHONE_B, strict=True, tos=104)
    assert plan.flow(B) == Flow(LOCAL_B, PHONE_B, LOCAL_A, PHONE_A, strict=True, tos=184)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"policy": SourcePolicy.CLOSED}, FlowReason.CLOSED),
        ({"policy": SourcePolicy.OPEN, "expected": None}, FlowReason.NOT_LEARNT),
        ({"rtp_sinks": ()}, FlowReason.NO_SINK),
        ({"rtp_sinks": (), "rtcp_sinks": (B,)}, FlowReason.RTCP),
        ({"rtp_sinks": (B, C)}, FlowReason.SEVERAL_SINKS),
        ({"rtp_sinks": (C,)}, FlowReason.NO_DESTINATION),
    ],
)
def test_transport_without_a_flow_says_why(change: dict[str, object], reason: FlowReason) -> None:
    plan = make_plan()
    plan.configure([replace(CONFIG_A, **change)])  # type: ignore[arg-type]
    assert plan.flow(A) == Verdict(reason)


def test_sink_on_hold_is_no_destination_until_it_is_back() -> None:
    plan = make_plan()
    plan.configure([replace(CONFIG_B, remote=None)])
    assert plan.flow(A) == Verdict(FlowReason.NO_DESTINATION)
    plan.configure([CONFIG_B])
    assert isinstance(plan.flow(A), Flow)


def test_open_policy_lets_other_sources_up() -> None:
    plan = make_plan()
    plan.configure([replace(CONFIG_A, policy=SourcePolicy.OPEN)])
    flow = plan.flow(A)
    assert isinstance(flow, Flow)
    assert (flow.source, flow.strict) == (PHONE_A, False)


def test_trusting_policy_takes_any_source_where_the_backend_can() -> None:
    plan = make_plan()
    plan.configure([replace(CONFIG_A, policy=SourcePolicy.TRUSTING)])
    flow = plan.flow(A)
    assert isinstance(flow, Flow)
    assert flow.source is None


def test_trusting_policy_goes_by_the_expected_source_where_the_backend_cannot() -> None:
    plan = make_plan(replace(EVERYTHING, any_source=False))
    plan.configure([replace(CONFIG_A, policy=SourcePolicy.TRUSTING)])
    flow = plan.flow(A)
    assert isinstance(flow, Flow)
    assert (flow.source, flow.strict) == (PHONE_A, False)
    plan.configure([replace(CONFIG_A, policy=SourcePolicy.TRUSTING, expected=None)])
    assert plan.flow(A) == Verdict(FlowReason.NEEDS_ANY_SOURCE)


def test_family_change_needs_the_capability() -> None:
    six = Endpoint("2001:db8::77", 17000)
    for capabilities, expected in ((EVERYTHING, True), (replace(EVERYTHING, family_change=False), False)):
        plan = make_plan(capabilities)
        plan.configure([replace(CONFIG_B, remote=six, expected=six)])
        assert isinstance(plan.flow(A), Flow) is expected
    assert plan.flow(A) == Verdict(FlowReason.NEEDS_FAMILY_CHANGE)


def test_opaque_media_needs_the_capability() -> None:
    for capabilities, expected in ((EVERYTHING, True), (replace(EVERYTHING, opaque=False), False)):
        plan = make_plan(capabilities)
        plan.configure([replace(CONFIG_A, opaque=True)])
        assert isinstance(plan.flow(A), Flow) is expected
    assert plan.flow(A) == Verdict(FlowReason.OPAQUE)


def test_change_of_a_sink_touches_what_goes_to_it() -> None:
    plan = make_plan()
    plan.take_changed()
    plan.configure([replace(CONFIG_B, remote=Endpoint("192.0.2.78", 17002))])
    assert sorted(plan.take_changed()) == [A, B]
    assert plan.take_changed() == []


def test_same_configuration_again_changes_nothing() -> None:
    plan = make_plan()
    plan.take_changed()
    plan.configure([CONFIG_A, CONFIG_B])
    assert plan.take_changed() == []


def test_closed_transport_takes_the_way_of_those_that_went_to_it() -> None:
    plan = make_plan()
    plan.take_changed()
    plan.close(B)
    assert plan.take_changed() == [A]
    assert plan.flow(A) == Verdict(FlowReason.NO_DESTINATION)
    assert plan.flow(B) == Verdict(FlowReason.CLOSED)


def test_configuration_of_a_closed_transport_is_ignored() -> None:
    plan = make_plan()
    plan.close(A)
    plan.configure([CONFIG_A])
    assert plan.flow(A) == Verdict(FlowReason.CLOSED)
    assert A not in plan.take_changed()


def test_another_sink_is_no_longer_fed_by_the_first() -> None:
    plan = make_plan()
    plan.open(C, Endpoint("203.0.113.10", 30010))
    plan.configure([replace(CONFIG_A, rtp_sinks=(C,))])
    assert plan.feeders(B) == []
    assert plan.feeders(C) == [A]
    assert plan.sink(A) == C


def test_more_clock_rates_than_a_flow_holds_are_cut() -> None:
    plan = make_plan()
    rates = tuple((96 + number, 8000) for number in range(16))
    plan.configure([replace(CONFIG_A, clock_rates=rates)])
    flow = plan.flow(A)
    assert isinstance(flow, Flow)
    assert flow.clock_rates == rates[:8]
