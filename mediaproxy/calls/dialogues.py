"""Which dialogue an offer or answer belongs to (reference F.2, rule M): found, not yet made part of the call."""

from __future__ import annotations

from collections.abc import Iterator

from mediaproxy.calls.call import MAX_DIALOGUES, Call, Dialogue, Monologue, Party
from mediaproxy.errors import RequestError
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import Flag


def offered_dialogue(call: Call, offerer: Monologue, request: NgRequest, wall: float) -> Dialogue:
    """The dialogue that an offer belongs to.

    Args:
        wall: unix seconds, the birthday of a new monologue.
    Raises:
        RequestError: both tags are the same party's, or the call has as many dialogues as one may have.
    """
    found = _find_offered(call, offerer, request)
    if found is not None:
        return found
    answerer = _peer(call, offerer, request.to_tag) if request.to_tag is not None else None
    return _begin(call, offerer, answerer or Monologue(request.to_tag, request.via_branch, wall))


def answered_dialogue(call: Call, offerer: Monologue, to_tag: str, request: NgRequest, wall: float) -> Dialogue:
    """The dialogue that an answer belongs to; arguments and errors as ``offered_dialogue``."""
    answerer = _peer(call, offerer, to_tag)
    branch = _of_branch(call, offerer, request.via_branch)
    if branch is not None:
        return branch
    if answerer is not None:
        known = call.dialogue_between(offerer, answerer)
        if known is not None:
            return known
    latest = next(call.dialogues_of(offerer), None)
    if latest is None:
        return _begin(call, offerer, answerer or Monologue(to_tag, request.via_branch, wall))
    peer = latest.parties_from(offerer)[1].monologue
    if peer.tag is None or not (latest.final or Flag.NEW_BRANCH in request.flags):
        # A fork of which we saw one offer only: the same callee under a new tag, as far as anybody can tell.
        return latest
    return _branch_off(call, latest, offerer, answerer or Monologue(to_tag, peer.via_branch, wall))


def name_answerer(call: Call, party: Party, tag: str) -> None:
    """Give a party the tag that an answer or a re-offer named; no two monologues of a call have the same one."""
    if party.monologue.tag == tag:
        return
    holder = call.find(tag)
    if holder is not None and holder is not party.monologue and holder.tag == tag:
        party.monologue = holder  # the same phone, reached by two branches
        return
    if holder is not None and holder is not party.monologue:
        holder.aliases.remove(tag)
    party.monologue.change_tag(tag)


def _peer(call: Call, offerer: Monologue, tag: str) -> Monologue | None:
    """The other party by its tag; ``None`` if nobody has it, or only the offerer had it once.

    Raises:
        RequestError: it is the offerer's own.
    """
    if offerer.tag == tag:
        raise RequestError("Invalid dialogue association", "from-tag and to-tag name the same party")
    found = call.find(tag)
    return None if found is offerer else found


def _find_offered(call: Call, offerer: Monologue, request: NgRequest) -> Dialogue | None:
    if request.to_tag is not None:
        answerer = _peer(call, offerer, request.to_tag)
        if answerer is not None:
            return call.dialogue_between(offerer, answerer)
        # Without one: the answer that would have named the callee never reached us.
        return next(_untagged(call, offerer, request.via_branch), None)
    if request.via_branch is not None:
        return _of_branch(call, offerer, request.via_branch)
    # The same offer again, or the next of a serial fork: the same ports.
    return next(call.dialogues_of(offerer), None)


def _of_branch(call: Call, offerer: Monologue, via_branch: str | None) -> Dialogue | None:
    if via_branch is None:
        return None
    for dialogue in call.dialogues_of(offerer):
        if dialogue.parties_from(offerer)[1].monologue.via_branch == via_branch:
            return dialogue
    return None


def _untagged(call: Call, offerer: Monologue, via_branch: str | None) -> Iterator[Dialogue]:
    for dialogue in call.dialogues_of(offerer):
        peer = dialogue.parties_from(offerer)[1].monologue
        if peer.tag is None and (via_branch is None or peer.via_branch in {None, via_branch}):
            yield dialogue


def _begin(call: Call, offerer: Monologue, answerer: Monologue) -> Dialogue:
    if len(call.dialogues) >= MAX_DIALOGUES:
        raise RequestError("Too many dialogues in this call", f"at most {MAX_DIALOGUES}; delete some or all of it")
    return Dialogue(Party(offerer), Party(answerer))


def _branch_off(call: Call, dialogue: Dialogue, offerer: Monologue, answerer: Monologue) -> Dialogue:
    """Another callee of an offer that went out once.

    It faces the offerer on ports of its own. Towards the callees there is one port for all, since they were told the
    same; it serves the one that spoke last.
    """
    branch = _begin(call, offerer, answerer)
    for before, now in zip(dialogue.parties_from(offerer), (branch.first, branch.second), strict=True):
        now.interface_name = before.interface_name
        now.family = before.family
        now.family_given = before.family_given
        now.profile = before.profile
        now.medias = [media.branch_off(keep_pair=now is branch.second) for media in before.medias]
    return branch
