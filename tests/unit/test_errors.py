"""The exception tree: the texts that clients compare, and what is for people only."""

from __future__ import annotations

import pytest

from mediaproxy.errors import (
    ConfigError,
    LimitReachedError,
    MediaProxyError,
    MissingKeyError,
    OutOfPortsError,
    PayloadError,
    PortBusyError,
    RefusedAddressError,
    RelayError,
    RequestError,
    SdpError,
    SdpIncompleteError,
    SdpRewriteError,
    SdpSyntaxError,
    UnknownCallError,
)


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (RequestError("Some reason"), "Some reason", ""),
        (PayloadError("Invalid NG data format", "at 3"), "Invalid NG data format", "at 3"),
        (MissingKeyError("from-tag"), "No from-tag in message", ""),
        (UnknownCallError("c1"), "Unknown call-id", ""),
        (LimitReachedError("sessions"), "Parallel session limit reached", "sessions"),
        (OutOfPortsError("interface pub"), "Ran out of ports", "interface pub"),
        (RefusedAddressError("224.0.0.1", "multicast"), "Refused media address 224.0.0.1: multicast", ""),
        (SdpSyntaxError("line 3"), "Failed to parse SDP", "line 3"),
        (SdpIncompleteError("no c="), "Incomplete SDP specification", "no c="),
        (SdpRewriteError("no m="), "Error rewriting SDP", "no m="),
    ],
)
def test_request_error_says_its_reason_on_the_wire_and_its_detail_apart(
    error: RequestError, reason: str, detail: str
) -> None:
    assert str(error) == reason
    assert error.detail == detail
    assert isinstance(error, MediaProxyError)


@pytest.mark.parametrize(
    ("key", "text"),
    [("port-min", "/etc/x.conf: port-min: must be even"), ("", "/etc/x.conf: must be even")],
)
def test_config_error_names_the_place_where_to_look(key: str, text: str) -> None:
    error = ConfigError("/etc/x.conf", key, "must be even")
    assert str(error) == text
    assert (error.source, error.key, error.reason) == ("/etc/x.conf", key, "must be even")


def test_errors_keep_what_they_are_about() -> None:
    assert MissingKeyError("call-id").key == "call-id"
    assert UnknownCallError("c1").call_id == "c1"
    assert LimitReachedError("load").limit == "load"
    refused = RefusedAddressError("::1", "loopback")
    assert (refused.address, refused.why) == ("::1", "loopback")


def test_busy_port_is_a_refusal_of_the_relay_and_no_error_of_the_request() -> None:
    assert issubclass(PortBusyError, RelayError)
    assert not issubclass(RelayError, RequestError)
    assert issubclass(SdpSyntaxError, SdpError)
