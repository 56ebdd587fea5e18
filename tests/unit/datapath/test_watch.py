"""What becomes of young flows."""

from __future__ import annotations

import pytest

from mediaproxy.datapath import TransportHandle
from mediaproxy.datapath.flow import Slot
from mediaproxy.datapath.kernel import FlowCounters, FlowDrop, FlowUp, RtpState
from mediaproxy.datapath.watch import Finding, Watch, judge


def counters(packets: int = 0, ups: dict[FlowUp, int] | None = None, drops: dict[FlowDrop, int] | None = None):  # type: ignore[no-untyped-def]
    return FlowCounters(
        packets,
        0,
        None,
        tuple((drops or {}).get(reason, 0) for reason in FlowDrop),
        tuple((ups or {}).get(reason, 0) for reason in FlowUp),
        RtpState(b""),
    )


@pytest.mark.parametrize(
    ("seen", "heard", "finding"),
    [
        (counters(packets=1), 100, Finding.MOVES),
        (counters(), 0, Finding.NOTHING_YET),
        (counters(), 2, Finding.NOTHING_YET),
        (counters(), 3, Finding.STUCK),
        (counters(ups={FlowUp.LOCAL: 3}), 3, Finding.LOCAL),
        (counters(ups={FlowUp.FAILED: 3}), 3, Finding.STUCK),
        (counters(ups={FlowUp.RTCP: 3, FlowUp.NOT_RTP: 9}), 3, Finding.STUCK),
        (counters(ups={FlowUp.MTU: 1}), 3, Finding.MOVES),
        (counters(ups={FlowUp.SOURCE: 1}), 3, Finding.MOVES),
        (counters(drops={FlowDrop.WRONG_SOURCE: 1}), 3, Finding.MOVES),
    ],
)
def test_judgement_by_what_both_paths_have_seen(seen: FlowCounters, heard: int, finding: Finding) -> None:
    assert judge(seen, heard) is finding


def test_quiet_flow_is_looked_at_less_and_less_often_and_in_the_end_found_out() -> None:
    watch = Watch()
    handle, slot = TransportHandle(1), Slot(0, 1)
    watch.add(handle, slot, 0.0)
    looks: list[float] = []
    heard = [0]
    stuck: list[tuple[TransportHandle, Finding]] = []
    while not stuck:
        when = watch.next_look()
        assert when is not None
        looks.append(when)
        heard[0] = 3 if when > 10 else 0
        stuck = watch.look(when, lambda *_: True, lambda _: counters(), lambda _: heard[0])
    assert stuck == [(handle, Finding.STUCK)]
    assert looks[:5] == pytest.approx([0.25, 0.55, 0.85, 1.15, 3.15])
    assert watch.next_look() is None


def test_flow_that_is_gone_or_moves_is_forgotten() -> None:
    watch = Watch()
    watch.add(TransportHandle(1), Slot(0, 1), 0.0)
    watch.add(TransportHandle(2), Slot(1, 2), 0.0)
    assert watch.look(1.0, lambda handle, _: handle == 2, lambda _: counters(packets=1), lambda _: 0) == []
    assert watch.next_look() is None


def test_one_turn_looks_at_a_bounded_number_of_flows() -> None:
    watch = Watch()
    for number in range(1000):
        watch.add(TransportHandle(number + 1), Slot(number, 1), 0.0)
    seen: list[TransportHandle] = []
    watch.look(1.0, lambda handle, _: bool(seen.append(handle)), lambda _: counters(), lambda _: 0)
    assert len(seen) == 256
