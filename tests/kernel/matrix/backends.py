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
        has_link: it hangs on BPF links, which no administrative command here shows.
        conntrack: it is connection tracking that carries.
        forwards: the proxy's host must be a router.
        keeps_hops_on_host: from the host to the host the TTL stays: such packets cannot go round.
        keeps_hops_from_host: so it does from the host to others, as with all that a host sends.
        family_change, any_source, opaque: what it can.
        writes_checksums: packets whose checksum is left to the card are its, too.
        from_host: why what a phone on the host sends elsewhere is not its, if that is so.
        drops_strangers: strangers never reach a socket, but for a few samples.
        counts_drops: what it drops is counted, by reason.
        counts_padding: with the bytes of a packet, those that Ethernet pads it with.
        reassembles: fragments are put together before it sees them.
        shares_devices: two instances can watch one device.
    """

    name: str
    kernel_path: str
    options: tuple[str, ...] = ()
    clsact: bool = False
    has_link: bool = False
    conntrack: bool = False
    forwards: bool = False
    keeps_hops_on_host: bool = False
    keeps_hops_from_host: bool = False
    family_change: bool = False
    any_source: bool = False
    opaque: bool = False
    writes_checksums: bool = True
    from_host: FlowReason | None = None
    drops_strangers: bool = False
    counts_drops: bool = False
    counts_padding: bool = False
    reassembles: bool = False
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
        name,
        kernel_path,
        clsact=clsact,
        has_link=not (clsact or xdp),
        forwards=xdp,
        family_change=True,
        any_source=True,
        opaque=True,
        writes_checksums=not xdp,
        from_host=FlowReason.MOVED_NOTHING if xdp else None,
        drops_strangers=True,
        counts_drops=True,
        shares_devices=not xdp,
    )


def _nft(name: str, *options: str) -> Backend:
    return Backend(
        name, "nft", options, any_source=True, keeps_hops_on_host=True, counts_padding=True,
        from_host=FlowReason.MOVED_NOTHING,
    )  # fmt: skip


BACKENDS: Final = (
    _bpf("tc-tcx", "tc"),
    _bpf("tc-clsact", "tc", clsact=True),
    _bpf("xdp", "xdp"),
    _nft("nft-readable"),
    _nft("nft-fast", "--nft-form=fast"),
    Backend(
        "iptables",
        "iptables",
        conntrack=True,
        forwards=True,
        keeps_hops_on_host=True,
        keeps_hops_from_host=True,
        opaque=True,
        reassembles=True,
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
    return backend.from_host if from_local and not to_local else None
