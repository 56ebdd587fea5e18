"""The three places where a host may keep its firewall rules: found, opened for media, and closed again.

Each knows its rules by their comment, whoever has put them there, and touches no other. Programs are run with fixed
arguments; rules go in by standard input.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from mediaproxy.backends.firewall_rules import (
    Opening,
    iptables_rules,
    mark_of,
    nft_notrack_table,
    table_of,
)
from mediaproxy.backends.xtables import Rule, Table, match, xtables_lock
from mediaproxy.errors import MediaProxyError, OffloadError
from mediaproxy.net import AddressFamily

_PATIENCE: Final = 20.0
_LOCK_PATIENCE: Final = 5.0
"""Seconds: when a host starts, what else writes rules does it at the same time."""
_PATH: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_MAY_DROP: Final = frozenset({"drop", "reject", "jump", "goto", "vmap", "queue", "xt"})
"""Statements of nft's JSON after which a packet may be gone; ``xt`` is whatever iptables has put there."""
_LEGACY: Final = (
    ("filter", "INPUT"),
    ("filter", "OUTPUT"),
    ("raw", "PREROUTING"),
    ("raw", "OUTPUT"),
)


class FirewallError(MediaProxyError):
    """The host's firewall can't be read or changed, or does not let media through; the text is for an operator."""


class ProgramMissingError(FirewallError):
    """A program that reads or writes rules is not installed."""


class Variant(Protocol):
    """One way in which a host may hold its rules. All methods raise ``FirewallError``."""

    @property
    def name(self) -> str: ...

    def holds(self) -> list[str]:
        """The chains that packets to or from this host pass and that have rules or a policy of drop; in words."""
        ...

    def insert(self, openings: Sequence[Opening]) -> None:
        """Put in what lets media of these openings pass, first in those chains, and keeps it from being tracked.

        If it fails, what was put in may be there in part.
        """
        ...

    def withdraw(self) -> int:
        """Take out all that carries the instance's comment. Returns how many rules that were."""
        ...


def _run(*command: str, stdin: str | None = None) -> str:
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=_PATIENCE, env=_PATH
        )
    except FileNotFoundError as error:
        raise ProgramMissingError(f"the program {command[0]} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise FirewallError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def read_nft() -> list[Mapping[str, Any]]:
    """All that `nft` sees, as its JSON objects, but for the elements of sets: our own alone may be 100 000.

    Raises:
        FirewallError: it can't be run.
    """
    try:
        return list(json.loads(_run("nft", "-j", "-t", "list", "ruleset"))["nftables"])
    except (ValueError, KeyError, TypeError) as error:
        raise FirewallError(f"nft -j -t list ruleset: not understood: {error}") from error


def _guards(ruleset: Sequence[Mapping[str, Any]], mark: str, hooks: set[str]) -> list[Mapping[str, Any]]:
    """The base chains of these hooks that may drop a packet, by their policy or by a rule without this comment."""
    busy = {
        (rule["family"], rule["table"], rule["chain"])
        for entry in ruleset
        if (rule := entry.get("rule")) is not None
        and rule.get("comment") != mark
        and any(not _MAY_DROP.isdisjoint(statement) for statement in rule["expr"])
    }
    return [
        chain
        for entry in ruleset
        if (chain := entry.get("chain")) is not None
        and chain.get("hook") in hooks
        and chain.get("type") == "filter"
        and (chain.get("policy") == "drop" or (chain["family"], chain["table"], chain["name"]) in busy)
    ]


def _is_of_iptables(chain: Mapping[str, Any]) -> bool:
    """Whether a chain is one that iptables-nft would make: there is no other mark on it."""
    return (
        chain.get("family") in {"ip", "ip6"}
        and chain.get("table") in {"filter", "raw", "mangle", "nat", "security"}
        and chain.get("name") == str(chain.get("hook", "")).upper()
    )


class NativeNft:
    """Tables of the operator's own."""

    name = "nft"

    def __init__(self, instance: str) -> None:
        self._mark = mark_of(instance)
        self._instance = instance

    def _guards(self) -> list[Mapping[str, Any]]:
        """The base chains of others, in the way of packets to or from this host, that may drop one."""
        return [
            chain
            for chain in _guards(read_nft(), self._mark, {"input", "output"})
            if chain["family"] in {"ip", "ip6", "inet"}
            and not _is_of_iptables(chain)
            and not chain["table"].startswith("mediaproxy_")
        ]

    def holds(self) -> list[str]:
        """See ``Variant``."""
        return [f"table {chain['family']} {chain['table']} chain {chain['name']}" for chain in self._guards()]

    def insert(self, openings: Sequence[Opening]) -> None:
        """See ``Variant``."""
        commands = [
            {"insert": {"rule": self._rule(chain, opening)}}
            for chain in self._guards()
            for opening in openings
            if opening.media and chain["family"] in {"inet", "ip6" if opening.family is AddressFamily.IP6 else "ip"}
        ]
        if commands:
            _run("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": commands}))
        _put_notrack(openings, self._instance)

    def _rule(self, chain: Mapping[str, Any], opening: Opening) -> dict[str, Any]:
        arriving = chain["hook"] == "input"
        is_ip6 = opening.family is AddressFamily.IP6
        what: dict[str, Any] = {"meta": {"key": "nfproto"}}
        value = "ipv6" if is_ip6 else "ipv4"
        if not opening.any_address:
            field = "daddr" if arriving else "saddr"
            what, value = {"payload": {"protocol": "ip6" if is_ip6 else "ip", "field": field}}, opening.address
        port = {"payload": {"protocol": "udp", "field": "dport" if arriving else "sport"}}
        ports: Any = {"range": [opening.first_port, opening.last_port]}
        if opening.first_port == opening.last_port:
            ports = opening.first_port
        return {
            "family": chain["family"],
            "table": chain["table"],
            "chain": chain["name"],
            "comment": self._mark,
            "expr": [
                {"match": {"op": "==", "left": what, "right": value}},
                {"match": {"op": "==", "left": port, "right": ports}},
                {"accept": None},
            ],
        }

    def withdraw(self) -> int:
        """See ``Variant``."""
        commands = []
        for entry in read_nft():
            rule, table = entry.get("rule"), entry.get("table")
            # Those of iptables-nft carry their comments as well, but are not nft's to delete.
            if rule is not None and rule.get("comment") == self._mark and not _in_iptables_chain(rule):
                kept = {key: rule[key] for key in ("family", "table", "chain", "handle")}
                commands.append({"delete": {"rule": kept}})
            elif table is not None and table["family"] == "inet" and table["name"] == table_of(self._instance):
                commands.append({"delete": {"table": {"family": "inet", "name": table["name"]}}})
        if commands:
            _run("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": commands}))
        return len(commands)


