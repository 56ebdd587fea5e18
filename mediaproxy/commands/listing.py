"""``list`` (reference B.4)."""

from __future__ import annotations

from itertools import islice

from mediaproxy.commands.context import Context
from mediaproxy.errors import RequestError
from mediaproxy.ng.message import NgReply, NgRequest


def list_calls(context: Context, request: NgRequest, _now: float) -> NgReply:
    """The call-ids, oldest call first, at most ``limit`` of them.

    Raises:
        RequestError: the limit is negative.
    """
    if request.limit < 0:
        raise RequestError("invalid limit, must be >= 0")
    return {"calls": list(islice(context.table, request.limit)), "result": "ok"}
