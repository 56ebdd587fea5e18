"""What must be open, in words and as rules."""

from __future__ import annotations

import pytest

from mediaproxy.backends.firewall_rules import Opening, describe, iptables_rules, mark_of, nft_notrack_table, table_of

MEDIA = Opening("media", "192.0.2.1", 30000, 30099, media=True)
MEDIA6 = Opening("media", "2001:db8::1", 30000, 30000, media=True)
CONTROL = Opening("ng control", "192.0.2.1", 2223, 2223, "tcp", ("10.0.0.0/8", "192.0.2.7"))


def test_words_name_ports_addresses_and_peers() -> None:
    words = describe([MEDIA, MEDIA6, CONTROL], "default")[1:4]
    assert words == [
        "  UDP ports 30000-30099 at 192.0.2.1, from and to anybody "
        "(media; even ports RTP, odd ones RTCP; no connection tracking)",
        "  UDP port 30000 at 2001:db8::1, from and to anybody "
        "(media; even ports RTP, odd ones RTCP; no connection tracking)",
        "  TCP port 2223 at 192.0.2.1, from and to 10.0.0.0/8, 192.0.2.7 (ng control)",
    ]


def test_all_addresses_of_a_family_are_called_so() -> None:
    lines = describe([Opening("media", "::", 30000, 30001, media=True)], "default")
    assert "at any IPv6 address of this host" in lines[1]
    assert any("meta nfproto ipv6 udp dport 30000-30001 notrack" in line for line in lines)
    assert not any(" -d " in line for line in lines)


def test_each_peer_has_its_rule_in_iptables() -> None:
    rules = iptables_rules(CONTROL, "x")
    assert [table for table, _ in rules] == ["filter"] * 4
    assert rules[0][1] == (
        '-I INPUT 1 -d 192.0.2.1 -s 10.0.0.0/8 -p tcp -m tcp --dport 2223 -m comment --comment "x" -j ACCEPT'
    )


def test_media_is_not_tracked_both_ways() -> None:
    rules = [rule for table, rule in iptables_rules(MEDIA, "x") if table == "raw"]
    assert [rule.split()[1] for rule in rules] == ["PREROUTING", "OUTPUT"]
    assert all(rule.endswith("-j CT --notrack") for rule in rules)
    assert sum("notrack" in line for line in nft_notrack_table([MEDIA, MEDIA6, CONTROL], "t")) == 4
    assert nft_notrack_table([CONTROL], "t") == []


def test_what_is_to_be_pasted_is_not_marked_as_ours() -> None:
    assert not any(mark_of("default") in line or table_of("default") in line for line in describe([MEDIA], "default"))


@pytest.mark.parametrize("instance", ["", "a b", 'a"b', "a\n", "x" * 65])
def test_a_name_that_could_mean_more_than_itself_is_refused(instance: str) -> None:
    with pytest.raises(ValueError, match="no name of an instance"):
        mark_of(instance)


@pytest.mark.parametrize(
    "wrong",
    [
        ("media", "example.org", 1, 2, "udp", ()),
        ("media", "192.0.2.1", 0, 2, "udp", ()),
        ("media", "192.0.2.1", 3, 2, "udp", ()),
        ("media", "192.0.2.1", 1, 65536, "udp", ()),
        ("media", "192.0.2.1", 1, 2, "sctp", ()),
        ("media", "192.0.2.1", 1, 2, "udp", ("2001:db8::/32",)),
        ("media", "192.0.2.1", 1, 2, "udp", ("all; flush ruleset",)),
    ],
)
def test_what_is_no_opening_is_refused(wrong: tuple[str, str, int, int, str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (ipaddress words some of them)
        Opening(*wrong)
