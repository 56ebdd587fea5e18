"""Each packet is forwarded once and counted once, whatever path takes it, while paths and targets change under load.

``SOAK_SCALE=1``: 200 changes of the path and 500 new targets; else 20 and 50.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.media_lab import MediaLab, address_of, host_counters, scaled
from tests.support.processes import wait_until
from tests.support.rtp_stream import Injury, RtpStream
from tests.support.tshark import Capture, WirePacket

pytestmark = needs_sip_lab

_PPS: Final = 20_000
_PLACES_BETWEEN: Final = 3000
"""At least 150 ms from one change to the next."""
_PPS_BY_SOCKET: Final = 2000
"""For a stream that sockets carry for a while: a busy machine halts a thread for 50 ms, and their buffers are small."""
_MAX_MISORDER: Final = 100
"""RFC 3550, A.1: what comes that much too late is taken for a restart of the sender."""
_FORWARDED: Final = 63
"""Hops left of a packet that the kernel forwarded; one that a socket sends begins anew with 64."""
_SSRC: Final = 0xCA11E400


def _wait_for_place(stream: RtpStream, place: int) -> None:
    wait_until(lambda: stream.place() >= place, 30.0, f"packet {place} of the stream")


def _missing(packets: Sequence[WirePacket]) -> int:
    """How many sequence numbers a receiver of these packets, of one SSRC, misses (RFC 3550, appendix A.3)."""
    first = extended = packets[0].sequence or 0
    seen = set()
    highest = first
    for packet in packets:
        # The number that is nearest to the highest one so far.
        extended = highest + ((packet.sequence or 0) - highest + 0x8000) % 0x10000 - 0x8000
        highest = max(highest, extended)
        seen.add(extended)
    return highest - min(seen) + 1 - len(seen)


def _most_overtaken(packets: Sequence[WirePacket]) -> int:
    """By how many sequence numbers a packet was overtaken at most.

    At a change of the path the kernel's packets overtake those that wait in the relay's socket: on a busy machine
    hundreds of them.
    """
    highest = packets[0].sequence or 0
    most = 0
    for packet in packets:
        ahead = ((packet.sequence or 0) - highest + 0x8000) % 0x10000 - 0x8000
        most = max(most, -ahead)
        highest += max(ahead, 0)
    return most


def _heard_by_both_paths(packets: Sequence[WirePacket]) -> int:
    """How many packets that came twice came once by the kernel and once by a socket."""
    paths: dict[str, set[bool]] = defaultdict(set)
    for packet in packets:
        paths[packet.payload].add(packet.hops == _FORWARDED)  # the payload begins with the place in the stream
    return sum(len(each) == 2 for each in paths.values())


def test_packets_are_counted_once_while_the_path_changes_under_load() -> None:
    """Loss, swapped and doubled packets, a new SSRC and wrapping sequence numbers in the stream; each re-INVITE has the
    sockets take over until the source has shown itself again."""
    invites = scaled(200, 20) // 2
    with MediaLab(prefix="exact") as lab:
        lab.start_proxy()
        at_caller, at_callee = lab.caller_socket(), lab.callee_socket()
        call = lab.ng_call(at_caller, at_callee)
        captures = [
            Capture(lab, host, "eth0", snap=64, capture_filter=f"udp and src host {source} and udp[4:2] = 180")
            for host, source in ((lab.caller, lab.addresses.caller), (lab.callee, lab.addresses.internal))
        ]
        for capture in captures:
            capture.wait_ready()
        before = host_counters(lab.proxy)
        caller, _ = lab.streams(at_caller, at_callee)
        injury = Injury(loss=10, swap=10, twice=5, seed=3)
        caller.start(call.at_caller, _PPS, ssrc=_SSRC, sequence=60_000, injury=injury)
        wait_until(lambda: call.in_kernel("A"), 3.0, "in the kernel")
        for number in range(invites):
            place = caller.place()
            call.invite(by_caller=number % 2 == 0)
            wait_until(lambda: call.in_kernel("A"), 3.0, "back in the kernel")
            if number == invites // 2:
                caller.change_source(_SSRC + 1, 0xFFF0)
            _wait_for_place(caller, place + _PLACES_BETWEEN)
        record = caller.stop()
        # Out of the kernel and back: at least once for each, at most for each offer and each answer.
        assert 1 + invites <= lab.kernel_path()["installations"] <= 1 + 2 * invites
        after = host_counters(lab.proxy)
        report, stream, out = call.query(), call.stream("A"), call.stream("B")["stats_out"]
        for capture in captures:
            capture.stop()
        sent, received = (
            capture.packets([address[1]])
            for capture, address in zip(captures, (call.at_caller, call.callee), strict=True)
        )

        assert record.send_errors == 0
        assert len(sent) == record.sent
        # The relay's socket may have run over while this machine was busy with something else; the kernel counts that.
        overrun = after["Udp.RcvbufErrors"] - before["Udp.RcvbufErrors"]
        assert stream["stats"] == {"packets": len(sent) - overrun, "bytes": 172 * (len(sent) - overrun), "errors": 0}
        assert out["packets"] == len(received) == len(sent) - overrun
        assert record.places - record.left_out() - record.lost() == record.heard()
        assert record.lost() <= overrun
        totals = lab.media_proxy.ng.request("statistics")["statistics"]["totalstatistics"]
        by_kernel = [packet.hops == _FORWARDED for packet in received]
        assert (totals["relayedpackets_kernel"], totals["relayedpackets_user"]) == (
            by_kernel.count(True),
            by_kernel.count(False),
        )
        by_ssrc = {ssrc: [p for p in received if p.ssrc == ssrc] for ssrc in (_SSRC, _SSRC + 1)}
        for ssrc, packets in by_ssrc.items():
            counted = report["SSRC"][str(ssrc)]
            # Where one of two equal packets took the kernel and the other a socket at the moment of a change, neither
            # path knows of the other's: both count, as RFC 3550, A.3, has all duplicates count.
            if _most_overtaken(packets) < _MAX_MISORDER:
                assert counted["cumulative loss"] == _missing(packets) - _heard_by_both_paths(packets), f"{ssrc:#x}"
        assert Counter(p.ssrc for p in received) == {ssrc: len(packets) for ssrc, packets in by_ssrc.items()}
        assert sum(report["SSRC"][str(ssrc)]["packets"] for ssrc in by_ssrc) == len(received)


@pytest.mark.parametrize("learning", ["heuristic", "off"])
def test_packets_go_to_the_new_target_from_the_moment_of_the_answer_and_none_is_lost(learning: str) -> None:
    """Where SDP alone is believed the flow is replaced in place, else sockets take over until the caller is heard."""
    moves = scaled(500, 50 if learning == "off" else 10)
    with MediaLab(prefix="moves") as lab:
        lab.start_proxy()
        at_caller, targets = lab.caller_socket(), [lab.callee_socket() for _ in range(3)]
        call = lab.ng_call(at_caller, targets[0], endpoint_learning=learning)
        caller = RtpStream(lab, "caller", at_caller, targets)
        caller.start(call.at_caller, _PPS if learning == "off" else _PPS_BY_SOCKET)
        wait_until(lambda: call.in_kernel("A"), 3.0, "in the kernel")
        before, installations = host_counters(lab.proxy), lab.kernel_path()["installations"]
        answered: list[int] = []
        for number in range(1, moves + 1):
            # A relay's report of a source may have to wait for 250 ms (their rate is limited), then all is by socket.
            wait_until(lambda: call.in_kernel("A"), 3.0, "in the kernel again")
            _wait_for_place(caller, (answered[-1] if answered else 0) + 200)
            call.callee = address_of(targets[number % len(targets)])
            call.invite(by_caller=False)
            answered.append(caller.place())
        wait_until(lambda: call.in_kernel("A"), 3.0, "in the kernel again")
        _wait_for_place(caller, answered[-1] + 200)
        after, kernel = host_counters(lab.proxy), lab.kernel_path()
        record = caller.stop()
        # What is sent after an answer never goes where the callee was before. What is under way at the next move, or
        # still waits in the relay's socket, may go either way.
        for number, (first, end) in enumerate(itertools.pairwise([*answered, record.places]), 1):
            heard = [record.heard_by((number + step) % len(targets), first, end) for step in (-1, 0, 1)]
            assert heard[0] == 0, f"move {number}: {first} to {end}: {heard}"
            assert heard[1] + heard[2] == end - first, f"move {number}: {first} to {end}: {heard}"
            assert heard[1] > 0, f"move {number}: {first} to {end}: {heard}"
        overrun = after["Udp.RcvbufErrors"] - before["Udp.RcvbufErrors"]
        assert record.lost() == overrun
        assert overrun == 0 or learning != "off"
        assert record.heard_again() == record.send_errors == 0
        back_in_the_kernel = kernel["installations"] - installations
        assert back_in_the_kernel == 0 if learning == "off" else back_in_the_kernel >= moves
        assert kernel["refusals"] == {}
