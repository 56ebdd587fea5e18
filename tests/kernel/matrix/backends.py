"""The rows of the matrix: the ways in which a daemon can have its media carried, and what each of them cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mediaproxy.datapath.flow import FlowReason


@dataclass(frozen=True, slots=True)
class Backend:
    """What is expected of a backend; said here once more, and not asked of the product.

    Attributes:
        name: of the row.
        kernel_path, options: for the daemon's command line.
        clsact: the daemon is made to use clsact filters.
        conntrack: it is connection tracking that carries.
        forwards: the proxy's host must be a router.
        keeps_hops_on_host: from the host to the host the TTL stays: such packets cannot go round.
        keeps_hops_from_host: so it does from the host to others, as with all that a host sends.
        family_change, any_source, opaque: what it can.
        drops_strangers: strangers never reach a socket, but for a few samples.
        counts_rtp: it knows SSRCs, loss and jitter.
        reassembles: fragments are put together before it sees them.
        takes_options: packets with IP options are its, too.
        shares_devices: two instances can watch one device.
    """

    name: str
    kernel_path: str
    options: tuple[str, ...] = ()
    clsact: bool = False
    conntrack: bool = False
    forwards: bool = False
    keeps_hops_on_host: bool = False
    keeps_hops_from_host: bool = False
    family_change: bool = False
    any_source: bool = False
    opaque: bool = False
    drops_strangers: bool = False
    counts_rtp: bool = False
    reassembles: bool = False
    takes_options: bool = False
    shares_devices: bool = True

    def __str__(self) -> str:
        return self.name

    @property
    def is_kernel(self) -> bool:
        """Whether it is one at all."""
        return self.kernel_path != "userspace"

    @property
    def is_xdp(self) -> bool:
        return self.kernel_path == "xdp"


def _bpf(name: str, kernel_path: str, *, clsact: bool = False) -> Backend:
    xdp = kernel_path == "xdp"
    return Backend(
        name, kernel_path, clsact=clsact, forwards=xdp, family_change=True, any_source=True, opaque=True,
        drops_strangers=True, counts_rtp=True, shares_devices=not xdp,
    )  # fmt: skip


BACKENDS: Final = (
    _bpf("tc-tcx", "tc"),
    _bpf("tc-clsact", "tc", clsact=True),
    _bpf("xdp", "xdp"),
    Backend("nft-readable", "nft", any_source=True, keeps_hops_on_host=True),
    Backend("nft-fast", "nft", ("--nft-form=fast",), any_source=True, keeps_hops_on_host=True),
    Backend(
        "iptables",
        "iptables",
        conntrack=True,
        forwards=True,
        keeps_hops_on_host=True,
        keeps_hops_from_host=True,
        opaque=True,
        reassembles=True,
        takes_options=True,
    ),
    Backend("userspace", "userspace"),
)


def reason_of(
    backend: Backend, *, changes_family: bool = False, from_local: bool = False, to_local: bool = False
) -> FlowReason | None:
    """Why a learnt stream of plain RTP is not carried by the kernel; ``None`` where it is.

    Args:
        from_local, to_local: the sender, the receiver is on the proxy's own host.
    """
    if not backend.is_kernel:
        return FlowReason.NO_BACKEND
    if changes_family and not backend.family_change:
        return FlowReason.NEEDS_FAMILY_CHANGE
    if to_local and (changes_family or not from_local):
        return FlowReason.LOCAL_PEER
    return None
