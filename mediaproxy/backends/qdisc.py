"""The clsact qdiscs that this instance has made, so that it removes those and no others.

A mark is an empty folder beside the pins: bpffs keeps folders, and they outlive the process as the qdisc does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mediaproxy.backends.helper.bpf import ABI, BpfPointer, Hook, functions

_MARK: Final = re.compile(rf"v{ABI}-clsact-([0-9]{{1,10}})\Z")
_LINK: Final = re.compile(rf"v{ABI}-(tcx|xdp)-([0-9]{{1,10}})\Z")
_INGRESS: Final = 0xFFFFFFF2  # TC_H_CLSACT, TC_H_MIN_INGRESS
_EGRESS: Final = 0xFFFFFFF3


class QdiscMarks:
    """Args:
    folder: of a bpffs; ``None`` if nothing is to outlive this process.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._marks = {int(match[1]) for match in self._names(_MARK)}

    def set(self, ifindex: int) -> None:
        """The qdisc of a device was made by us."""
        self._marks.add(ifindex)
        if self._folder is not None:
            with contextlib.suppress(OSError):  # then it stays when we are removed: an empty qdisc does nothing
                self._path(ifindex).mkdir(exist_ok=True)

    def remove(self, ifindex: int) -> None:
        """Remove the qdisc of a device if it is ours and nobody else has a filter there."""
        if ifindex not in self._marks:
            return
        if not has_filters(ifindex):
            functions.mpo_bpf_remove_qdisc(ifindex)
        self._marks.discard(ifindex)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(ifindex).rmdir()

    def remove_all(self, bpf: BpfPointer) -> None:
        """Remove all that this instance has ever put on devices: a process before this one may have left some."""
        for match in self._names(_LINK):
            functions.mpo_bpf_detach(bpf, int(match[2]), Hook.TCX if match[1] == "tcx" else Hook.XDP_GENERIC)
        for ifindex in list(self._marks):
            functions.mpo_bpf_detach(bpf, ifindex, Hook.CLSACT)
            self.remove(ifindex)

    def _path(self, ifindex: int) -> Path:
        assert self._folder is not None
        return self._folder / f"v{ABI}-clsact-{ifindex}"

    def _names(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        if self._folder is None:
            return
        for path in list(self._folder.iterdir()):
            match = pattern.match(path.name)
            if match is not None:
                yield match


def has_filters(ifindex: int) -> bool:
    """Whether a device's clsact qdisc has filters, either way. Yes, if the kernel does not tell."""
    import pyroute2  # noqa: PLC0415  # takes 0.2 s, which only who made a qdisc is to pay

    try:
        with pyroute2.IPRoute() as route:
            return any(list(route.get_filters(index=ifindex, parent=parent)) for parent in (_INGRESS, _EGRESS))
    except pyroute2.NetlinkError as error:
        return error.code not in {2, 19, 22}  # ENOENT, ENODEV, EINVAL: there is no such qdisc
    except OSError:
        return True
