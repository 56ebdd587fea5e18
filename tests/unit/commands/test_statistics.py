"""``statistics``: every group, with counts as integers and durations as strings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mediaproxy.calls.timeouts import Timeouts
from mediaproxy.datapath import FlowReason, KernelReport
from mediaproxy.engine import EngineSettings
from mediaproxy.stats.control import COMMAND_LABELS
from tests.support.sessions import PUBLIC, Session, media_ports


def statistics(session: Session) -> Any:
    reply = session.call("statistics", call_id=None)
    assert reply["result"] == "ok"
    return reply["statistics"]


def test_idle_proxy_has_nothing_but_its_uptime() -> None:
    session = Session()
    session.now += 3.9
    report = statistics(session)
    groups = ["currentstatistics", "totalstatistics", "controlstatistics", "interfaces", "relay", "kernelpath"]
    assert list(report) == groups
    assert set(report["currentstatistics"].values()) == {0}
    totals = report["totalstatistics"]
    assert totals.pop("uptime") == "3"
    assert set(totals.values()) == {0, "0.000000"}


def test_current_sessions_and_medias_are_counted() -> None:
    session = Session()
    session.offer()
    session.offer(call_id="other")
    current = statistics(session)["currentstatistics"]
    assert (current["sessionsown"], current["sessionstotal"]) == (2, 2)
    assert current["media_userspace"] == 4


def test_rates_are_those_of_the_last_seconds() -> None:
    session = Session()
    session.offer()
    towards_a = media_ports(session.answer())[0]
    statistics(session)
    session.now += 2.0
    session.relay.receive(PUBLIC.address, towards_a, 100, session.now)
    current = statistics(session)["currentstatistics"]
    assert (current["packetrate"], current["packetrate_user"], current["packetrate_kernel"]) == (50, 50, 0)
    assert current["byterate"] == 50 * 172


def test_ended_calls_are_told_apart_by_their_reason() -> None:
    session = Session(settings=EngineSettings(timeouts=Timeouts(media=5.0, offer=7.0, delete_delay=0.0)))
    session.offer(call_id="silent")
    session.answer(call_id="silent")
    session.offer(call_id="unanswered")
    session.offer(call_id="deleted")
    session.call("delete", call_id="deleted")
    session.pass_time(10.0)
    session.offer(call_id="last")
    session.engine.close_all(session.now)
    totals = statistics(session)["totalstatistics"]
    assert totals["managedsessions"] == 4
    reasons = ("timeoutsessions", "offertimeoutsessions", "regularterminatedsessions", "forcedterminatedsessions")
    assert [totals[reason] for reason in reasons] == [1, 1, 1, 1]
    assert totals["totalcallsduration"] == "12.000000"


def test_each_client_has_its_counts_of_every_command() -> None:
    session = Session()
    control = session.engine._context.control
    control.add_request("192.0.2.1", "offer", 0.25, failed=False)
    control.add_request("192.0.2.1", "offer", 0.25, failed=True)
    control.add_request("192.0.2.2", "start recording", 0.5, failed=True)
    report = statistics(session)["controlstatistics"]
    first, second = report["proxies"]
    assert (first["proxy"], first["offercount"], first["offerduration"], first["errorcount"]) == (
        "192.0.2.1",
        2,
        "0.500000",
        1,
    )
    assert (second["offercount"], second["offerduration"], second["startreccount"]) == (0, "0.000000", 1)
    assert report["totaloffercount"] == 2
    assert [key for key in report if key.startswith("total")] == [
        f"total{label}count" for label in COMMAND_LABELS.values()
    ]


def test_ports_of_each_interface_are_counted_singly() -> None:
    narrow = replace(PUBLIC, port_min=30000, port_max=30007)
    none = replace(PUBLIC, name="none", port_min=30001, port_max=30002)
    session = Session(interfaces=(narrow, none), settings=EngineSettings(timeouts=Timeouts(delete_delay=0.0)))
    session.relay.busy.add((PUBLIC.address, 30000))
    session.offer()
    first, second = statistics(session)["interfaces"]
    assert first["ports"] == {
        "min": 30000, "max": 30007, "used": 4, "used_pct": "50.00", "free": 4, "totals": 8, "young": 0, "busy": 1,
    }  # fmt: skip
    assert (second["name"], second["ports"]["totals"], second["ports"]["used_pct"]) == ("none", 0, "0.00")


def test_many_control_peers_are_shown_as_the_busiest_and_the_rest() -> None:
    session = Session()
    for number in range(1, 101):
        for _ in range(number):
            session.control.add_request(f"192.0.2.{number}", "offer", 0.001, failed=number == 1)
    control = statistics(session)["controlstatistics"]
    proxies = control["proxies"]
    assert [proxies[0]["proxy"], proxies[19]["proxy"], proxies[20]["proxy"]] == ["192.0.2.100", "192.0.2.81", "other"]
    assert proxies[20]["offercount"] == sum(range(1, 81))
    assert proxies[20]["errorcount"] == 1
    assert control["totaloffercount"] == sum(range(1, 101))


def test_kernel_path_is_reported_with_its_reasons() -> None:
    session = Session()
    session.relay.kernel_report = KernelReport(
        "tc",
        2,
        5,
        reasons={FlowReason.NOT_LEARNT: 3},
        refusals={FlowReason.MAP_FULL: 1},
        orphans=4,
        rejected=(("xdp", "not asked for"),),
    )
    assert statistics(session)["kernelpath"] == {
        "backend": "tc",
        "flows": 2,
        "installations": 5,
        "orphans": 4,
        "reasons": {"source not learnt yet": 3},
        "refusals": {"kernel map full": 1},
        "rejected": {"xdp": "not asked for"},
    }
    session.relay.kernel_report = KernelReport(failure="gone")
    assert statistics(session)["kernelpath"]["failure"] == "gone"


def test_medias_are_counted_by_their_path() -> None:
    session = Session()
    offered, answered = session.offer(), session.answer()
    (b_port,), (a_port,) = media_ports(offered), media_ports(answered)
    a, b = (session.relay.handle_at(PUBLIC.address, port) for port in (a_port, b_port))
    by_path = ("media_userspace", "media_kernel", "media_mixed")
    assert [statistics(session)["currentstatistics"][name] for name in by_path] == [2, 0, 0]
    session.relay.verdicts[a] = None
    assert [statistics(session)["currentstatistics"][name] for name in by_path] == [0, 0, 2]
    session.relay.verdicts[b] = None
    assert [statistics(session)["currentstatistics"][name] for name in by_path] == [0, 2, 0]
