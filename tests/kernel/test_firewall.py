"""``firewall = manage`` opens real firewalls for real packets, and leaves them as they were."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from mediaproxy.backends import firewall_proof
from mediaproxy.backends.firewall import Firewall, FirewallError, FirewallReport, Opening, Proof, describe
from mediaproxy.backends.firewall_rules import mark_of
from tests.support.flow_lab import (
    V4,
    V6,
    Addresses,
    FlowLab,
    endpoint_of,
    flow_lab,
    received,
    waiting,
    why_not_iptables,
)
from tests.support.namespace_thread import NamespaceThread
from tests.support.processes import wait_until

WHY_NOT = why_not_iptables()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")

FIRST, LAST = 31000, 31099
MARK = mark_of("test")
FAMILIES = pytest.mark.parametrize("addresses", [V4, V6], ids=["ip4", "ip6"])


def iptables(lab: FlowLab, kind: str) -> None:
    """A host that drops what it does not know, in both directions, and lets answers in by connection tracking."""
    for command in (f"iptables-{kind}", f"ip6tables-{kind}"):
        icmp = "ipv6-icmp" if command.startswith("ip6") else "icmp"
        for rule in (
            f"-A INPUT -p {icmp} -j ACCEPT",
            f"-A OUTPUT -p {icmp} -j ACCEPT",
            "-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-A INPUT -p tcp -m tcp --dport 22 -m comment --comment ssh -j ACCEPT",
            "-A OUTPUT -p tcp -m tcp --sport 22 -j ACCEPT",
            "-A INPUT -j REJECT",
            "-P INPUT DROP",
            "-P OUTPUT DROP",
        ):
            lab.relay.run(command, *rule.split())


def legacy(lab: FlowLab) -> None:
    iptables(lab, "legacy")


def iptables_nft(lab: FlowLab) -> None:
    iptables(lab, "nft")


def native(lab: FlowLab) -> None:
    lab.relay.nft("""
table inet site {
	chain in-coming {
		type filter hook input priority filter; policy accept;
		meta l4proto { icmp, ipv6-icmp } accept
		ct state established,related accept
		tcp dport 22 accept comment "ssh"
		counter drop
	}
	chain out-going {
		type filter hook output priority filter; policy drop;
		meta l4proto { icmp, ipv6-icmp } accept
	}
}
""")


def several(lab: FlowLab) -> None:
    legacy(lab)
    iptables_nft(lab)
    native(lab)


HOSTS = pytest.mark.parametrize("rules", [legacy, iptables_nft, native, several])


def opening_of(addresses: Addresses) -> Opening:
    return Opening("media", addresses.left_relay, FIRST, LAST, media=True)


CONTROL = Opening("ng control", "10.1.0.1", 2223, 2223, peers=("10.1.0.0/24",))


def saved(lab: FlowLab) -> list[str]:
    """All rules, but for counters, handles and tables in which nothing is."""
    commands = ["iptables-legacy-save", "ip6tables-legacy-save"]
    lines = "".join(lab.relay.run(command) for command in commands).splitlines()
    text = "\n".join(re.sub(r" \[\d+:\d+\]", "", line) for line in lines if not line.startswith("#"))
    text = re.sub(r"\*\w+\n(:\w+ ACCEPT\n)*COMMIT\n?", "", text)
    return [
        *text.splitlines(),
        *re.sub(r"packets \d+ bytes \d+", "", lab.relay.run("nft", "list", "ruleset")).split("\n"),
    ]


class Host:
    """The relay's host, with its firewall, as the privileged process sees it."""

    def __init__(self, lab: FlowLab, thread: NamespaceThread) -> None:
        self.lab = lab
        self.thread = thread

    def firewall(self, *openings: Opening, prove: Callable[[Opening], Proof] = firewall_proof.prove) -> Firewall:
        return Firewall("test", openings or (opening_of(V4), opening_of(V6), CONTROL), prove)

    def manage(self, firewall: Firewall) -> FirewallReport:
        return self.thread.do(firewall.manage)

    def lets_pass(self, addresses: Addresses, port: int = FIRST) -> tuple[bool, bool]:
        """Whether a datagram of the left phone arrives, and whether one leaves to it."""
        phone = self.lab.socket(self.lab.left, addresses.left)
        relay = self.lab.socket(self.lab.relay, addresses.left_relay, port)
        for udp in (phone, relay):
            udp.settimeout(0.3)
        arrives = leaves = False
        try:
            phone.sendto(b"in", relay.getsockname())
            arrives = received(relay)[0] == b"in"
        except (TimeoutError, ConnectionRefusedError):
            pass
        try:
            relay.sendto(b"out", phone.getsockname())
            leaves = received(phone) == (b"out", endpoint_of(relay))
        except (TimeoutError, PermissionError, ConnectionRefusedError):
            pass
        phone.close()
        relay.close()
        return arrives, leaves


