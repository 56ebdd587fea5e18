"""The values that cross at the start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.privileged.settings import (
    Candidate,
    FirewallMode,
    KernelPath,
    PrivilegedSettings,
    RelayRange,
    Started,
    read_json,
    write_json,
)
from mediaproxy.privileged.wire import WireError

SETTINGS = PrivilegedSettings(
    "edge", KernelPath.NFT, "/run/x/edge", (RelayRange("192.0.2.1", 1, 2),), 9, NftForm.FAST, True, FirewallMode.MANAGE
)
STARTED = Started("tc", Capabilities(tap=True, max_flows=7), 9, (Candidate("tc", True, "so"),), ("note",), True)


def test_values_that_are_written_are_read_the_same() -> None:
    assert read_json(PrivilegedSettings, write_json(SETTINGS)) == SETTINGS
    assert read_json(Started, write_json(STARTED)) == STARTED


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"instance": 5}', b"[" * 20_000])
def test_something_else_is_refused_by_name(body: bytes) -> None:
    with pytest.raises(WireError, match="not PrivilegedSettings"):
        read_json(PrivilegedSettings, body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_by_name(body: bytes) -> None:
    with pytest.raises(WireError):
        read_json(Started, body)
