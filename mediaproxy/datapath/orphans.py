"""Flows that a daemon left in the kernel when it died: they go on, and their ports stay theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mediaproxy.datapath.flow import InstalledFlow


class OrphanHolder(Protocol):
    """Who knows the orphans and can end them."""

    @property
    def orphans(self) -> tuple[InstalledFlow, ...]: ...

    def orphan_last_seen(self, orphan: InstalledFlow, /) -> float | None:
        """When it forwarded its last packet, monotonic seconds."""
        ...

    def remove_orphans(self, orphans: Sequence[InstalledFlow], /) -> None:
        """Take them out of the kernel."""
        ...
