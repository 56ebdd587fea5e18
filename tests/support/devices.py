"""What a test sets at a network device that ``ip`` cannot: checksum offload, and a program that XDP needs at a veth."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from typing import Final

from tests.support.netlab import Namespace

_SIOCETHTOOL: Final = 0x8946  # linux/sockios.h
_ETHTOOL_STXCSUM: Final = 0x17  # linux/ethtool.h
_SYS_BPF: Final = 321 if os.uname().machine == "x86_64" else 280
_PROG_LOAD: Final = 5  # enum bpf_cmd, linux/bpf.h
_LINK_CREATE: Final = 28
_PROG_TYPE_XDP: Final = 6
_ATTACH_XDP: Final = 37
_XDP_PASS: Final = struct.pack("=BBhi BBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
"""r0 = XDP_PASS; exit"""
_libc: Final = ctypes.CDLL(None, use_errno=True)


def set_tx_checksum(namespace: Namespace, device: str, *, on: bool) -> None:
    """``ethtool -K DEVICE tx on|off``: whether the device, and not the stack, writes checksums of what it sends.

    Raises:
        OSError: the device does not have that, or is not there.
    """

    def change() -> None:
        value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, on))
        request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)

    namespace.call(change)


def pass_by_xdp(namespace: Namespace, device: str) -> int:
    """Attach an XDP program that lets everything pass: a veth takes redirected frames only if its peer has one.

    Returns:
        A descriptor: the program stays until it is closed.
    Raises:
        OSError: the kernel refuses.
    """

    def attach() -> int:
        code, licence = ctypes.create_string_buffer(_XDP_PASS, 16), ctypes.create_string_buffer(b"GPL")
        program = _bpf(
            _PROG_LOAD, struct.pack("=IIQQ", _PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence))
        )
        try:
            return _bpf(_LINK_CREATE, struct.pack("=IIII", program, socket.if_nametoindex(device), _ATTACH_XDP, 0))
        finally:
            os.close(program)

    return namespace.call(attach)


def _bpf(command: int, attributes: bytes) -> int:
    padded = ctypes.create_string_buffer(attributes, 128)
    result = int(_libc.syscall(_SYS_BPF, command, padded, 128))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf({command}): {os.strerror(number)}")
    return result
