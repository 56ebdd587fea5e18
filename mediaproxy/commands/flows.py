"""``list flows`` and ``sweep flows``: flows that a dead daemon left in the kernel. Ours, not rtpengine's."""

from __future__ import annotations

from mediaproxy.commands.context import Context
from mediaproxy.ng.message import NgReply, NgRequest


def list_flows(context: Context, _request: NgRequest, now: float) -> NgReply:
    """How many orphan flows there are, and of the first hundred when each was last heard."""
    total, listed = (0, []) if context.orphans is None else context.orphans.report(now)
    return {"total": total, "orphans": listed, "result": "ok"}


def sweep_flows(context: Context, _request: NgRequest, now: float) -> NgReply:
    """End the orphan flows now and give their ports back. Says how many there were."""
    ended = [] if context.orphans is None else context.orphans.sweep(now)
    for event in ended:
        context.emit(event)
    return {"ended": len(ended), "result": "ok"}
