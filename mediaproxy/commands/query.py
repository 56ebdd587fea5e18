"""``query`` (reference B.5)."""

from __future__ import annotations

from mediaproxy.calls.call import Call, Monologue
from mediaproxy.commands.context import Context, required_call
from mediaproxy.commands.report import report_call
from mediaproxy.ng.message import NgReply, NgRequest


def query(context: Context, request: NgRequest, _now: float) -> NgReply:
    """Report on a call, or on one party of it and its peers.

    Raises:
        MissingKeyError, UnknownCallError: as the reference has them.
    """
    call = required_call(context, request)
    tag = request.to_tag if request.to_tag is not None else request.from_tag
    reply = report_call(context, call, None if tag is None else _with_peers(call, tag))
    reply["result"] = "ok"
    return reply


def _with_peers(call: Call, tag: str) -> list[Monologue]:
    monologue = call.find(tag)
    if monologue is None:
        return []
    peers = [dialogue.parties_from(monologue)[1].monologue for dialogue in call.dialogues_of(monologue)]
    return [one for one in call.monologues if one is monologue or one in peers]