@pytest.fixture
def host() -> Iterator[Host]:
    with flow_lab() as lab, NamespaceThread(lab.relay) as thread:
        yield Host(lab, thread)


@HOSTS
def test_media_passes_after_and_not_before_and_nothing_else_does(host: Host, rules: Callable[[FlowLab], None]) -> None:
    rules(host.lab)
    before = saved(host.lab)
    for addresses in (V4, V6):
        assert host.lets_pass(addresses) == (False, False)
    firewall = host.firewall()
    report = host.manage(firewall)
    assert len(report.changed) == (3 if rules is several else 1)
    assert all("arrived at" in proof for proof in report.proofs)
    assert len(report.proofs) == 2
    for addresses in (V4, V6):
        assert host.lets_pass(addresses) == host.lets_pass(addresses, LAST) == (True, True)
        assert host.lets_pass(addresses, LAST + 1) == (False, False), "what is not media stays shut"
        assert host.lets_pass(addresses, CONTROL.first_port) == (False, False), "and so does what is the operator's"
    # conntrack -L takes in everything that is tracked.
    assert str(FIRST) not in host.lab.relay.run("conntrack", "-L", "-p", "udp")
    assert host.thread.do(firewall.withdraw) > 0
    assert saved(host.lab) == before
    assert host.lets_pass(V4) == host.lets_pass(V6) == (False, False)
    assert host.thread.do(firewall.withdraw) == 0


@HOSTS
def test_what_a_dead_instance_left_is_replaced(host: Host, rules: Callable[[FlowLab], None]) -> None:
    rules(host.lab)
    before = saved(host.lab)
    other = Firewall("other", [opening_of(V4)])
    host.manage(other)
    with_other = saved(host.lab)
    host.manage(host.firewall())
    host.manage(host.firewall(Opening("media", V4.left_relay, 32000, 32000, media=True)))
    assert host.lets_pass(V4, 32000) == (True, True)
    assert host.lets_pass(V6) == (False, False)
    host.thread.do(host.firewall().withdraw)
    assert saved(host.lab) == with_other, "another instance's are not touched"
    host.thread.do(other.withdraw)
    assert saved(host.lab) == before


def test_a_host_without_rules_that_drop_is_left_alone(host: Host) -> None:
    host.lab.relay.nft("""
table inet site {
	chain counting {
		type filter hook input priority filter; policy accept;
		udp dport 5060 counter accept
	}
}
""")
    before = saved(host.lab)
    report = host.manage(host.firewall())
    assert report.found == report.changed == ()
    assert len(report.proofs) == 2
    assert saved(host.lab) == before


@FAMILIES
def test_a_host_that_routes_by_source_is_proven_open(host: Host, addresses: Addresses) -> None:
    native(host.lab)
    family = "-6" if addresses is V6 else "-4"
    relay = host.lab.relay
    relay.sysctl(ipv4__conf__all__rp_filter=1)
    relay.ip(family, "route", "add", "default", "via", addresses.left, "table", "100")
    relay.ip(family, "rule", "add", "from", addresses.left_relay, "lookup", "100")
    (proof,) = host.manage(host.firewall(opening_of(addresses))).proofs
    assert "arrived at" in proof


def test_all_addresses_of_the_host_can_be_opened(host: Host) -> None:
    several(host.lab)
    host.manage(
        host.firewall(
            Opening("media", "0.0.0.0", FIRST, LAST, media=True), Opening("media", "::", FIRST, LAST, media=True)
        )
    )
    assert host.lets_pass(V4) == host.lets_pass(V6) == (True, True)


