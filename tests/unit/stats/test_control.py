from __future__ import annotations

from mediaproxy.stats.control import COMMAND_LABELS, MAX_PEERS, OTHER_COMMANDS, OTHER_PEERS, ControlCounters


def test_requests_are_counted_by_peer_and_command() -> None:
    counters = ControlCounters()
    counters.add_request("192.0.2.1", "offer", 0.5, failed=False)
    counters.add_request("192.0.2.1", "offer", 0.25, failed=True)
    counters.add_request("192.0.2.2", "start recording", 1.0, failed=True)
    first = counters.peers["192.0.2.1"]
    assert (first.commands["offer"].count, first.commands["offer"].errors, first.commands["offer"].seconds) == (
        2,
        1,
        0.75,
    )
    assert first.errors == 1
    counters.add_request("192.0.2.2", "offer", 0.25, failed=False)
    totals = counters.totals()
    assert (totals["offer"].count, totals["offer"].seconds, totals["start recording"].errors) == (3, 1.0, 1)


def test_names_of_commands_and_peers_are_bounded() -> None:
    counters = ControlCounters()
    for number in range(3 * MAX_PEERS):
        counters.add_request(f"peer {number}", f"command {number}", 0.0, failed=True)
    assert len(counters.peers) == MAX_PEERS + 1
    assert counters.peers[OTHER_PEERS].commands[OTHER_COMMANDS].count == 2 * MAX_PEERS
    assert set(counters.totals()) == {OTHER_COMMANDS}


def test_labels_are_unique() -> None:
    assert len(set(COMMAND_LABELS.values())) == len(COMMAND_LABELS)
