"""``ping`` (reference B.1): anything but ``pong`` makes a SIP proxy disable the node."""

from __future__ import annotations

from mediaproxy.commands.context import Context
from mediaproxy.ng.message import NgReply, NgRequest


def ping(_context: Context, _request: NgRequest, _now: float) -> NgReply:
    """Say that we are here and answer in time."""
    return {"result": "pong"}
