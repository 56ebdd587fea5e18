"""Somebody interferes with the kernel path under load: the phones hear it for 2 s at most, and an event names it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Final

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.clsact_daemon import clsact_command
from tests.support.datagrams import datagrams_delivered
from tests.support.foreign_bpf import TCX_PASS, attach_first, load_verdict
from tests.support.kernel_lab import tcx_programs
from tests.support.media_lab import MediaLab, host_counters
from tests.support.ng_call import NgCall
from tests.support.processes import wait_until
from tests.support.rtp_stream import RtpStream

pytestmark = needs_sip_lab

_PPS: Final = 1000
_QDISC_CHANGE: Final = 1.0
"""Seconds of packets that may be lost when somebody adds or removes a qdisc: the kernel (6.18) halts what leaves by the
device meanwhile, whoever sends it. Mostly it is 10 ms."""
_BACK: Final = 2.0
"""Seconds after which audio must be back, and the event in the log."""
_DEVICES: Final = ("ext0", "int0")
_SMALL: Final = (
    "import sys, mediaproxy.daemon; mediaproxy.daemon._MAX_FLOWS = 3; sys.argv[0] = 'mediaproxy';"
    "from mediaproxy.cli.mediaproxy import main; main()"
)
"""A daemon with room for three flows: by its options there is always enough for all of its ports."""


def _wait_for_packets(streams: Sequence[RtpStream], count: int = 500) -> None:
    """Until each of the streams has brought so many packets more."""
    before = [stream.arrived() for stream in streams]

    def all_have() -> bool:
        return all(stream.arrived() >= start + count for stream, start in zip(streams, before, strict=True))

    wait_until(all_have, 5.0, f"{count} packets more on each stream")


def _wait_for_event(lab: MediaLab, text: str, timeout: float = _BACK) -> None:
    wait_until(lambda: text in lab.media_proxy.process.log(), timeout, f"{text!r} in the log")


def _wait_until_kernel_carries(lab: MediaLab, streams: Sequence[RtpStream]) -> None:
    """By the host's own count, not by what the proxy says. What waits in sockets is counted as it is taken."""

    def hardly_any_at_sockets() -> bool:
        before = datagrams_delivered(lab.proxy)
        _wait_for_packets(streams, 300)
        return datagrams_delivered(lab.proxy) - before < 10

    wait_until(hardly_any_at_sockets, 5.0, "media in the kernel")


def _assert_heard(lab: MediaLab, streams: Sequence[RtpStream], *, lost: float = 0.0) -> None:
    """No gap that anybody would notice, and no packet lost but where a socket of the relay ran over: on a busy machine
    its thread may be halted for long.

    Args:
        lost: seconds of media that each stream may have lost besides.
    """
    records = [stream.stop() for stream in streams]
    overrun = host_counters(lab.proxy)["Udp.RcvbufErrors"]
    for record in records:
        assert record.lost() <= lost * _PPS + overrun
        assert record.heard_again() == record.foreign == 0
        assert record.longest_gap() < _BACK


def test_clsact_deleted_under_load_is_put_back() -> None:
    """Filters of the older form go with their qdisc; sockets take over until they are back."""
    with MediaLab(prefix="clsact") as lab:
        lab.start_proxy(program=clsact_command(lab.folder))
        _, *streams = lab.talk(_PPS)
        for device in _DEVICES:
            assert "bpf" in lab.proxy.run("tc", "filter", "show", "dev", device, "ingress")
            lab.proxy.run("tc", "qdisc", "del", "dev", device, "clsact")
        for device in _DEVICES:
            _wait_for_event(lab, f"somebody removed the tc filter of {device}")
            _wait_for_event(lab, f"the tc filter of {device} is back")
            assert "bpf" in lab.proxy.run("tc", "filter", "show", "dev", device, "ingress")
        _wait_until_kernel_carries(lab, streams)
        _assert_heard(lab, streams, lost=_QDISC_CHANGE)


def test_clsact_deleted_under_load_does_not_matter_to_links() -> None:
    with MediaLab(prefix="tcx") as lab:
        lab.start_proxy()
        _, *streams = lab.talk(_PPS)
        before = datagrams_delivered(lab.proxy)
        for device in _DEVICES:
            lab.proxy.run("tc", "qdisc", "add", "dev", device, "clsact")
            lab.proxy.run("tc", "qdisc", "del", "dev", device, "clsact")
            assert tcx_programs(lab.proxy, device) == 1
        _wait_for_packets(streams)
        assert datagrams_delivered(lab.proxy) - before < 10
        _assert_heard(lab, streams, lost=_QDISC_CHANGE)
        assert "somebody removed" not in lab.media_proxy.process.log()


