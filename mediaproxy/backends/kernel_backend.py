"""What a kernel backend is to the privileged process that runs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from mediaproxy.datapath.flow import Capabilities
from mediaproxy.datapath.kernel import DatapathEvent


@dataclass(frozen=True, slots=True)
class Link:
    """A network device that is up.

    Attributes:
        loopback: it is ``lo``.
        ethernet: packets on it begin with an Ethernet header; else (tun, wireguard) with the IP header.
    """

    index: int
    name: str
    mtu: int
    loopback: bool = False
    ethernet: bool = True


class NftForm(Enum):
    """How the nft backend writes its rules."""

    READABLE = "readable"
    """`nft` can print and reload them."""
    FAST = "fast"
    """One look-up per packet, which `nft` cannot print: a ruleset saved with it does not load."""


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What every backend is made from.

    Attributes:
        instance: part of the name of everything that is put into the kernel.
        pin_folder: a folder of a mounted bpffs that is this instance's own; ``None`` if there is none: then flows end
            with the process.
        slots: how many flows there can be, those removed within the last second included.
        nft_owner: set the table flags owner and persist (kernel 6.9).
    """

    instance: str
    pin_folder: Path | None
    slots: int
    nft_form: NftForm = NftForm.READABLE
    nft_owner: bool = False


class KernelBackend(Protocol):
    """One way to let the kernel forward; runs where the privileges are, in one thread.

    Made by ``open_tc`` or ``open_xdp`` (``backends.bpf``), ``open_nft`` (``backends.nft``) or ``open_iptables``
    (``backends.iptables``), functions of a ``BackendSettings``. They raise ``OffloadError`` with the reason, in words
    for an operator, when this host cannot, and leave nothing behind then. What is found installed (a daemon died) is
    taken over.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def slots(self) -> int: ...

    @property
    def stats_fd(self) -> int:
        """Memory of ``slots`` times ``struct mpo_flow_stats``, to be mapped shared; the backend's own."""
        ...

    @property
    def tap_fd(self) -> int:
        """The BPF ring buffer of copied packets, -1 where there is none; the backend's own."""
        ...

    @property
    def watch_fds(self) -> Sequence[int]:
        """Readable when ``check`` should be called at once."""
        ...

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:
        """Make these the devices whose arriving packets are looked at: all that are up, each time that this changes.

        Devices that cannot be attached are named in a ``NOTE``, and again only when their number changes.
        """
        ...

    @property
    def unattached(self) -> Collection[int]:
        """Indices of the devices of the last ``attach`` whose packets are not looked at."""
        ...

    def apply(self, records: bytearray) -> None:
        """Carry out an array of ``struct mpo_flow_change`` in its order, writing the result into each (0, -errno).

        -ENOSPC: full. A failed set leaves nothing at its key.
        """
        ...

    def dump(self) -> bytearray:
        """All installed flows as an array of ``struct mpo_flow_change`` with ``MPO_FLOW_SET``."""
        ...

    def check(self) -> list[DatapathEvent]:
        """Called every second and when a watched descriptor is readable: bring counters into the shared memory, see
        that hooks and tables are there, put back what somebody removed, and say so."""
        ...

    def leave(self) -> None:
        """Let go of everything without touching what is in the kernel: it goes on forwarding."""
        ...

    def remove(self) -> None:
        """Take everything out of the kernel that this instance has put there. Ends the backend, as ``leave`` does."""
        ...
