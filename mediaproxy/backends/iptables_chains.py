"""The chains of the iptables backend: what each table holds for a flow, and where.

=======  ====================  =====================================================================================
table    hooks                 what a flow has there
=======  ====================  =====================================================================================
raw      PREROUTING, OUTPUT    its five-tuple: ``CT --zone Z``, a zone of its own. Walked by every packet, but by
                               port: 512, then 32 ports to a chain, at most some sixty rules.
nat      PREROUTING, OUTPUT    ``CONNMARK`` (ours, with the TOS byte), ``DNAT`` to the target. First packet only.
nat      POSTROUTING, INPUT    ``SNAT`` to the sender. First packet only.
mangle   POSTROUTING, INPUT    one ``TOS`` rule per TOS byte in use, for packets with our mark.
filter   FORWARD, INPUT        one ``ACCEPT`` for packets with our mark: a drop policy is not meant for them.
=======  ====================  =====================================================================================

The zone is what makes NAT of a relay's port work: what the raw table does not send there (STUN, RTCP, strangers, what
the relay sends itself) is tracked apart, so no entry of it keeps a flow local, takes its tuple or has its own source
port changed. Two flows of one call are two entries; asymmetric media would not fit into one.

RTP is told from the rest per packet, in raw: version 2 and no payload type of RTCP (RFC 3550, section 5.1; RFC 5761,
section 4), an IP header without options, a whole RTP header. Fragments have been put together before.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from mediaproxy.backends.xtables import MAX_CHAIN_NAME, Match, Rule, Table, match
from mediaproxy.datapath.flow import Flow
from mediaproxy.net import Endpoint

MARK: Final = 0x4D500000
"""``MP``, an arbitrary number, and the TOS byte: the connection mark of our entries."""
MARK_MASK: Final = 0xFFFFFF00

_OURS: Final = match("connmark", mark=f"{MARK:#x}/{MARK_MASK:#x}")
_LEAF_BITS: Final = 5
_BLOCK_BITS: Final = 9

# The first four bits and the header length of IPv4, the next header of IPv6; then, in the UDP payload, version, second
# byte, and the UDP length that a whole RTP header makes.
_PLAIN: Final[dict[int, str]] = {socket.AF_INET: "0>>24=0x45", socket.AF_INET6: "4>>8&0xFF=17"}
_RTP: Final[dict[int, str]] = {
    socket.AF_INET: "0>>24=0x45&&28>>30=2&&28>>16&0xFF=0:191,224:255&&24>>16=20:65535",
    socket.AF_INET6: "4>>8&0xFF=17&&48>>30=2&&48>>16&0xFF=0:191,224:255&&44>>16=20:65535",
}

# What hangs where: table, suffix of the chain, built-in chains with a jump to it, what the jump asks for.
_JUMPS: Final[tuple[tuple[str, str, tuple[str, ...], tuple[Match, ...]], ...]] = (
    ("raw", "", ("PREROUTING", "OUTPUT"), ()),
    ("nat", ".D", ("PREROUTING", "OUTPUT"), ()),
    ("nat", ".S", ("POSTROUTING", "INPUT"), (_OURS,)),
    ("mangle", "", ("POSTROUTING", "INPUT"), (_OURS,)),
    ("filter", "", ("FORWARD", "INPUT"), (_OURS,)),
)


def base_name(instance: str) -> str:
    """The name that all chains of an instance begin with, and that of one of them."""
    longest = MAX_CHAIN_NAME - len("MEDIAPROXY_") - len(".DR") - 4
    if len(instance) > longest or not re.fullmatch(r"[A-Za-z0-9_-]+", instance):
        instance = f"{re.sub('[^A-Za-z0-9_-]', '_', instance)[:4]}_{hashlib.sha256(instance.encode()).hexdigest()[:6]}"
    return f"MEDIAPROXY_{instance}"


def jump_comment(instance: str) -> str:
    """The comment on everything of ours in a chain that is not ours."""
    return f"mediaproxy {instance}"[:200]


@dataclass(frozen=True, slots=True)
class ZonedFlow:
    """What is written for one flow.

    Attributes:
        zone: of connection tracking, 1 to 65535, its own.
        comment: at most 255 characters; goes with the rule in raw.
    """

    flow: Flow
    zone: int
    comment: str


@dataclass(slots=True)
class _PortTree:
    """Rules found by destination port, in a chain, its blocks of 512 and their leaves of 32 ports."""

    table: Table
    chain: str
    leaves: Counter[int] = field(default_factory=Counter)
    blocks: Counter[int] = field(default_factory=Counter)

    def _names(self, port: int) -> tuple[str, str]:
        return f"{self.chain}B{port >> _BLOCK_BITS:x}", f"{self.chain}{port >> _LEAF_BITS:x}"

    @staticmethod
    def _jump(port: int, bits: int, chain: str) -> Rule:
        first = port >> bits << bits
        return Rule(chain, matches=(match("udp", dport=f"{first}:{first + (1 << bits) - 1}"),))

    def add(self, port: int, rules: tuple[Rule, ...]) -> None:
        block, leaf = self._names(port)
        if not self.blocks[port >> _BLOCK_BITS]:
            self.table.create(block)
            self.table.append(self.chain, self._jump(port, _BLOCK_BITS, block))
        if not self.leaves[port >> _LEAF_BITS]:
            self.table.create(leaf)
            self.table.append(block, self._jump(port, _LEAF_BITS, leaf))
        for rule in rules:
            self.table.append(leaf, rule)
        self.blocks[port >> _BLOCK_BITS] += 1
        self.leaves[port >> _LEAF_BITS] += 1

    def remove(self, port: int, rules: tuple[Rule, ...]) -> None:
        block, leaf = self._names(port)
        for rule in rules:
            self.table.take_out(leaf, rule)
        self.blocks[port >> _BLOCK_BITS] -= 1
        self.leaves[port >> _LEAF_BITS] -= 1
        if not self.leaves[port >> _LEAF_BITS]:
            self.table.take_out(block, self._jump(port, _LEAF_BITS, leaf))
            self.table.delete(leaf)
        if not self.blocks[port >> _BLOCK_BITS]:
            self.table.take_out(self.chain, self._jump(port, _BLOCK_BITS, block))
            self.table.delete(block)


class FlowChains:
    """All chains of one instance in one family. Hold ``xtables_lock`` while calling what changes them.

    Raises:
        OffloadError: of all methods: a table is not there or can't be changed; ``rebuild`` puts it right.
    """

    def __init__(self, family: int, instance: str) -> None:
        self.family = family
        self._base = base_name(instance)
        self._comment = match("comment", comment=jump_comment(instance))
        self.tables = {name: Table(family, name) for name in ("raw", "nat", "mangle", "filter")}
        self._expected: dict[str, dict[str, int]] = {}
        self.sizes: dict[str, tuple[int, int] | None] = {}
        """The tables' sizes (``TableSizes``) when they were last found intact."""
        self._forget()

    def _forget(self) -> None:
        raw, nat = self.tables["raw"], self.tables["nat"]
        self._rtp = _PortTree(raw, f"{self._base}.R")
        self._any = _PortTree(raw, f"{self._base}.O")
        self._rtp_destinations = _PortTree(nat, f"{self._base}.DR")
        self._any_destinations = _PortTree(nat, f"{self._base}.DO")
        self._tos: set[int] = set()

    def _is_ours(self, chain: str) -> bool:
        return chain == self._base or chain.startswith(f"{self._base}.")

    def found(self) -> list[str]:
        """The comments of the flows whose rules are in raw now."""
        raw = self.tables["raw"]
        raw.begin()
        prefixes = (self._rtp.chain, self._any.chain)
        return [text for chain in raw.chains() if chain.startswith(prefixes) for text in raw.comments(chain)]

    def rebuild(self, flows: list[ZonedFlow]) -> None:
        """Have exactly these flows, whatever was there; each table changes at once."""
        self._forget()
        for name in ("nat", "mangle", "filter", "raw"):  # see translate(): never nat without raw
            self._clear(name)
            self._found(name)
            if name == "nat":
                for flow in flows:
                    self._add_nat(flow)
            elif name == "mangle":
                self._add_tos({flow.flow.tos for flow in flows})
            elif name == "raw":
                for flow in flows:
                    self._tree(flow).add(flow.flow.local.port, (self._zone_rule(flow),))
            self._commit(name)

    def withdraw(self) -> None:
        """Have nothing left in any table."""
        for name in ("nat", "raw", "mangle", "filter"):
            self._clear(name)
            self.tables[name].commit()
            self.tables[name].close()
        self._forget()

    def _clear(self, name: str) -> None:
        table = self.tables[name]
        table.begin()
        chains = table.chains()
        for kind, suffix, hooks, matches in _JUMPS:
            chain = self._base + suffix
            for hook in hooks if kind == name else ():
                while table.jumps(hook, chain):
                    table.take_out(hook, Rule(chain, matches=(*matches, self._comment)))
        ours = [chain for chain in chains if self._is_ours(chain)]
        for chain in ours:
            table.flush(chain)
        for chain in ours:
            table.delete(chain)

    def _found(self, name: str) -> None:
        table = self.tables[name]
        for kind, suffix, hooks, matches in _JUMPS:
            if kind != name:
                continue
            chain = self._base + suffix
            table.create(chain)
            for hook in hooks:
                table.insert(hook, Rule(chain, matches=(*matches, self._comment)))
            if name in ("raw", "nat") and hooks[0] == "PREROUTING":
                rtp, any_ = (
                    (self._rtp, self._any) if name == "raw" else (self._rtp_destinations, self._any_destinations)
                )
                for tree, test in ((any_, _PLAIN), (rtp, _RTP)):
                    table.create(tree.chain)
                    table.append(chain, Rule(tree.chain, matches=(match("u32", u32=test[self.family]),)))
        if name == "filter":
            table.append(self._base, Rule("ACCEPT"))

    def _commit(self, name: str) -> None:
        self.tables[name].commit()
        table = self.tables[name]
        table.begin()
        self._expected[name] = {chain: table.count(chain) for chain in table.chains() if self._is_ours(chain)}

    def translate(self, flows: list[ZonedFlow]) -> None:
        """Let the first packets of flows be translated, once ``lead`` leads them into their zones.

        A rule in nat without the one in raw would do harm: the same packets, were they the first of an entry in the
        default zone, would be translated there, and what they should have left to the socket would be as well.
        """
        wanted = {flow.flow.tos for flow in flows} - self._tos
        if wanted:
            self.tables["mangle"].begin()
            self._add_tos(wanted)
            self._commit("mangle")
        self.tables["nat"].begin()
        for flow in flows:
            self._add_nat(flow)
        self._commit("nat")

    def stop_translating(self, flows: list[ZonedFlow]) -> None:
        """Let first packets of flows be translated no more; entries that are there go on."""
        nat = self.tables["nat"]
        nat.begin()
        for flow in flows:
            self._destinations(flow).remove(flow.flow.local.port, self._destination_rules(flow))
            nat.take_out(f"{self._base}.S", self._source_rule(flow))
        self._commit("nat")

    def lead(self, gone: list[ZonedFlow], new: list[ZonedFlow]) -> None:
        """Lead the packets of some flows into their zones and those of others no more, in one commit."""
        self.tables["raw"].begin()
        for flow in gone:
            self._tree(flow).remove(flow.flow.local.port, (self._zone_rule(flow),))
        for flow in new:
            self._tree(flow).add(flow.flow.local.port, (self._zone_rule(flow),))
        self._commit("raw")

    def intact(self) -> bool:
        """Whether every chain has as many rules as it should and every jump is there."""
        for name, table in self.tables.items():
            table.begin()
            found = {chain: table.count(chain) for chain in table.chains() if self._is_ours(chain)}
            if found != self._expected.get(name, {}):
                return False
            for kind, suffix, hooks, _ in _JUMPS:
                if kind == name and not all(table.jumps(hook, self._base + suffix) for hook in hooks):
                    return False
        return True

    def close(self) -> None:
        for table in self.tables.values():
            table.close()

    def _tree(self, flow: ZonedFlow) -> _PortTree:
        return self._any if flow.flow.opaque else self._rtp

    def _destinations(self, flow: ZonedFlow) -> _PortTree:
        return self._any_destinations if flow.flow.opaque else self._rtp_destinations

    def _add_nat(self, flow: ZonedFlow) -> None:
        self._destinations(flow).add(flow.flow.local.port, self._destination_rules(flow))
        self.tables["nat"].append(f"{self._base}.S", self._source_rule(flow))

    def _add_tos(self, values: set[int]) -> None:
        for tos in sorted(values):
            self.tables["mangle"].append(
                self._base,
                Rule(
                    "TOS",
                    (("set_tos", f"{tos:#04x}/0xff"),),
                    (match("connmark", mark=f"{MARK | tos:#x}"),),
                ),
            )
        self._tos |= values

    @staticmethod
    def _arriving(flow: Flow, *more: Match) -> tuple[str, str, tuple[Match, ...]]:
        assert flow.source is not None, "the backend refuses flows of any source"
        ports = match("udp", sport=str(flow.source.port), dport=str(flow.local.port))
        return flow.source.address, flow.local.address, (ports, *more)

    def _zone_rule(self, flow: ZonedFlow) -> Rule:
        source, local, matches = self._arriving(flow.flow, match("comment", comment=flow.comment))
        return Rule("CT", (("zone", str(flow.zone)),), matches, source, local)

    def _destination_rules(self, flow: ZonedFlow) -> tuple[Rule, ...]:
        source, local, matches = self._arriving(flow.flow)
        mark = (("set_xmark", f"{MARK | flow.flow.tos:#x}/0xffffffff"),)
        to = (("to_destination", str(flow.flow.target)),)
        return Rule("CONNMARK", mark, matches, source, local), Rule("DNAT", to, matches, source, local)

    def _source_rule(self, flow: ZonedFlow) -> Rule:
        source, target = flow.flow.source, flow.flow.target
        assert source is not None, "the backend refuses flows of any source"
        local: Endpoint = flow.flow.local
        return Rule(
            "SNAT",
            (("to_source", str(flow.flow.sender)),),
            (
                match("udp", sport=str(source.port), dport=str(target.port)),
                match("conntrack", ctorigdst=local.address, ctorigdstport=str(local.port)),
            ),
            source.address,
            target.address,
        )
