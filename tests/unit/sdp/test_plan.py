"""The values of a plan."""

from __future__ import annotations

from mediaproxy.sdp.plan import Direction, Origin


def test_origin_value_is_what_was_parsed() -> None:
    origin = Origin("-", "9007014018064824943", "18446744073709551616", "IN", "IP6", "2001:db8::1")
    assert origin.to_value() == "- 9007014018064824943 18446744073709551616 IN IP6 2001:db8::1"


def test_direction_values_are_the_attributes_names() -> None:
    assert {direction.value for direction in Direction} == {"sendrecv", "sendonly", "recvonly", "inactive"}
