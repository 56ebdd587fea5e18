"""Capabilities, user and groups of this process: what it has, and how it gives them up for good.

No library: prctl(2) and capset(2) by ctypes. Both act on the calling thread alone, so all of this is done while there
is just one.
"""

from __future__ import annotations

import contextlib
import ctypes
import grp
import os
import pwd
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from mediaproxy.errors import MediaProxyError

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CLONE_NEWNET: Final = 0x40000000
_MS_NOSUID_NODEV_NOEXEC: Final = 2 | 4 | 8
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_LAST_CAPABILITY: Final = Path("/proc/sys/kernel/cap_last_cap")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Those that matter here (linux/capability.h)."""

    SETPCAP = 8
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39


class RightsError(MediaProxyError):
    """Rights could not be given up, or a user or group is not known: the daemon must not go on with them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom to become: numbers of user and group."""

    uid: int
    gid: int


def look_up_identity(user: str, group: str) -> Identity | None:
    """The numbers of a user and a group, each a name or a number; ``None`` if neither is given.

    Without a group it is the user's own; without a user it stays.

    Raises:
        RightsError: there is no such user or group.
    """
    if not user and not group:
        return None
    uid, gid = os.getuid(), os.getgid()
    try:
        if user:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        raise RightsError(f"user: there is no user {user}") from None
    try:
        if group:
            gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise RightsError(f"group: there is no group {group}") from None
    return Identity(uid, gid)


def effective_capabilities() -> frozenset[int]:
    """Numbers of the capabilities that this thread has in effect."""
    for line in Path("/proc/thread-self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(number for number in range(64) if bits >> number & 1)
    return frozenset()


def last_capability() -> int:
    """The highest capability that this kernel knows."""
    try:
        return int(_LAST_CAPABILITY.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 40


def give_up_rights(identity: Identity | None) -> None:
    """Give up all capabilities in all sets, other groups, and the user if another one is named; no way back.

    Raises:
        RightsError: something could not be given up, or there is more than one thread.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise RightsError("rights cannot be given up: there are threads already")
    held = effective_capabilities()
    _drop_bounding(range(last_capability() + 1), held)
    if identity is not None:
        try:
            if (os.getuid(), os.getgid()) != (identity.uid, identity.gid) or os.getgroups() not in ([], [identity.gid]):
                os.setgroups([])
                os.setresgid(identity.gid, identity.gid, identity.gid)
                os.setresuid(identity.uid, identity.uid, identity.uid)
        except OSError as error:
            raise RightsError(f"user: cannot become user {identity.uid}: {error.strerror}") from error
    elif os.geteuid() == 0 and held:
        try:
            os.setgroups([])
        except OSError as error:
            if not os.getgroups() or set(os.getgroups()) == {os.getgid()}:
                pass  # nothing to give up; a user namespace may forbid it
            else:
                raise RightsError(f"groups cannot be given up: {error.strerror}") from error
    _set_capabilities(frozenset())
    forbid_new_rights()
    if effective_capabilities():
        raise RightsError("capabilities could not be given up")


def keep_only(wanted: Iterable[int]) -> None:
    """Give up all capabilities but these, in all sets, and the way to any more.

    Raises:
        RightsError: something could not be given up.
    """
    held = effective_capabilities()
    kept = held & frozenset(wanted)
    _drop_bounding((number for number in range(last_capability() + 1) if number not in kept), held)
    _set_capabilities(kept)
    forbid_new_rights()


def forbid_new_rights() -> None:
    """Set ``no_new_privs``: no program that this process starts can have more rights.

    Raises:
        RightsError: the kernel does not know it.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _drop_bounding(numbers: Iterable[int], held: frozenset[int]) -> None:
    """Without CAP_SETPCAP the bounding set stays; ``no_new_privs`` then makes it meaningless."""
    if Capability.SETPCAP in held:
        for number in numbers:
            _prctl(_PR_CAPBSET_DROP, number)


def _set_capabilities(kept: frozenset[int]) -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bits = sum(1 << number for number in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    # Effective, permitted, inheritable; first of the capabilities 0 to 31, then of the others.
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc.capset(header, data) != 0:
        raise RightsError(f"capabilities cannot be given up: {os.strerror(ctypes.get_errno())}")


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))) != 0:
        raise RightsError(f"prctl {option} ({argument}): {os.strerror(ctypes.get_errno())}")


def lift_memory_lock_limit() -> None:
    """Before Linux 5.11 BPF maps count as locked memory; where the limit cannot be lifted they must fit."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def enter_new_network() -> None:
    """Move this thread into a network namespace of its own, empty but for a ``lo`` that is down.

    Raises:
        OSError: not allowed here.
    """
    _check(_libc.unshare(_CLONE_NEWNET))


def mount_bpf(path: Path) -> None:
    """Mount a bpffs that only its owner may enter.

    Raises:
        OSError: not allowed here.
    """
    _check(_libc.mount(b"bpf", os.fsencode(path), b"bpf", ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), b"mode=0700"))


def unmount(path: Path) -> None:
    """Take a mount away; what is still in use goes on until it is not.

    Raises:
        OSError: nothing is mounted there, or not allowed.
    """
    _check(_libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
