"""The kernel backend ``nft``: flows as elements of a netdev table of our own. No BPF.

What the table looks like: ``kernel_offload/src/mpo_nft_table.h``. Compared with ``tc`` it knows no RTP statistics and
no change of family, and drops nothing of strangers: these go up to the relay, which drops, counts and reports them.

nftables counts per element. ``check`` brings the counts into the shared memory; what an element has counted when it is
removed or replaced comes with the kernel's notification, so what it counted between two polls is not lost, but for a
packet that another processor is at in that very moment (``kernel_offload/src/mpo_nft_apply.c``).
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Collection, Sequence
from typing import Final

from mediaproxy.backends.flow_records import CHANGE
from mediaproxy.backends.flow_stats import FlowStatsWriter
from mediaproxy.backends.helper import nft as helper
from mediaproxy.backends.helper.flow_stats import STATS_SIZE
from mediaproxy.backends.helper.nft import NftPointer, functions
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link, NftForm
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError

_FORMS: Final = {NftForm.READABLE: helper.READABLE, NftForm.FAST: helper.FAST}


def open_nft(settings: BackendSettings) -> KernelBackend:
    """Make the table, or take over the one of a process that died.

    Raises:
        OffloadError: this host cannot: no libnftnl, no nftables, no right to change it, or another process owns the
            table. The text says which.
    """
    return NftBackend(settings)


class NftBackend:
    """A ``KernelBackend``; see ``open_nft``."""

    def __init__(self, settings: BackendSettings) -> None:
        self._slots = min(settings.slots, helper.SLOTS_MAX)
        self._table = f"mediaproxy_{settings.instance}"
        self._links: tuple[Link, ...] = ()
        self._unattached: tuple[int, ...] = ()
        # What became of the table, until it stands again; and whether check() has said so.
        self._lost = ""
        self._is_told = False
        self._stats = FlowStatsWriter(self._slots)
        try:
            self._mapped = mmap.mmap(self._stats.fd, self._slots * STATS_SIZE)
        except OSError as error:
            self._stats.close()
            raise OffloadError(f"no memory for the statistics of {self._slots} flows: {error.strerror}") from error
        self._pinned = helper.pin_slots(self._mapped)
        flags = helper.OWNER if settings.nft_owner else 0
        result, reason, nft = helper.open_nft(
            settings.instance, self._slots, _FORMS[settings.nft_form], flags, self._pinned
        )
        self._nft: NftPointer | None = nft if result == 0 else None
        if result < 0:
            self._release()
            raise OffloadError(f"nft: {reason or os.strerror(-result)}")

    @property
    def name(self) -> str:
        return "nft"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(any_source=True)

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def stats_fd(self) -> int:
        return self._stats.fd

    @property
    def tap_fd(self) -> int:
        return -1

    @property
    def watch_fds(self) -> Sequence[int]:
        return (functions.mpo_nft_watch_fd(self._alive()),)

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:
        """See ``KernelBackend``.

        Raises:
            OffloadError: nftables no longer answers.
        """
        self._links = tuple(links)
        wanted = [(link.index, link.mtu, link.loopback, link.ethernet, link.name) for link in links]
        result, unattached = helper.attach(self._alive(), wanted)
        _demand(result, "its devices")
        before, self._unattached = self._unattached, tuple(unattached)
        if len(unattached) in {0, len(before)}:
            return []
        names = ", ".join(link.name for link in links if link.index in unattached)
        return [DatapathEvent(DatapathEventKind.NOTE, f"nft: cannot watch {names}")]

    @property
    def unattached(self) -> Collection[int]:
        return self._unattached

    def apply(self, records: bytearray) -> None:
        """See ``KernelBackend``.

        Raises:
            OffloadError: nftables no longer answers.
        """
        result = functions.mpo_nft_apply(self._alive(), helper.changes_pointer(records), len(records) // CHANGE.size)
        if result != -errno.ENOENT:  # somebody removed the table: the records say so, and check() puts it back
            _demand(result, "its flows")

    def dump(self) -> bytearray:
        """See ``KernelBackend``. Clock rates are not kept: there are no RTP statistics here."""
        nft = self._alive()
        count = functions.mpo_nft_dump(nft, helper.changes_pointer(bytearray()), 0)
        records = bytearray(count * CHANGE.size)
        functions.mpo_nft_dump(nft, helper.changes_pointer(records), count)
        return records

    def check(self) -> list[DatapathEvent]:
        """See ``KernelBackend``.

        Raises:
            OffloadError: nftables no longer answers, or the table could not be made again, which the next call tries
                once more. That the flows are gone was said by the call that saw it.
        """
        nft = self._alive()
        seen = functions.mpo_nft_check(nft)
        _demand(seen, "its table")
        if not seen and not self._lost:
            result = functions.mpo_nft_poll(nft)
            if result != -errno.ENOENT:  # somebody has removed the table this moment: the watch says so next
                _demand(result, "its counters")
            return []
        # What somebody did is seen once only, so it is kept until there is an end to it.
        if seen:
            self._lost = "removed" if seen & helper.GONE else "changed"
        lost = DatapathEvent(DatapathEventKind.LOST, f"nft: somebody {self._lost} the table {self._table}", True)
        try:
            _demand(functions.mpo_nft_rebuild(nft), "its table")
            events = self.attach(self._links)
        except OffloadError:
            if self._is_told:
                raise
            self._is_told = True
            return [lost]
        self._lost, self._is_told = "", False
        # Said even if it was said before: what was set since went with what was left of the table.
        return [
            lost,
            *events,
            DatapathEvent(DatapathEventKind.RESTORED, f"nft: the table {self._table} is there again"),
        ]

    def leave(self) -> None:
        """See ``KernelBackend``."""
        if self._nft is not None:
            functions.mpo_nft_leave(self._nft)
            self._release()

    def remove(self) -> None:
        """See ``KernelBackend``.

        Raises:
            OffloadError: the table is still there.
        """
        if self._nft is not None:
            result = functions.mpo_nft_remove(self._nft)
            self._release()
            _demand(result, "the removal of its table")

    def _alive(self) -> NftPointer:
        if self._nft is None:
            raise OffloadError("nft: ended")
        return self._nft

    def _release(self) -> None:
        self._nft = None
        helper.unpin_slots(self._pinned)
        self._mapped.close()
        self._stats.close()


def _demand(result: int, what: str) -> None:
    if result < 0:
        raise OffloadError(f"nft: {what}: {os.strerror(-result)}")
