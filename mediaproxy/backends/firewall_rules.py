"""What must be open in a host's firewall, in words and as rules to paste."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mediaproxy.net import AddressFamily, family_of, is_unspecified

_INSTANCE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Opening:
    """Ports of one of our addresses at which packets must arrive, and from which they must leave.

    Attributes:
        what: in a word or two, for people (``media``, ``ng control``).
        address: canonical; the unspecified one for all addresses of its family.
        first_port: 1 to 65535.
        last_port: not below ``first_port``.
        protocol: ``udp`` or ``tcp``.
        peers: networks (``10.0.0.0/8``) or addresses of the family of ``address``; none for anybody.
        media: any number of peers that are strangers to the host: not to be tracked, and what ``manage`` opens.
    Raises:
        ValueError: on making: a value is not one of these.
    """

    what: str
    address: str
    first_port: int
    last_port: int
    protocol: str = "udp"
    peers: tuple[str, ...] = ()
    media: bool = False

    def __post_init__(self) -> None:
        version = ipaddress.ip_address(self.address).version
        for peer in self.peers:
            if ipaddress.ip_network(peer, strict=False).version != version:
                raise ValueError(f"{peer} is not of the family of {self.address}")
        if not 0 < self.first_port <= self.last_port <= 0xFFFF:
            raise ValueError(f"{self.first_port}-{self.last_port} is no range of ports")
        if self.protocol not in {"udp", "tcp"}:
            raise ValueError(f"{self.protocol!r} is neither udp nor tcp")

    @property
    def family(self) -> AddressFamily:
        return family_of(self.address)

    @property
    def any_address(self) -> bool:
        return is_unspecified(self.address)


def mark_of(instance: str) -> str:
    """The comment on every rule that an instance puts in.

    Raises:
        ValueError: the name has characters other than letters, digits, ``_``, ``.`` and ``-``, or more than 64.
    """
    if not _INSTANCE.match(instance):
        raise ValueError(f"{instance!r} is no name of an instance")
    return f"mediaproxy {instance} firewall"


def table_of(instance: str) -> str:
    """The nft table that holds what is not tracked."""
    return "mediaproxy_fw_" + re.sub("[^A-Za-z0-9_]", "_", instance)


def _pasted(instance: str) -> str:
    """The comment on rules that an operator pastes: not ours to take out."""
    return f"for {mark_of(instance).removesuffix(' firewall')}"


def describe(openings: Sequence[Opening], instance: str) -> list[str]:
    """Exactly what must be open, in words, then as rules for nft and for iptables.

    Raises:
        ValueError: see ``mark_of``.
    """
    lines = ["Packets that must arrive at this host, and answers that must leave it:"]
    lines += [f"  {_in_words(opening)}" for opening in openings]
    lines += [
        "",
        "Also let ICMP and ICMPv6 in (errors tell which packets are too large; IPv6 does not work without).",
        "",
        "With nftables (put the names of your own table and chains for `inet filter input` and `output`):",
    ]
    lines += [f"  {line}" for opening in openings for line in _nft(opening, instance)]
    lines += [f"  {line}" for line in nft_notrack_table(openings, "mediaproxy_not_tracked")]
    lines += ["", "With iptables and ip6tables:"]
    lines += [f"  {line}" for opening in openings for line in _iptables(opening, instance)]
    return lines


def _in_words(opening: Opening) -> str:
    ports = _range(opening, "-")
    word = "port" if opening.first_port == opening.last_port else "ports"
    where = f"any {opening.family.long_name} address of this host" if opening.any_address else opening.address
    peers = ", ".join(opening.peers) or "anybody"
    pairs = "; even ports RTP, odd ones RTCP; no connection tracking" if opening.media else ""
    return f"{opening.protocol.upper()} {word} {ports} at {where}, from and to {peers} ({opening.what}{pairs})"


def _range(opening: Opening, between: str) -> str:
    if opening.first_port == opening.last_port:
        return str(opening.first_port)
    return f"{opening.first_port}{between}{opening.last_port}"


def _nft(opening: Opening, instance: str) -> Iterable[str]:
    for chain, ours, theirs, side in (("input", "daddr", "saddr", "dport"), ("output", "saddr", "daddr", "sport")):
        words = [*_nft_address(opening, ours)]
        if opening.peers:
            family = "ip6" if opening.family is AddressFamily.IP6 else "ip"
            words.append(f"{family} {theirs} {{ {', '.join(opening.peers)} }}")
        words.append(f"{opening.protocol} {side} {_range(opening, '-')}")
        yield f"nft 'insert rule inet filter {chain} {' '.join(words)} accept comment \"{_pasted(instance)}\"'"


def _nft_address(opening: Opening, side: str) -> Iterable[str]:
    if opening.any_address:
        yield f"meta nfproto {'ipv6' if opening.family is AddressFamily.IP6 else 'ipv4'}"
    else:
        yield f"{'ip6' if opening.family is AddressFamily.IP6 else 'ip'} {side} {opening.address}"


def nft_notrack_table(openings: Sequence[Opening], name: str) -> list[str]:
    """A table of this name, in the nft language, that keeps media out of connection tracking; empty without media.

    It comes after the raw tables of iptables, where the iptables backend leads its flows into tracking.
    """
    media = [opening for opening in openings if opening.media]
    if not media:
        return []
    lines = [f"table inet {name} {{"]
    for chain, hook, address, port in (
        ("arriving", "prerouting", "daddr", "dport"),
        ("leaving", "output", "saddr", "sport"),
    ):
        lines += [f"\tchain {chain} {{", f"\t\ttype filter hook {hook} priority -299; policy accept;"]
        lines += [
            f"\t\t{' '.join(_nft_address(opening, address))} udp {port} {_range(opening, '-')} notrack"
            for opening in media
        ]
        lines.append("\t}")
    return [*lines, "}"]


def _iptables(opening: Opening, instance: str) -> Iterable[str]:
    command = "ip6tables" if opening.family is AddressFamily.IP6 else "iptables"
    for table, rule in iptables_rules(opening, _pasted(instance)):
        yield f"{command} -t {table} {rule}" if table != "filter" else f"{command} {rule}"


def iptables_rules(opening: Opening, mark: str) -> list[tuple[str, str]]:
    """Table and rule in the language of iptables-restore, for each thing an opening needs."""
    rules = []
    comment = f'-m comment --comment "{mark}"'
    peers = opening.peers or ("",)
    for chain, ours, theirs, side in (("INPUT", "-d", "-s", "--dport"), ("OUTPUT", "-s", "-d", "--sport")):
        for peer in peers:
            words = [] if opening.any_address else [f"{ours} {opening.address}"]
            words += [f"{theirs} {peer}"] if peer else []
            words += [f"-p {opening.protocol} -m {opening.protocol} {side} {_range(opening, ':')} {comment}"]
            rules.append(("filter", f"-I {chain} 1 {' '.join(words)} -j ACCEPT"))
    if opening.media:
        for chain, ours, side in (("PREROUTING", "-d", "--dport"), ("OUTPUT", "-s", "--sport")):
            words = [] if opening.any_address else [f"{ours} {opening.address}"]
            words += [f"-p udp -m udp {side} {_range(opening, ':')} {comment}"]
            rules.append(("raw", f"-A {chain} {' '.join(words)} -j CT --notrack"))
    return rules