@HOSTS
def test_what_stays_shut_is_refused_with_the_reason_and_taken_back(
    host: Host, rules: Callable[[FlowLab], None]
) -> None:
    rules(host.lab)
    host.lab.relay.nft("""
table inet deep {
	chain early {
		type filter hook prerouting priority -350; policy accept;
		udp dport 31000-31099 drop
	}
}
""")
    before = saved(host.lab)
    with pytest.raises(FirewallError, match=f"does not arrive at {re.escape(V4.left_relay)} port {LAST}") as refusal:
        host.manage(host.firewall(opening_of(V4)))
    assert "taken back" in str(refusal.value)
    assert "INPUT" in str(refusal.value) or "in-coming" in str(refusal.value)
    assert saved(host.lab) == before


def test_what_lets_nothing_out_is_refused_too(host: Host) -> None:
    native(host.lab)
    host.lab.relay.nft("""
table inet deep {
	chain late {
		type filter hook postrouting priority 0; policy accept;
		udp sport 31000-31099 drop
	}
}
""")
    before = saved(host.lab)
    with pytest.raises(FirewallError, match="the answer does not leave"):
        host.manage(host.firewall(opening_of(V4)))
    assert saved(host.lab) == before


def test_what_cannot_be_proven_is_said(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    legacy(host.lab)

    def refuse() -> int:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(firewall_proof, "_enter_new_namespace", refuse)
    report = host.manage(host.firewall(opening_of(V4)))
    assert report.proofs == ("not tried: Operation not permitted",)
    assert host.lets_pass(V4) == (True, True)


def test_a_table_that_somebody_owns_is_a_reason(host: Host) -> None:
    """The flag ``owner`` forbids others any change while a process holds the table."""
    owner = subprocess.Popen(
        host.lab.relay.command("nft", "-i"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert owner.stdin is not None
    with owner, owner.stdin as stdin:
        stdin.write("add table inet site { flags owner; }\n")
        stdin.write("add chain inet site in { type filter hook input priority 0; policy drop; }\n")
        stdin.flush()
        wait_until(lambda: "policy drop" in host.lab.relay.run("nft", "list", "ruleset"), 5.0, "the owner's chain")
        before = saved(host.lab)
        with pytest.raises(FirewallError, match="not permitted"):
            host.manage(host.firewall(opening_of(V4)))
        assert saved(host.lab) == before


def test_the_proof_leaves_nothing_and_uses_a_free_port(host: Host) -> None:
    taken = host.lab.socket(host.lab.relay, V4.left_relay, LAST)
    host.thread.do(lambda: firewall_proof.prove(opening_of(V4)))  # what is loaded once stays
    links = host.lab.relay.ip("-o", "link")
    descriptors = len(os.listdir("/proc/self/fd"))
    proof = host.thread.do(lambda: firewall_proof.prove(opening_of(V4)))
    assert proof == Proof(True, proof.text)
    assert f"port {LAST - 1}" in proof.text
    assert waiting(taken) == []
    assert host.lab.relay.ip("-o", "link") == links
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_no_free_port_is_no_proof(host: Host) -> None:
    taken = host.lab.socket(host.lab.relay, V4.left_relay, FIRST)
    assert taken.family == socket.AF_INET
    opening = Opening("media", V4.left_relay, FIRST, FIRST, media=True)
    assert host.thread.do(lambda: firewall_proof.prove(opening)).passed is None


@FAMILIES
def test_what_is_described_opens_the_host(host: Host, addresses: Addresses) -> None:
    iptables_nft(host.lab)
    lines = [line.strip() for line in describe([opening_of(addresses), CONTROL], "test")]
    command = "ip6tables" if addresses is V6 else "iptables"
    script = "\n".join(line.replace(command, f"{command}-nft", 1) for line in lines if line.startswith(f"{command} "))
    host.lab.relay.run("sh", "-ec", script)
    assert host.lets_pass(addresses) == (True, True)
    pasted = saved(host.lab)
    host.manage(host.firewall())
    host.thread.do(host.firewall().withdraw)
    assert saved(host.lab) == pasted, "what an operator has pasted is the operator's"
    host.lab.relay.run("nft", "flush", "ruleset")
    host.lab.relay.nft("table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n"
                       " chain output {\n type filter hook output priority 0; policy drop;\n }\n}\n")  # fmt: skip
    icmp = "nft 'insert rule inet filter {} meta l4proto ipv6-icmp accept'"
    script = "\n".join(
        [icmp.format("input"), icmp.format("output"), *(line for line in lines if line.startswith("nft "))]
    )
    host.lab.relay.run("sh", "-ec", script)
    assert host.lets_pass(addresses) == (True, True)
    assert host.lets_pass(addresses, LAST + 1) == (False, False)
