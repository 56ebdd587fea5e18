"""Somebody else's eBPF programs on the TCX hook of a device: two instructions that return a verdict."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

from tests.support.netlab import Namespace, NetLab

TCX_PASS: Final = 0
"""Give the packet to the network stack; no further program sees it."""

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD: Final = 5
_LINK_CREATE: Final = 28
_SCHED_CLS: Final = 3
_TCX_INGRESS: Final = 46
_F_BEFORE: Final = 8
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(_SYSCALL[os.uname().machine], command, attributes, len(attributes))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def load_verdict(lab: NetLab, verdict: int) -> int:
    """Load a program that returns ``verdict`` for each packet; its descriptor is closed with the lab.

    Raises:
        OSError: the kernel refuses it.
    """
    # r0 = verdict; exit
    instructions = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "=IIQQ40x", _SCHED_CLS, 2, ctypes.addressof(instructions), ctypes.addressof(licence)
    )  # fmt: skip
    fd = _bpf(_PROG_LOAD, ctypes.create_string_buffer(attributes, len(attributes)))
    lab.on_exit(lambda: os.close(fd))
    return fd


def attach_first(lab: NetLab, namespace: Namespace, device: str, program: int) -> None:
    """Hang a program on a device, before all others that are there; it goes with the lab.

    Raises:
        OSError: the kernel refuses it.
    """

    def attach() -> int:
        attributes = struct.pack("=IIIII12x", program, socket.if_nametoindex(device), _TCX_INGRESS, _F_BEFORE, 0)
        return _bpf(_LINK_CREATE, ctypes.create_string_buffer(attributes, len(attributes)))

    link = namespace.call(attach)
    lab.on_exit(lambda: os.close(link))
