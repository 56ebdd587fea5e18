"""Monologues, dialogues and what a call keeps of them."""

from __future__ import annotations

from mediaproxy.calls.call import MAX_ALIASES, Call, ClosedStreams, Dialogue, Monologue, Party
from mediaproxy.datapath import StreamCounters


def call_of(*pairs: tuple[Monologue, Monologue]) -> Call:
    call = Call("c", 0, 0.0, 0.0)
    for first, second in pairs:
        call.dialogues.append(Dialogue(Party(first), Party(second)))
        call.monologues += [one for one in (first, second) if one not in call.monologues]
    return call


def monologue(tag: str | None) -> Monologue:
    return Monologue(tag, None, 0.0)


def test_tag_that_is_replaced_becomes_an_alias() -> None:
    party = monologue(None)
    party.change_tag("b1")
    assert party.aliases == [], "it had none before"
    party.change_tag("b2")
    party.change_tag("b2")
    assert (party.tag, party.aliases) == ("b2", ["b1"])
    party.change_tag("b1")
    assert (party.tag, party.aliases) == ("b1", ["b2"])


def test_oldest_aliases_are_forgotten() -> None:
    party = monologue("t0")
    for number in range(1, 2 * MAX_ALIASES):
        party.change_tag(f"t{number}")
    assert len(party.aliases) == MAX_ALIASES
    assert party.aliases[-1] == f"t{2 * MAX_ALIASES - 2}"


def test_present_tag_is_found_before_a_former_one() -> None:
    former, present = monologue("x"), monologue("x")
    former.change_tag("y")
    call = call_of((former, present))
    assert call.find("x") is present
    assert call.find("y") is former
    present.change_tag("z")
    assert call.find("x") is former, "the first that ever had it"
    assert call.find("nobody") is None


def test_dialogues_of_a_party_come_latest_first() -> None:
    a, b, c, d = (monologue(tag) for tag in "abcd")
    call = call_of((a, b), (c, a), (c, d))
    assert list(call.dialogues_of(a)) == [call.dialogues[1], call.dialogues[0]]


def test_dialogue_between_two_parties_is_found_from_either_side() -> None:
    a, b, c = (monologue(tag) for tag in "abc")
    call = call_of((a, b), (a, c))
    assert call.dialogue_between(b, a) is call.dialogues[0]
    assert call.dialogue_between(a, c) is call.dialogues[1]
    assert call.dialogue_between(b, c) is None
    assert call.dialogue_between(a, a) is None


def test_parties_are_ordered_as_seen_by_one() -> None:
    a, b = monologue("a"), monologue("b")
    dialogue = call_of((a, b)).dialogues[0]
    assert dialogue.parties_from(a) == (dialogue.first, dialogue.second)
    assert dialogue.parties_from(b) == (dialogue.second, dialogue.first)


def test_party_without_a_dialogue_is_dropped() -> None:
    a, b, c = (monologue(tag) for tag in "abc")
    call = call_of((a, b), (a, c))
    del call.dialogues[0]
    call.drop_idle_monologues()
    assert call.monologues == [a, c]


def test_closed_streams_add_up() -> None:
    sums, other = ClosedStreams(), ClosedStreams()
    sums.add(StreamCounters(3, 300, 1, 9, 9, None, ()))
    other.add(sums)
    other.add(sums)
    assert (other.packets, other.bytes, other.errors) == (6, 600, 2)
