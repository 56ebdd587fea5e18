"""What crosses to the privileged process when it starts, and what it answers: values, as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import msgspec

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.privileged.wire import WireError

T = TypeVar("T")


class KernelPath(Enum):
    """Which kernel path is wanted."""

    AUTO = "auto"
    TC = "tc"
    XDP = "xdp"
    NFT = "nft"
    IPTABLES = "iptables"
    USERSPACE = "userspace"


class FirewallMode(Enum):
    """Who opens the media ports in this host's firewall."""

    OFF = "off"
    """Somebody else."""
    MANAGE = "manage"
    """We do."""


@dataclass(frozen=True, slots=True)
class RelayRange:
    """Ports of a relay address that flows may use; ``address`` is canonical, both ends are included."""

    address: str
    port_min: int
    port_max: int


@dataclass(frozen=True, slots=True)
class PrivilegedSettings:
    """All that the privileged process is told.

    Attributes:
        run_folder: the folder of this instance, which exists and is ours.
        relays: what the fence lets through.
        slots: how many flows there can be, those removed within the last second included.
    """

    instance: str
    path: KernelPath
    run_folder: str
    relays: tuple[RelayRange, ...]
    slots: int
    nft_form: NftForm = NftForm.READABLE
    nft_owner: bool = False
    firewall: FirewallMode = FirewallMode.OFF


@dataclass(frozen=True, slots=True)
class Candidate:
    """What became of one backend: chosen (``works``) or why not. ``reason`` is one line for people."""

    backend: str
    works: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Started:
    """The answer: ``backend`` is empty if there is no kernel path.

    Attributes:
        notes: worth a warning each.
        firewall: what was opened, one line each.
        stays: the process stays, to clean up at the end.
    """

    backend: str
    capabilities: Capabilities
    slots: int
    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    has_tap: bool = False
    firewall: tuple[str, ...] = ()
    stays: bool = False


def write_json(value: PrivilegedSettings | Started) -> bytes:
    """As ``read_json`` reads it."""
    return msgspec.json.encode(value)


def read_json(kind: type[T], body: bytes) -> T:
    """Read one of the values above.

    Raises:
        WireError: it is not of this kind.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not {kind.__name__}: {error}") from error
