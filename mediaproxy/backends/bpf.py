"""The kernel backends made of eBPF: ``tc`` (TCX links, or clsact filters on older kernels) and ``xdp``.

What is pinned outlives the process: maps with all flows, and the links of TCX and XDP; a clsact filter is held by the
qdisc. So a process that follows finds the flows, loads its own program for the same maps and swaps it in.

The programs: ``kernel_offload/bpf``; what is done to a device and how: ``kernel_offload/src/mpo_bpf_hooks.c``.
"""

from __future__ import annotations

import errno
import os
import socket
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from mediaproxy.backends.flow_records import (
    CHANGE,
    IFINDEX,
    IFINDEX_OFFSET,
    OPERATION,
    OPERATION_OFFSET,
    REMOVE,
    RESULT,
    RESULT_OFFSET,
    SET,
)
from mediaproxy.backends.helper import bpf as helper
from mediaproxy.backends.helper.bpf import BpfPointer, Hook, functions
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link
from mediaproxy.backends.qdisc import QdiscMarks
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError

TAP_BYTES: Final = 4 * 1024 * 1024
"""Of the ring of copied packets: 50 ms of 40 000 calls' voice packets."""

_CAPABILITIES: Final = Capabilities(
    family_change=True, rtp_statistics=True, any_source=True, strict_source=True, opaque=True, tap=True
)
_DUMP: Final = 1024
"""How many flows are asked for at first; four times as many when there are more."""
_SYSCTL: Final = Path("/proc/sys/net")
_LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")


class TcForm(Enum):
    """By which hook of tc packets are taken; the values are in the order in which ``AUTO`` tries them."""

    AUTO = (Hook.TCX, Hook.CLSACT)
    TCX = (Hook.TCX,)
    CLSACT = (Hook.CLSACT,)


class XdpForm(Enum):
    """Where XDP takes packets: in the driver, or (generic) right above it, which every device can."""

    AUTO = (Hook.XDP_NATIVE, Hook.XDP_GENERIC)
    NATIVE = (Hook.XDP_NATIVE,)
    GENERIC = (Hook.XDP_GENERIC,)


_HOOK_NAMES: Final = {
    Hook.TCX: "TCX link",
    Hook.CLSACT: "tc filter",
    Hook.XDP_NATIVE: "XDP program",
    Hook.XDP_GENERIC: "generic XDP program",
}
_FOREIGN_HOOKS: Final = {
    Hook.TCX: (Hook.CLSACT, Hook.XDP_GENERIC),
    Hook.CLSACT: (Hook.TCX, Hook.XDP_GENERIC),
    Hook.XDP_NATIVE: (Hook.TCX, Hook.CLSACT),
    Hook.XDP_GENERIC: (Hook.TCX, Hook.CLSACT),
}
"""What an earlier run with another setting may have left on a device; one XDP link stands for both modes."""


@dataclass(slots=True)
class _Attached:
    link: Link
    hook: Hook
    lost: bool = False


def open_tc(settings: BackendSettings, form: TcForm = TcForm.AUTO) -> KernelBackend:
    """Load the programs for tc.

    Raises:
        OffloadError: this host cannot; the text says why and what would help.
    """
    return BpfBackend("tc", settings, form.value)


def open_xdp(settings: BackendSettings, form: XdpForm = XdpForm.AUTO) -> KernelBackend:
    """Load the program for XDP.

    Raises:
        OffloadError: this host cannot; the text says why and what would help.
    """
    return BpfBackend("xdp", settings, form.value)


