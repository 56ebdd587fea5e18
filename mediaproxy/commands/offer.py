"""``offer`` and ``answer`` (reference B.2): which dialogue an SDP belongs to; the rest is ``calls.offer_answer``."""

from __future__ import annotations

from collections.abc import Iterator

from mediaproxy.calls.call import Call, Dialogue, Monologue, Side
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
    if context.offer_answer.loop_marker in facts.loop_markers:
        # It comes back from another hop: this instance is in the path already (loop-protect).
        return {"sdp": body, "result": "ok"}
    is_new = call is None
    if call is None:
        call = Call(call_id, context.calls_begun, request.control_peer, now, now + context.wall_offset)
    offerer = call.find(from_tag) or Monologue(from_tag, None, now + context.wall_offset)
    dialogue = _offered_dialogue(call, offerer, request, now + context.wall_offset)
    speaker = dialogue.sides_from(offerer)[0]
    outcome = context.offer_answer.carry(call, dialogue, speaker, request, sdp, facts, now)
    if is_new:
        context.calls_begun += 1
        context.table.add(call)
        context.emit(CallEvent(EventKind.CREATED, call_id, {"from_tag": from_tag, "peer": request.control_peer}))
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
    if to_tag == from_tag:
        raise RequestError("Invalid dialogue association", "an answer's to-tag must differ from its from-tag")
    if context.offer_answer.loop_marker in facts.loop_markers:
        return {"sdp": body, "result": "ok"}
    wall = now + context.wall_offset
    offerer = call.find(from_tag)
    if offerer is None:
        # The offer went by another way: its answer makes a dialogue of its own, as if it were the offer.
        offerer = Monologue(from_tag, None, wall)
    dialogue = _answered_dialogue(call, offerer, to_tag, request, wall)
    answerer = dialogue.sides_from(offerer)[1]
    outcome = context.offer_answer.carry(call, dialogue, answerer, request, sdp, facts, now)
    if dialogue not in call.dialogues:
        _hand_over_pairs(call, answerer)
    dialogue.answered = True
    dialogue.final = dialogue.final or (request.sip_code or 0) >= _FINAL_STATUS
    return _finish(context, call, dialogue, answerer, request, outcome, now)


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


def _offered_dialogue(call: Call, offerer: Monologue, request: NgRequest, wall: float) -> Dialogue:
    """The dialogue that an offer belongs to, new ones not yet in the call (reference F.2)."""
    if request.to_tag is not None:
        answerer = call.find(request.to_tag)
        if answerer is not None and answerer is not offerer:
            return call.dialogue_between(offerer, answerer) or Dialogue(Side(offerer), Side(answerer))
        for dialogue in _untagged(call, offerer, request.via_branch):
            # The answer that would have named the callee never reached us.
            return dialogue
        return Dialogue(Side(offerer), Side(Monologue(request.to_tag, request.via_branch, wall)))
    if request.via_branch is not None:
        for dialogue in call.dialogues_of(offerer):
            if dialogue.sides_from(offerer)[1].monologue.via_branch == request.via_branch:
                return dialogue
    else:
        # The same offer again, or the next of a serial fork: the same ports.
        for dialogue in call.dialogues_of(offerer):
            return dialogue
    return Dialogue(Side(offerer), Side(Monologue(None, request.via_branch, wall)))


def _untagged(call: Call, offerer: Monologue, via_branch: str | None) -> Iterator[Dialogue]:
    for dialogue in call.dialogues_of(offerer):
        peer = dialogue.sides_from(offerer)[1].monologue
        if peer.tag is None and (via_branch is None or peer.via_branch in {None, via_branch}):
            yield dialogue


def _answered_dialogue(call: Call, offerer: Monologue, to_tag: str, request: NgRequest, wall: float) -> Dialogue:
    """The dialogue that an answer belongs to (reference F.2, rule M)."""
    if request.via_branch is not None:
        for dialogue in call.dialogues_of(offerer):
            if dialogue.sides_from(offerer)[1].monologue.via_branch == request.via_branch:
                return dialogue
    answerer = call.find(to_tag)
    if answerer is not None and answerer is not offerer:
        known = call.dialogue_between(offerer, answerer)
        if known is not None:
            return known
    for dialogue in call.dialogues_of(offerer):
        peer = dialogue.sides_from(offerer)[1].monologue
        settled = dialogue.final or Flag.NEW_BRANCH in request.flags
        if peer.tag is None or not settled:
            # A fork of which we saw one offer only: the same callee under a new tag, as far as anybody can tell.
            return dialogue
        return _branch_off(dialogue, offerer, to_tag, wall)
    return Dialogue(Side(offerer), Side(answerer or Monologue(to_tag, request.via_branch, wall)))


def _branch_off(dialogue: Dialogue, offerer: Monologue, to_tag: str, wall: float) -> Dialogue:
    """Another callee of an offer that went out once: it faces the offerer on ports of its own."""
    before_offerer, before_answerer = dialogue.sides_from(offerer)
    branch = Dialogue(Side(offerer), Side(Monologue(to_tag, before_answerer.monologue.via_branch, wall)))
    for before, now in ((before_offerer, branch.first), (before_answerer, branch.second)):
        now.interface_name = before.interface_name
        now.family = before.family
        now.family_given = before.family_given
        # The callee was told one port for all branches of the offer; the offerer gets another one for each.
        now.medias = [media.branch_off(keep_pair=now is branch.second) for media in before.medias]
    return branch


def _hand_over_pairs(call: Call, answerer: Side) -> None:
    """A branch took over port pairs from the dialogue that it branched off from."""
    taken = {id(media.pair) for media in answerer.medias if media.pair is not None}
    for media in call.medias():
        if media.pair is not None and id(media.pair) in taken:
            media.let_go()


def _finish(
    context: Context, call: Call, dialogue: Dialogue, speaker: Side, request: NgRequest, outcome: Outcome, now: float
) -> NgReply:
    """Make what was prepared part of the call, and reply."""
    if dialogue not in call.dialogues:
        call.dialogues.append(dialogue)
    for side in (dialogue.first, dialogue.second):
        if side.monologue not in call.monologues:
            call.monologues.append(side.monologue)
    listener = dialogue.second if speaker is dialogue.first else dialogue.first
    named = speaker if request.command == "answer" else listener
    if request.to_tag is not None and named.monologue.tag != request.to_tag:
        named.monologue.change_tag(request.to_tag)
    if dialogue.deleted:
        context.lifecycle.revive(dialogue)
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
