"""The test packets, and the place on the loopback device."""

from __future__ import annotations

import socket

import pytest

from mediaproxy.net import Endpoint
from mediaproxy.privileged.scratch import ip_packet, loopback, udp_payload

A = Endpoint("198.18.0.2", 40000)
B = Endpoint("198.18.0.1", 40002)


@pytest.mark.parametrize("payload", [b"", b"x", b"payload"])
def test_packet_that_is_written_is_read(payload: bytes) -> None:
    assert udp_payload(ip_packet(A, B, payload), A, B) == payload


def test_other_ends_are_not_taken_for_ours() -> None:
    packet = ip_packet(A, B, b"x")
    assert udp_payload(packet, B, A) is None
    assert udp_payload(packet, A, Endpoint(B.address, 1)) is None
    assert udp_payload(packet[:27], A, B) is None


@pytest.mark.parametrize("at", [8, 12, 21, 26, 28])
def test_wrong_checksum_is_found(at: int) -> None:
    packet = bytearray(ip_packet(A, B, b"payload"))
    packet[at] ^= 1
    assert udp_payload(bytes(packet), A, B) is None


def test_udp_without_a_checksum_is_right() -> None:
    packet = bytearray(ip_packet(A, B, b"payload"))
    packet[26:28] = bytes(2)
    assert udp_payload(bytes(packet), A, B) == b"payload"


def test_packet_padded_by_ethernet_is_read() -> None:
    assert udp_payload(ip_packet(A, B, b"x") + bytes(17), A, B) == b"x"


def test_loopback_meets_what_comes_from_the_relay_only() -> None:
    with loopback() as place:
        source, local, sender, target = place.path
        assert len({source, local, sender, target}) == 4
        assert [link.name for link in place.links] == ["lo"]
        place.send(b"x")  # nobody forwards it
        assert place.receive(0.01) is None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"y", (target.address, target.port))
            assert place.receive(0.01) is None