def test_link_detached_under_load_is_put_back_and_no_packet_is_lost() -> None:
    with MediaLab(prefix="detach") as lab:
        lab.start_proxy()
        _, *streams = lab.talk(_PPS)
        pins = lab.folder / "run" / lab.proxy.name / "bpf"
        detached = list(pins.glob("*-tcx-*"))
        assert len(detached) >= len(_DEVICES), sorted(pins.rglob("*"))
        for pin in detached:
            lab.proxy.run("bpftool", "link", "detach", "pinned", str(pin))
        for device in _DEVICES:
            _wait_for_event(lab, f"somebody removed the TCX link of {device}")
            _wait_for_event(lab, f"the TCX link of {device} is back")
        _wait_until_kernel_carries(lab, streams)
        _assert_heard(lab, streams)


@pytest.mark.skipif(
    importlib.util.find_spec("mediaproxy.backends.nft") is None, reason="the nft backend is not part of this tree"
)
@pytest.mark.parametrize("form", ["readable", "fast"])
def test_flushed_ruleset_under_load_is_put_back(form: str) -> None:
    with MediaLab(prefix="flush") as lab:
        lab.start_proxy(f"--nft-form={form}", kernel_path="nft")
        call, *streams = lab.talk(_PPS)
        lab.proxy.run("nft", "flush", "ruleset")
        wait_until(
            lambda: any(" error kernel path lost " in line for line in lab.media_proxy.process.log().splitlines()),
            _BACK, "the loss in the log",
        )  # fmt: skip
        wait_until(call.in_kernel, 3.0, "both ways in the kernel again")
        _wait_until_kernel_carries(lab, streams)
        _assert_heard(lab, streams)


def test_full_map_is_named_and_the_call_goes_by_sockets() -> None:
    with MediaLab(prefix="full") as lab:
        lab.start_proxy(program=[sys.executable, "-c", _SMALL, "run"])
        first, *streams = lab.talk(500, "-1")
        sockets = lab.caller_socket(), lab.callee_socket()
        second = lab.ng_call(*sockets)
        streams += lab.streams(*sockets, "-2")
        streams[2].start(second.at_caller, 500)
        streams[3].start(second.at_callee, 500)
        wait_until(lambda: second.in_kernel("A") or second.in_kernel("B"), 3.0, "one way of the second call")
        _wait_for_packets(streams, 200)
        assert first.in_kernel()
        by_socket = [tag for tag in ("A", "B") if not second.in_kernel(tag)]
        assert [second.stream(tag)["path reason"] for tag in by_socket] == ["kernel map full"]
        kernel = lab.kernel_path()
        assert kernel["reasons"]["kernel map full"] == 1
        assert kernel["refusals"] == {"kernel map full": 1}
        assert kernel["flows"] == 3
        _assert_heard(lab, streams)


def test_flow_that_moves_nothing_is_taken_back_within_a_second() -> None:
    """Somebody's program comes before ours and gives every packet to the sockets."""
    with MediaLab(prefix="stuck") as lab:
        lab.start_proxy()
        thief = load_verdict(lab, TCX_PASS)
        for device in _DEVICES:
            attach_first(lab, lab.proxy, device, thief)
        sockets = lab.caller_socket(), lab.callee_socket()
        call = lab.ng_call(*sockets)
        streams = lab.streams(*sockets)
        streams[0].start(call.at_caller, _PPS)
        streams[1].start(call.at_callee, _PPS)
        reason = "installed, but the kernel moved no packet"

        def taken_back() -> bool:
            return all(_reason(call, tag) == reason for tag in ("A", "B"))

        wait_until(taken_back, 1.5, "both flows taken back")  # 1 s from the installation, which takes a moment
        kernel = lab.kernel_path()
        assert kernel["reasons"][reason] == kernel["refusals"][reason] == 2
        assert kernel["flows"] == 0
        assert reason in lab.media_proxy.process.log()
        _wait_for_packets(streams)
        _assert_heard(lab, streams)


def _reason(call: NgCall, tag: str) -> str:
    return str(call.stream(tag).get("path reason", ""))