class BpfBackend:
    """A ``KernelBackend``.

    Args:
        hooks: the ways to hang a program on a device, the best one first.
    Raises:
        OffloadError: this host cannot.
    """

    def __init__(self, name: str, settings: BackendSettings, hooks: Sequence[Hook]) -> None:
        self._name = name
        self._hooks = tuple(hooks)
        self._bpf: BpfPointer | None = _open(settings, name == "xdp")
        self._slots = functions.mpo_bpf_slots(self._bpf)
        self._marks = QdiscMarks(settings.pin_folder)
        self._attached: dict[int, _Attached] = {}
        self._refused: dict[int, str] = {}
        self._started = False
        self._notes: list[DatapathEvent] = []
        if self._slots < settings.slots:
            self._note(
                f"flows of an earlier run are in maps with room for {self._slots} instead of {settings.slots};"
                " the room grows with the next start at which no flow is left"
            )

    @property
    def name(self) -> str:
        """``tc`` or ``xdp``."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """All that a flow can ask for."""
        return _CAPABILITIES

    @property
    def slots(self) -> int:
        """See ``KernelBackend``. Fewer than asked for where flows were found in smaller maps."""
        return self._slots

    @property
    def stats_fd(self) -> int:
        """See ``KernelBackend``."""
        return functions.mpo_bpf_stats_fd(self._open_bpf())

    @property
    def tap_fd(self) -> int:
        """See ``KernelBackend``; ``backends.tap`` reads it."""
        return functions.mpo_bpf_tap_fd(self._open_bpf())

    @property
    def watch_fds(self) -> Sequence[int]:
        """None: the kernel tells nobody that a filter went; ``check`` looks."""
        return ()

    @property
    def unattached(self) -> Collection[int]:
        """See ``KernelBackend``."""
        return self._refused

    def attach(self, links: Sequence[Link]) -> list[DatapathEvent]:
        """See ``KernelBackend``."""
        wanted = {link.index: link for link in links}
        for index in self._attached.keys() - wanted.keys():
            self._detach(self._attached.pop(index))
        refused = {}
        for index, link in wanted.items():
            attached = self._attached.get(index)
            if attached is not None:
                attached.link = link
                continue
            result, hook = self._attach(link)
            if result < 0:
                refused[index] = f"{link.name}: {_why_not_attached(result, link, self._name)}"
                continue
            self._attached[index] = _Attached(link, hook)
            self._note_new(link, hook)
        if len(refused) != len(self._refused) and refused:
            self._note("packets that arrive here take the slow path: " + "; ".join(refused.values()))
        self._refused = refused
        self._started = True
        return self._take_notes()

    def apply(self, records: bytearray) -> None:
        """See ``KernelBackend``. -EOPNOTSUPP: XDP can't send by the device of the way out.

        Raises:
            OffloadError: no memory for the work as such.
        """
        hopeless = self._hopeless(records) if self._name == "xdp" else []
        for at in hopeless:  # nothing may be left at its key
            OPERATION.pack_into(records, at + OPERATION_OFFSET, REMOVE)
        result = helper.apply_changes(self._open_bpf(), records, len(records) // CHANGE.size)
        if result < 0:
            raise OffloadError(f"flows: {os.strerror(-result)}")
        for at in hopeless:
            OPERATION.pack_into(records, at + OPERATION_OFFSET, SET)
            RESULT.pack_into(records, at + RESULT_OFFSET, -errno.EOPNOTSUPP)

    def _hopeless(self, records: bytearray) -> list[int]:
        """Where the records of flows are whose packets a native program would lose.

        A driver hands a redirected frame to the device of the way out only if that one's driver can send such
        (``ndo_xdp_xmit``); else it is dropped after it was counted. Which devices can is not told before kernel 6.3;
        those that take a native program themselves do. A generic program can send by any.
        """
        native = {index for index, attached in self._attached.items() if attached.hook is Hook.XDP_NATIVE}
        if not native:
            return []
        return [
            at
            for at in range(0, len(records), CHANGE.size)
            if OPERATION.unpack_from(records, at + OPERATION_OFFSET)[0] == SET
            and IFINDEX.unpack_from(records, at + IFINDEX_OFFSET)[0] not in native | {0}
        ]

    def dump(self) -> bytearray:
        """See ``KernelBackend``.

        Raises:
            OffloadError: the kernel does not tell.
        """
        capacity = min(_DUMP, self._slots)
        while True:
            records = bytearray(CHANGE.size * capacity)
            result = helper.dump_changes(self._open_bpf(), records, capacity)
            if result >= 0:
                return records[: result * CHANGE.size]
            if result != -errno.ENOBUFS or capacity >= self._slots:
                raise OffloadError(f"flows: {os.strerror(-result)}")
            capacity = min(4 * capacity, self._slots)

    def check(self) -> list[DatapathEvent]:
        """See ``KernelBackend``. The flows outlive their hooks: nothing has to be set again."""
        bpf = self._open_bpf()
        for index, attached in list(self._attached.items()):
            if functions.mpo_bpf_attached(bpf, index, attached.hook) == 0:
                self._put_back(index, attached)
        return self._take_notes()

    def leave(self) -> None:
        """See ``KernelBackend``."""
        if self._bpf is not None:
            functions.mpo_bpf_close(self._bpf)
            self._bpf = None

    def remove(self) -> None:
        """See ``KernelBackend``."""
        if self._bpf is None:
            return
        for attached in self._attached.values():
            self._detach(attached)
        self._attached.clear()
        for index, _ in socket.if_nameindex():  # filters in others' qdiscs, left by a process before this one
            functions.mpo_bpf_detach(self._bpf, index, Hook.CLSACT)
        self._marks.remove_all(self._bpf)
        functions.mpo_bpf_unpin(self._bpf)
        self.leave()

    def _open_bpf(self) -> BpfPointer:
        if self._bpf is None:
            raise OffloadError(f"{self._name} was closed")
        return self._bpf

    def _attach(self, link: Link) -> tuple[int, Hook]:
        """Try the hooks in their order; the result is that of the last one tried."""
        bpf = self._open_bpf()
        result, hook = -errno.EOPNOTSUPP, self._hooks[-1]
        for hook in self._hooks:
            result = functions.mpo_bpf_attach(bpf, link.index, hook, link.ethernet)
            if result >= 0 or result == -errno.ENODEV:
                break
        if result > 0:
            self._marks.set(link.index)
        if result >= 0 and not self._started:
            for foreign in _FOREIGN_HOOKS[hook]:
                functions.mpo_bpf_detach(bpf, link.index, foreign)
        return result, hook

    def _detach(self, attached: _Attached) -> None:
        bpf = self._open_bpf()
        functions.mpo_bpf_detach(bpf, attached.link.index, attached.hook)
        self._marks.remove(attached.link.index)

    def _put_back(self, index: int, attached: _Attached) -> None:
        name, what = attached.link.name, _HOOK_NAMES[attached.hook]
        result, hook = self._attach(attached.link)
        if result == -errno.ENODEV:  # the device went, and whoever watches devices will say so
            del self._attached[index]
            return
        if not attached.lost:
            attached.lost = True
            self._note(f"somebody removed the {what} of {name}", DatapathEventKind.LOST)
        if result >= 0:
            attached.lost, attached.hook = False, hook
            self._note(f"the {_HOOK_NAMES[hook]} of {name} is back", DatapathEventKind.RESTORED)

    def _note_new(self, link: Link, hook: Hook) -> None:
        if self._started:
            self._note(f"{link.name}: {_HOOK_NAMES[hook]} attached")
        if self._name == "xdp" and not link.loopback and not _is_forwarding(link.name):
            self._note(
                f"XDP forwards nothing towards {link.name} while the kernel does not route there:"
                f" set net.ipv4.conf.{link.name}.forwarding = 1 and net.ipv6.conf.{link.name}.forwarding = 1"
            )

    def _note(self, text: str, kind: DatapathEventKind = DatapathEventKind.NOTE) -> None:
        self._notes.append(DatapathEvent(kind, text))

    def _take_notes(self) -> list[DatapathEvent]:
        notes, self._notes = self._notes, []
        return notes


def _open(settings: BackendSettings, xdp: bool) -> BpfPointer:
    identity = zlib.crc32(settings.instance.encode())
    result, bpf, log = helper.open_bpf(settings.pin_folder, settings.slots, TAP_BYTES, xdp, identity)
    if result < 0:
        raise OffloadError(_why_not_open(-result, settings, log))
    return bpf


def _why_not_open(number: int, settings: BackendSettings, log: str) -> str:
    """Say what an operator can do about it."""
    match number:
        case errno.EPERM | errno.EACCES:
            lockdown = _lockdown()
            if lockdown:
                return f"eBPF is refused: the kernel is locked down ({lockdown})"
            return "eBPF is refused: it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or root), in a container too"
        case errno.ENOSYS:
            return "this kernel has no eBPF (CONFIG_BPF_SYSCALL)"
        case errno.ENOMEM:
            return (
                f"no memory for {settings.slots} flows: lower their number, or raise the memory limit"
                " (before kernel 5.11: LimitMEMLOCK / ulimit -l)"
            )
        case errno.EXDEV | errno.ENOENT:
            return f"{settings.pin_folder} is not a folder of a mounted bpffs (mount -t bpf bpf FOLDER)"
        case _:
            said = log.strip().splitlines()
            detail = f": {said[-1]}" if said else ""
            return f"the kernel refuses the eBPF programs, which need 5.10 or newer ({os.strerror(number)}){detail}"


def _lockdown() -> str:
    """``integrity`` or ``confidentiality`` where the kernel is locked down, else empty."""
    try:
        text = _LOCKDOWN.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
    mode = text.partition("[")[2].partition("]")[0]
    return "" if mode == "none" else mode


def _why_not_attached(result: int, link: Link, name: str) -> str:
    match -result:
        case errno.EBUSY | errno.EEXIST:
            return "another program is attached there"
        case errno.EPERM | errno.EACCES:
            return "needs CAP_NET_ADMIN"
        case errno.EINVAL if name == "xdp" and not link.ethernet:
            return "XDP needs an Ethernet device"
        case _:
            return os.strerror(-result)


def _is_forwarding(device: str) -> bool:
    """Whether the kernel routes from a device by IPv4: ``bpf_fib_lookup`` refuses otherwise."""
    try:
        return (_SYSCTL / "ipv4" / "conf" / device / "forwarding").read_text(encoding="ascii").strip() != "0"
    except OSError:
        return True  # nothing known against it
