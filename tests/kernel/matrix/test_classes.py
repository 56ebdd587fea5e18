"""What is not the RTP of a call: RTCP beside it and within it, STUN, DTLS, keep-alives, and media that is not RTP."""

from __future__ import annotations

import struct

import pytest

from mediaproxy.datapath.flow import FlowReason
from tests.kernel.matrix.bed import LEFT, RIGHT, TOPOLOGIES, Bed
from tests.kernel.matrix.call import FAX, Call, Party
from tests.kernel.matrix.phone import Arrival
from tests.support.datagrams import datagrams_delivered
from tests.support.rtp_agent import sender_report

STUN = struct.pack("!HHI12s", 0x0011, 0, 0x2112A442, b"transaction!")
"""A Binding indication: asks for no answer."""
DTLS = struct.pack("!BHHIHH", 23, 0xFEFD, 1, 0, 1, 4) + b"data"
ZRTP = struct.pack("!BBHII", 0x10, 0, 1, 0x5A525450, 7) + bytes(16)
SHORT = {"STUN": STUN, "DTLS": DTLS, "ZRTP": ZRTP, "empty": b"", "CR LF": b"\r\n", "one byte": b"\x80"}
COUNT = 5


def report_of(party: Party) -> bytes:
    """A sender report."""
    return sender_report(party.phone.ssrc, party.sent * 160, party.sent, party.sent_bytes, party.tag, 0.0)


def data_of(arrivals: list[Arrival]) -> list[bytes]:
    return [arrival.data for arrival in arrivals]


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
def test_rtcp_on_the_next_port_goes_by_the_sockets(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (LEFT, RIGHT), families) as call:
        call.settle()
        before = datagrams_delivered(bed.relay)
        for _ in range(COUNT):
            for party in call.parties:
                party.phone.rtcp.send(report_of(party), party.relay_rtcp)
        for party in call.parties:
            arrivals = party.phone.rtcp.expect(COUNT)
            assert data_of(arrivals) == [report_of(call.peer(party))] * COUNT
            assert {arrival.source for arrival in arrivals} == {party.relay_rtcp}
        assert datagrams_delivered(bed.relay) - before == 2 * COUNT
        for party in call.parties:
            rtcp = call.streams(party)[1]
            assert rtcp["stats"]["packets"] == rtcp["stats_out"]["packets"] == COUNT
            assert (rtcp["path"], rtcp["path reason"]) == ("userspace", FlowReason.RTCP.value)
        call.carried_by()


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
def test_rtcp_on_the_port_of_rtp_is_told_apart(bed: Bed, families: tuple[int, int]) -> None:
    with Call(bed, (LEFT, RIGHT), families, more=["a=rtcp-mux"], rtcp_mux=["accept"]) as call:
        call.settle()
        before = datagrams_delivered(bed.relay)
        for _ in range(COUNT):
            for party in call.parties:
                party.phone.rtp.send(report_of(party), party.relay)
        for party in call.parties:
            assert data_of(party.phone.rtp.expect(COUNT)) == [report_of(call.peer(party))] * COUNT
        assert datagrams_delivered(bed.relay) - before == 2 * COUNT
        for party in call.parties:
            assert call.streams(party)[1]["stats"]["packets"] == COUNT
        call.carried_by()


@pytest.mark.parametrize("topology", ["two interfaces", "both on the host"])
def test_what_is_not_rtp_goes_by_the_sockets_and_through(bed: Bed, topology: str) -> None:
    with Call(bed, TOPOLOGIES[topology]) as call:
        call.settle()
        before = datagrams_delivered(bed.relay)
        for data in SHORT.values():
            call.a.phone.rtp.send(data, call.a.relay)
        arrivals = call.b.phone.rtp.expect(len(SHORT))
        assert data_of(arrivals) == list(SHORT.values())
        assert {arrival.source for arrival in arrivals} == {call.b.relay}
        receivers = 2 if call.b.side.is_local else 1
        assert datagrams_delivered(bed.relay) - before == receivers * len(SHORT)
        call.exchange(COUNT)
        assert call.has_path(call.a, call.expected_reason(call.a))


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
def test_fax_that_is_not_rtp_is_carried_by_the_kernel_where_the_backend_can(
    bed: Bed, families: tuple[int, int]
) -> None:
    with Call(bed, (LEFT, RIGHT), families, media=FAX) as call:
        reason = call.expected_reason(call.a)
        if bed.backend.is_kernel and not bed.backend.opaque:
            reason = FlowReason.OPAQUE
        call.settle({"A": reason, "B": reason})
        udptl = [struct.pack("!HBB", number, number % 200, 0) + bytes(number % 40) for number in range(20)]
        before = datagrams_delivered(bed.relay)
        for packet in udptl:
            call.a.send(packet)
        call.heard(call.b, udptl)
        assert datagrams_delivered(bed.relay) - before == (0 if reason is None else len(udptl))
        call.check_counters()
