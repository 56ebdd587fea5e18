"""Logical interfaces: a name, the local address we bind and the address that SDP shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mediaproxy.net import AddressFamily, family_of

_LEGACY_FAMILIES: Final = {"internal": AddressFamily.IP4, "external": AddressFamily.IP6}
"""What ``direction=internal`` and ``external`` mean where no interface has such a name (reference E.11)."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of a logical interface; several entries may share a name (both families, several addresses).

    Attributes:
        name: the logical name, as ``direction`` gives it.
        address: canonical local address; sockets are bound to it.
        advertised: canonical address printed in SDP, of the same family.
        port_min, port_max: the range that port pairs are taken from, both included.
    """

    name: str
    address: str
    advertised: str
    port_min: int
    port_max: int

    @property
    def family(self) -> AddressFamily:
        return family_of(self.address)


@dataclass(frozen=True, slots=True)
class InterfaceChoice:
    """The interface for one side of a call; ``warning`` says why it isn't quite what was asked for."""

    interface: Interface
    warning: str | None = None


class Interfaces:
    """All configured interfaces, in the order of the configuration: the first one is the default."""

    def __init__(self, interfaces: Sequence[Interface]) -> None:
        """Args:
        interfaces: at least one.

        Raises:
            ValueError: there is none.
        """
        if not interfaces:
            raise ValueError("at least one interface is needed")
        self.all: Final = tuple(interfaces)
        self._by_name: dict[str, list[Interface]] = {}
        for interface in interfaces:
            self._by_name.setdefault(interface.name, []).append(interface)
        self._choices: dict[tuple[str | None, AddressFamily], InterfaceChoice] = {}

    def choose(self, name: str | None, family: AddressFamily) -> InterfaceChoice:
        """The interface for a logical name and a family; never fails, at worst it warns (reference E.11).

        Args:
            name: what ``direction`` said; ``None`` is the default interface.
            family: the family wanted towards the party.
        """
        if name is not None and name not in self._by_name:
            # Not remembered: names come from the network, and the cache must not grow with them.
            return self._choose_unknown(name, family)
        choice = self._choices.get((name, family))
        if choice is None:
            choice = self._choices[name, family] = self._choose_known(name, family)
        return choice

    def alternatives(self, interface: Interface) -> tuple[Interface, ...]:
        """The interface itself, then the others of its name and family: where to go when its ports are used up."""
        same = [one for one in self._by_name[interface.name] if one.family is interface.family and one != interface]
        return (interface, *same)

    def _choose_known(self, name: str | None, family: AddressFamily) -> InterfaceChoice:
        candidates = self._by_name[self.all[0].name if name is None else name]
        for interface in candidates:
            if interface.family is family:
                return InterfaceChoice(interface)
        if name is None:
            # Nobody asked for an interface by name: any that speaks the family will do.
            for interface in self.all:
                if interface.family is family:
                    return InterfaceChoice(interface)
        return InterfaceChoice(
            candidates[0], f"interface {candidates[0].name} has no {family.long_name} address, using its other family"
        )

    def _choose_unknown(self, name: str, family: AddressFamily) -> InterfaceChoice:
        legacy_family = _LEGACY_FAMILIES.get(name)
        if legacy_family is not None and not self._by_name.keys() & _LEGACY_FAMILIES.keys():
            return self.choose(None, legacy_family)
        fallback = self.choose(None, family).interface
        return InterfaceChoice(fallback, f"interface {name} is not configured, using {fallback.name}")
