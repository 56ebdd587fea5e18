"""``delete`` (reference B.3)."""

from __future__ import annotations

from mediaproxy.calls.call import Call, Dialogue
from mediaproxy.commands.context import Context, required_call_id
from mediaproxy.commands.report import report_call
from mediaproxy.errors import RequestError
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ng.words import Flag

NOT_FOUND = "Call-ID not found or tags didn't match"


def delete(context: Context, request: NgRequest, now: float) -> NgReply:
    """Delete a call or some of its branches; their ports stay open for the delete delay.

    Deleting what does not exist is a success with a warning: SIP proxies delete calls that never had media.

    Raises:
        MissingKeyError: no call-id.
        RequestError: nothing matched, and the flag ``fatal`` is set.
    """
    call = context.table.get(required_call_id(request))
    dialogues = _select(call, request) if call is not None else []
    if call is None or not dialogues:
        if Flag.FATAL in request.flags:
            raise RequestError(NOT_FOUND)
        return {"warning": NOT_FOUND, "result": "ok"}
    reply: NgReply = {} if Flag.FAST in request.flags else report_call(context, call, None)
    context.lifecycle.delete(call, dialogues, request.delete_delay, now)
    reply["result"] = "ok"
    return reply


def _select(call: Call, request: NgRequest) -> list[Dialogue]:
    """The dialogues to delete; those in their delay count too, so that a second delete can shorten it."""
    if request.from_tag is None:
        return list(call.dialogues)
    to_tag = request.to_tag if Flag.TO_TAG in request.flags else None
    if to_tag is None and request.via_branch is not None:
        of_branch = [
            dialogue
            for dialogue in call.dialogues
            if request.via_branch in {dialogue.first.monologue.via_branch, dialogue.second.monologue.via_branch}
        ]
        if of_branch:
            return of_branch
    monologue = call.find(to_tag if to_tag is not None else request.from_tag)
    if monologue is None and to_tag is not None:
        origin = call.find(request.from_tag)
        if origin is not None and not any(dialogue.answered for dialogue in call.dialogues_of(origin)):
            monologue = origin
    if monologue is None:
        return []
    chosen = list(call.dialogues_of(monologue))
    if any(dialogue.answered for dialogue in chosen):
        # The call was this dialogue: branches of the same parties that nobody ever answered go with it.
        chosen += [
            dialogue
            for dialogue in call.dialogues
            if not dialogue.answered and dialogue not in chosen and _shares_party(dialogue, chosen)
        ]
    return chosen


def _shares_party(dialogue: Dialogue, others: list[Dialogue]) -> bool:
    return any(other.joins(dialogue.first.monologue) or other.joins(dialogue.second.monologue) for other in others)