def _put_notrack(openings: Sequence[Opening], instance: str) -> None:
    """Into a table of our own, which replaces the one that is there; ``NativeNft.withdraw`` takes it out."""
    table = nft_notrack_table(openings, table_of(instance))
    if table:
        name = f"table inet {table_of(instance)}"
        _run("nft", "-f", "-", stdin="\n".join([name, f"delete {name}", *table, ""]))


def _in_iptables_chain(rule: Mapping[str, Any]) -> bool:
    return rule["family"] in {"ip", "ip6"} and rule["table"] == "filter" and rule["chain"] in {"INPUT", "OUTPUT"}


class IptablesNft:
    """Rules that `iptables` has put into nftables."""

    name = "iptables-nft"

    def __init__(self, instance: str) -> None:
        self._mark = mark_of(instance)
        self._instance = instance

    def _families(self) -> dict[str, list[str]]:
        """Per family of nft, the chains in the way."""
        found: dict[str, list[str]] = {}
        for chain in _guards(read_nft(), self._mark, {"input", "output"}):
            if _is_of_iptables(chain):
                found.setdefault(chain["family"], []).append(f"table {chain['table']} chain {chain['name']}")
        return found

    def holds(self) -> list[str]:
        """See ``Variant``."""
        return [
            f"{_command(family)} {chain}" for family, chains in sorted(self._families().items()) for chain in chains
        ]

    def insert(self, openings: Sequence[Opening]) -> None:
        """See ``Variant``."""
        for family in self._families():
            self._restore(
                family,
                [
                    rule
                    for opening in openings
                    if opening.media and (opening.family is AddressFamily.IP6) == (family == "ip6")
                    for table, rule in iptables_rules(opening, self._mark)
                    if table == "filter"
                ],
            )
        # Not into iptables' raw table: it would stay behind, and others' would be changed.
        _put_notrack(openings, self._instance)

    @staticmethod
    def _restore(family: str, rules: Sequence[str]) -> None:
        if rules:
            _run(
                f"{_command(family)}-restore",
                "-n",
                "-w",
                f"{_LOCK_PATIENCE:.0f}",
                stdin="\n".join(["*filter", *rules, "COMMIT", ""]),
            )

    def withdraw(self) -> int:
        """See ``Variant``."""
        total = 0
        present = {
            chain["family"]
            for entry in read_nft()
            if (chain := entry.get("chain")) is not None and _is_of_iptables(chain) and chain["table"] == "filter"
        }
        for family in sorted(present):
            rules = [
                f"-D {line[3:]}"
                for line in _run(f"{_command(family)}-save", "-t", "filter").splitlines()
                if line.startswith("-A ") and f'--comment "{self._mark}"' in line
            ]
            self._restore(family, rules)
            total += len(rules)
        return total


