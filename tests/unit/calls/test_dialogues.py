"""Which dialogue an offer or answer belongs to: the corners of rule M that single calls don't reach."""

from __future__ import annotations

import pytest

from mediaproxy.calls.call import Call, Dialogue, Monologue, Party
from mediaproxy.calls.dialogues import answered_dialogue, name_answerer, offered_dialogue
from mediaproxy.errors import RequestError
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import Flag


def call_with(*peers: Monologue) -> tuple[Call, Monologue]:
    """A call in which ``a`` has a dialogue with each of them."""
    call, offerer = Call("c", 0, 0.0, 0.0), Monologue("a", None, 0.0)
    call.monologues = [offerer, *peers]
    call.dialogues = [Dialogue(Party(offerer), Party(peer)) for peer in peers]
    return call, offerer


def untagged(via_branch: str | None) -> Monologue:
    return Monologue(None, via_branch, 0.0)


def tagged(tag: str, via_branch: str | None = None) -> Monologue:
    return Monologue(tag, via_branch, 0.0)


def offered(call: Call, offerer: Monologue, **keys: object) -> Dialogue:
    return offered_dialogue(call, offerer, NgRequest("offer", **keys), 7.0)


def answered(call: Call, offerer: Monologue, to_tag: str, **keys: object) -> Dialogue:
    return answered_dialogue(call, offerer, to_tag, NgRequest("answer", **keys), 7.0)


def test_offer_without_to_tag_or_branch_goes_to_the_latest_dialogue() -> None:
    call, a = call_with(untagged("z1"), tagged("b"))
    assert offered(call, a) is call.dialogues[1]


def test_offer_with_an_unknown_to_tag_takes_a_dialogue_whose_callee_has_no_name_yet() -> None:
    call, a = call_with(untagged("z1"), untagged("z2"), tagged("b"))
    assert offered(call, a, to_tag="new") is call.dialogues[1]
    assert offered(call, a, to_tag="new", via_branch="z1") is call.dialogues[0]


def test_offer_with_an_unknown_to_tag_and_branch_begins_a_dialogue() -> None:
    call, a = call_with(untagged("z1"), tagged("b"))
    begun = offered(call, a, to_tag="new", via_branch="z9")
    assert begun not in call.dialogues
    assert (begun.second.monologue.tag, begun.second.monologue.via_branch) == ("new", "z9")
    assert begun.second.monologue.created == 7.0


def test_offer_to_a_known_party_that_it_has_no_dialogue_with_begins_one_with_that_party() -> None:
    b, c = tagged("b"), tagged("c")
    call, _ = call_with(b, c)
    begun = offered(call, b, to_tag="c")
    assert begun not in call.dialogues
    assert (begun.first.monologue, begun.second.monologue) == (b, c)


def test_offer_to_a_tag_that_the_offerer_itself_had_once_is_for_somebody_else() -> None:
    call, a = call_with(tagged("b"))
    a.change_tag("a2")
    assert offered(call, a, to_tag="a").second.monologue is not a


def test_offer_of_a_new_branch_begins_a_dialogue_with_a_party_without_a_tag() -> None:
    call, a = call_with(untagged("z1"))
    begun = offered(call, a, via_branch="z2")
    assert begun not in call.dialogues
    assert begun.second.monologue.tag is None


def test_party_can_not_offer_to_itself_under_its_former_tag() -> None:
    call, a = call_with(tagged("b"))
    a.change_tag("a2")
    with pytest.raises(RequestError, match=r"^Invalid dialogue association$"):
        offered(call, a, to_tag="a2")


def test_answer_is_found_by_its_branch_before_its_tag() -> None:
    call, a = call_with(untagged("z1"), tagged("b", "z2"))
    assert answered(call, a, "b", via_branch="z1") is call.dialogues[0]


def test_answer_with_an_unknown_branch_is_found_by_its_tag() -> None:
    call, a = call_with(tagged("b"), untagged(None))
    assert answered(call, a, "b", via_branch="z9") is call.dialogues[0]


def test_answer_of_a_party_known_from_another_dialogue_fills_the_latest_one() -> None:
    call, a = call_with(untagged(None))
    x, b = tagged("x"), tagged("b")
    call.dialogues.insert(0, Dialogue(Party(x), Party(b)))
    call.monologues += [x, b]
    assert answered(call, a, "b") is call.dialogues[1]


@pytest.mark.parametrize("known", [True, False])
def test_answer_to_a_party_without_dialogue_begins_one(known: bool) -> None:
    call, _ = call_with(tagged("b"))
    begun = answered(call, Monologue("x", None, 0.0), "b" if known else "new", via_branch="z9")
    assert begun not in call.dialogues
    assert (begun.second.monologue is call.monologues[1]) is known


def test_flag_new_branch_makes_a_branch_of_an_answer_that_was_not_final() -> None:
    call, a = call_with(tagged("b1", "z1"))
    before = call.dialogues[0]
    before.second.interface_name, before.second.profile = "priv", "RTP/AVPF"
    assert answered(call, a, "b2") is before
    branch = answered(call, a, "b2", flags=frozenset({Flag.NEW_BRANCH}))
    assert branch is not before
    assert branch.second.monologue.via_branch == "z1"
    assert (branch.second.interface_name, branch.second.profile) == ("priv", "RTP/AVPF")


def test_name_that_another_party_had_once_is_taken_from_it() -> None:
    b = tagged("b1")
    b.change_tag("b2")
    call, _ = call_with(b, untagged("z2"))
    name_answerer(call, call.dialogues[1].second, "b1")
    assert call.dialogues[1].second.monologue.tag == "b1"
    assert (b.tag, b.aliases) == ("b2", [])


def test_name_that_another_party_has_joins_the_two() -> None:
    call, _ = call_with(tagged("b", "z1"), untagged("z2"))
    name_answerer(call, call.dialogues[1].second, "b")
    assert call.dialogues[1].second.monologue is call.dialogues[0].second.monologue


def test_own_name_changes_nothing() -> None:
    b = tagged("b")
    call, _ = call_with(b)
    name_answerer(call, call.dialogues[0].second, "b")
    assert (b.tag, b.aliases) == ("b", [])
