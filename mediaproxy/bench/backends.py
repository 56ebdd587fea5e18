"""How the kernel backends are made here: imported when they are measured, since each may lack a library of its own."""

from __future__ import annotations

import importlib
from typing import cast

from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.errors import OffloadError


def _open(module: str, function: str, settings: BackendSettings) -> KernelBackend:
    try:
        found = importlib.import_module(f"mediaproxy.backends.{module}")
    except ImportError as error:
        raise OffloadError(f"not in this package: {error}") from error
    return cast(KernelBackend, getattr(found, function)(settings))


def open_tc(settings: BackendSettings) -> KernelBackend:
    """Raises:
    OffloadError: it can't be had here.
    """
    return _open("bpf", "open_tc", settings)


def open_xdp(settings: BackendSettings) -> KernelBackend:
    """Raises:
    OffloadError: it can't be had here.
    """
    return _open("bpf", "open_xdp", settings)


def open_nft(settings: BackendSettings) -> KernelBackend:
    """Raises:
    OffloadError: it can't be had here.
    """
    return _open("nft", "open_nft", settings)


def open_iptables(settings: BackendSettings) -> KernelBackend:
    """Raises:
    OffloadError: it can't be had here.
    """
    return _open("iptables", "open_iptables", settings)
