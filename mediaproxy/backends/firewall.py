"""``firewall = manage``: open the media ports on a host whose firewall drops what it does not know.

What holds the host's rules is looked for: legacy iptables, iptables-nft, nftables of the operator's own, or several at
once. In each of them media is let in and out before anything else is asked, and kept from connection tracking. Then a
datagram has to get through in either direction; if it does not, all is taken back. No rule of others is ever touched,
and ours are known by their comment: what a dead daemon left is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mediaproxy.backends.firewall_proof import Proof, prove
from mediaproxy.backends.firewall_rules import Opening, describe
from mediaproxy.backends.firewall_variants import (
    FirewallError,
    IptablesNft,
    Legacy,
    NativeNft,
    ProgramMissingError,
    Variant,
)

__all__ = ["Firewall", "FirewallError", "FirewallReport", "Opening", "Proof", "describe"]


@dataclass(frozen=True, slots=True)
class FirewallReport:
    """What was found, done and proven.

    Attributes:
        found: in words, each chain that holds rules which packets to or from this host pass.
        changed: the variants into which openings were put; empty where nothing holds rules.
        proofs: one line per media opening; "not tried" ones say why.
    """

    found: tuple[str, ...]
    changed: tuple[str, ...]
    proofs: tuple[str, ...]


class Firewall:
    """The firewall of the network namespace of the calling thread. Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN to prove.

    Args:
        instance: letters, digits, ``_``, ``.`` and ``-``; at most 64.
        openings: those with ``media`` are managed.
    Raises:
        ValueError: it is no name of an instance.
    """

    def __init__(
        self, instance: str, openings: Sequence[Opening], prove_open: Callable[[Opening], Proof] = prove
    ) -> None:
        self._openings = tuple(opening for opening in openings if opening.media)
        self._variants: tuple[Variant, ...] = (Legacy(instance), IptablesNft(instance), NativeNft(instance))
        self._prove = prove_open

    def manage(self) -> FirewallReport:
        """Open the media ports, and see that they are. Blocks for some 0.1 s, for 2 s per opening that stays shut.

        Raises:
            FirewallError: the rules can't be read or changed, or a datagram does not get through; nothing of ours is
                left behind, and the text says why and where the packet may have been dropped.
        """
        self.withdraw()
        found: list[str] = []
        changed: list[str] = []
        try:
            for variant in self._usable():
                held = variant.holds()
                found += held
                if held:
                    variant.insert(self._openings)
                    changed.append(variant.name)
            proofs = [self._prove(opening) for opening in self._openings]
        except FirewallError:
            self._take_back()
            raise
        failed = [proof.text for proof in proofs if proof.passed is False]
        if failed:
            self._take_back()
            where = "; ".join(found) or "no chain of the three kinds of tables that are looked at"
            raise FirewallError(
                f"the media ports can't be opened: {'; '.join(failed)}. Rules are in: {where}. What was put in is "
                "taken back; let `ng-control firewall show` say what has to be open"
            )
        return FirewallReport(tuple(found), tuple(changed), tuple(proof.text for proof in proofs))

    def withdraw(self) -> int:
        """Take out all that this instance, or one of its name that has died, has put in. Returns how many rules.

        Raises:
            FirewallError: one of the tables can't be read or changed; what is in the others is gone all the same.
        """
        total = 0
        errors = []
        for variant in self._usable():
            try:
                total += variant.withdraw()
            except FirewallError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return total

    def _take_back(self) -> None:
        with suppress(FirewallError):  # the first reason is the one to be told
            self.withdraw()

    def _usable(self) -> list[Variant]:
        """Without the program `nft` there are only legacy tables: nothing else here could read the others."""
        usable = []
        for variant in self._variants:
            if not isinstance(variant, Legacy):
                try:
                    variant.holds()
                except ProgramMissingError:
                    continue
                except FirewallError:
                    pass  # whoever uses it next is told
            usable.append(variant)
        return usable