def _command(family: str) -> str:
    return "ip6tables-nft" if family == "ip6" else "iptables-nft"


class Legacy:
    """Rules in the legacy tables of iptables, which nft does not see."""

    name = "iptables-legacy"

    def __init__(self, instance: str) -> None:
        self._mark = mark_of(instance)
        self._instance = instance

    @staticmethod
    def _loaded(family: int) -> set[str]:
        """The tables that exist: to open another one would make it."""
        name = "ip6_tables_names" if family == socket.AF_INET6 else "ip_tables_names"
        try:
            # Of the namespace of this thread; /proc/net is that of the process.
            return set(Path("/proc/thread-self/net", name).read_text(encoding="ascii").split())
        except OSError:
            return set()

    def _guards(self, family: int) -> list[str]:
        if "filter" not in self._loaded(family):
            return []
        table = Table(family, "filter")
        try:
            table.begin()
            return [
                chain
                for chain in ("INPUT", "OUTPUT")
                if table.policy(chain) != "ACCEPT" or set(table.comments_or_none(chain)) - {self._mark}
            ]
        finally:
            table.close()

    def holds(self) -> list[str]:
        """See ``Variant``."""
        try:
            return [
                f"{'ip6tables' if family == socket.AF_INET6 else 'iptables'}-legacy table filter chain {chain}"
                for family in (socket.AF_INET, socket.AF_INET6)
                for chain in self._guards(family)
            ]
        except OffloadError as error:
            raise FirewallError(str(error)) from error

    def insert(self, openings: Sequence[Opening]) -> None:
        """See ``Variant``."""
        try:
            with xtables_lock(_LOCK_PATIENCE):
                for family in (socket.AF_INET, socket.AF_INET6):
                    wanted = [
                        opening
                        for opening in openings
                        if opening.media and (opening.family is AddressFamily.IP6) == (family == socket.AF_INET6)
                    ]
                    if wanted and self._guards(family):
                        self._insert(family, wanted)
        except OffloadError as error:
            raise FirewallError(str(error)) from error

    def _insert(self, family: int, openings: Sequence[Opening]) -> None:
        for name in ("raw", "filter"):
            table = Table(family, name)
            try:
                table.begin()
                for opening in openings:
                    for chain in ("PREROUTING", "OUTPUT") if name == "raw" else ("INPUT", "OUTPUT"):
                        rule = self._rule(opening, chain, tracking=name == "raw")
                        # What the iptables backend has in raw must come before.
                        if name == "raw":
                            table.append(chain, rule)
                        else:
                            table.insert(chain, rule)
                table.commit()
            finally:
                table.close()

    def _rule(self, opening: Opening, chain: str, *, tracking: bool) -> Rule:
        leaving = chain == "OUTPUT"
        ports = f"{opening.first_port}:{opening.last_port}"
        address = "" if opening.any_address else opening.address
        return Rule(
            "CT" if tracking else "ACCEPT",
            (("notrack", ""),) if tracking else (),
            (
                match("udp", sport=ports) if leaving else match("udp", dport=ports),
                match("comment", comment=self._mark),
            ),
            source=address if leaving else "",
            destination="" if leaving else address,
        )

    def withdraw(self) -> int:
        """See ``Variant``."""
        total = 0
        try:
            with xtables_lock(_LOCK_PATIENCE):
                for family in (socket.AF_INET, socket.AF_INET6):
                    for name in sorted(self._loaded(family) & {"filter", "raw"}):
                        table = Table(family, name)
                        try:
                            table.begin()
                            count = sum(
                                table.take_out_commented(chain, self._mark) for kind, chain in _LEGACY if kind == name
                            )
                            if count:
                                table.commit()
                            total += count
                        finally:
                            table.close()
        except OffloadError as error:
            raise FirewallError(str(error)) from error
        return total
