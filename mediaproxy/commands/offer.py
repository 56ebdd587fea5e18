"""``offer`` and ``answer`` (reference B.2).

Which dialogue an SDP belongs to is decided in ``calls.dialogues``, what becomes of it in ``calls.offer_answer``.
"""

from __future__ import annotations

from mediaproxy.calls.call import Call, Dialogue, Monologue, Party
from mediaproxy.calls.dialogues import answered_dialogue, name_answerer, offered_dialogue
from mediaproxy.calls.events import CallEvent, EventKind, Fact
from mediaproxy.calls.offer_answer import Outcome
from mediaproxy.commands.context import Context, required_call_id
from mediaproxy.errors import LimitReachedError, MissingKeyError, RequestError, SdpRewriteError, UnknownCallError
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ng.words import Flag
from mediaproxy.sdp import SessionDescription, SessionFacts, parse_sdp, read_facts

_FINAL_STATUS = 200


def offer(context: Context, request: NgRequest, now: float) -> NgReply:
    """Process an SDP offer; the reply's ``sdp`` is for the other party.

    Raises:
        RequestError: with the texts of reference B.2; nothing was changed.
    """
    body, call_id, from_tag = _required(request)
    call = context.table.get(call_id)
    if call is None and context.max_sessions is not None and len(context.table) >= context.max_sessions:
        context.totals.rejected += 1
        raise LimitReachedError("Parallel session limit reached")
    sdp, facts = _read(body)
    if _is_ours(context, request, facts):
        # It comes back from another hop: this instance is in the path already.
        return {"sdp": body, "result": "ok"}
    wall = now + context.wall_offset
    is_new = call is None
    if call is None:
        call = Call(call_id, context.calls_begun, now, wall)
    offerer = call.find(from_tag) or Monologue(from_tag, None, wall)
    dialogue = offered_dialogue(call, offerer, request, wall)
    speaker, listener = dialogue.parties_from(offerer)
    outcome = context.offer_answer.carry(call, dialogue, speaker, request, sdp, facts, now)
    if is_new:
        context.calls_begun += 1
        context.table.add(call)
        context.emit(CallEvent(EventKind.CREATED, call_id, {"from_tag": from_tag, "peer": request.control_peer}))
    if request.to_tag is not None:
        name_answerer(call, listener, request.to_tag)
    dialogue.release_at = None  # an offer revives what was deleted
    return _finish(context, call, dialogue, speaker, request, outcome, now)


def answer(context: Context, request: NgRequest, now: float) -> NgReply:
    """Process an SDP answer; it belongs to ``to-tag``, and the reply's ``sdp`` is for ``from-tag``.

    Raises:
        RequestError: with the texts of reference B.2; nothing was changed.
    """
    body, call_id, from_tag = _required(request)
    to_tag = request.to_tag
    if to_tag is None:
        raise MissingKeyError("to-tag")
    call = context.table.get(call_id)
    if call is None:
        raise UnknownCallError(call_id)
    sdp, facts = _read(body)
    wall = now + context.wall_offset
    # An unknown from-tag: the offer went by another way, its answer makes a dialogue of its own.
    offerer = call.find(from_tag) or Monologue(from_tag, None, wall)
    dialogue = answered_dialogue(call, offerer, to_tag, request, wall)
    if dialogue.answered and _is_ours(context, request, facts):
        return {"sdp": body, "result": "ok"}
    answerer = dialogue.parties_from(offerer)[1]
    outcome = context.offer_answer.carry(call, dialogue, answerer, request, sdp, facts, now)
    name_answerer(call, answerer, to_tag)
    dialogue.answered = True
    if (request.sip_code or 0) >= _FINAL_STATUS and Flag.PROVISIONAL not in request.flags:
        dialogue.final = True
    return _finish(context, call, dialogue, answerer, request, outcome, now)


def _is_ours(context: Context, request: NgRequest, facts: SessionFacts) -> bool:
    """Whether ``loop-protect`` is asked for and the SDP carries the marker of this instance."""
    return Flag.LOOP_PROTECT in request.flags and context.offer_answer.loop_marker in facts.loop_markers


def _required(request: NgRequest) -> tuple[bytes, str, str]:
    """``sdp``, ``call-id`` and ``from-tag``, complained about in this order."""
    if request.sdp is None:
        raise RequestError("No SDP body in message")
    call_id = required_call_id(request)
    if request.from_tag is None:
        raise MissingKeyError("from-tag")
    return request.sdp, call_id, request.from_tag


def _read(body: bytes) -> tuple[SessionDescription, SessionFacts]:
    sdp = parse_sdp(body)
    facts = read_facts(sdp)
    if not facts.medias:
        raise SdpRewriteError("the SDP has no m= line")
    return sdp, facts


def _finish(
    context: Context, call: Call, dialogue: Dialogue, speaker: Party, request: NgRequest, outcome: Outcome, now: float
) -> NgReply:
    """Make what was prepared part of the call, and reply."""
    if dialogue not in call.dialogues:
        call.dialogues.append(dialogue)
    for party in (dialogue.first, dialogue.second):
        if party.monologue not in call.monologues:
            call.monologues.append(party.monologue)
    call.drop_idle_monologues()
    label = request.set_label or request.label
    if label is not None:
        speaker.monologue.label = label
    if request.metadata is not None:
        call.metadata = request.metadata
    context.lifecycle.signalled(call, now)
    context.configure(outcome.configs)
    kind = EventKind.ANSWERED if request.command == "answer" else EventKind.OFFERED
    facts: dict[str, Fact] = {
        "from_tag": request.from_tag or "",
        "to_tag": request.to_tag or "",
        "medias": len(speaker.medias),
    }
    context.emit(CallEvent(kind, call.call_id, facts))
    reply: NgReply = {"sdp": outcome.sdp}
    if outcome.warnings:
        warning = "; ".join(outcome.warnings)
        reply["warning"] = warning
        context.emit(CallEvent(EventKind.WARNING, call.call_id, {"text": warning}))
    reply["result"] = "ok"
    return reply
