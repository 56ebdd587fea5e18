"""Marks for tests that need real programs (a skip names what is missing), and what their labs are told afterwards."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.sip_lab import why_no_sip_lab

_REASON: Final = why_no_sip_lab("nft", "strace")

needs_sip_lab: Final = pytest.mark.skipif(_REASON is not None, reason=_REASON or "")
"""Kamailio, SIPp, tshark, nftables, strace, root, and the proxy that is to be tested."""

FAILED: Final = pytest.StashKey[bool]()
"""Set on a test item whose call phase failed: its lab then keeps the logs."""
