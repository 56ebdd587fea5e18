"""The backends by name. What a backend needs (libraries, its compiled object) is loaded when it is opened."""

# ruff: noqa: PLC0415  # a backend whose library is missing must not take the others with it

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.errors import OffloadError
from mediaproxy.privileged.probe import Open


def _open_tc(settings: BackendSettings) -> KernelBackend:
    from mediaproxy.backends.bpf import open_tc

    return open_tc(settings)


def _open_xdp(settings: BackendSettings) -> KernelBackend:
    from mediaproxy.backends.bpf import open_xdp

    return open_xdp(settings)


def _open_nft(settings: BackendSettings) -> KernelBackend:
    from mediaproxy.backends.nft import open_nft

    return open_nft(settings)


def _open_iptables(settings: BackendSettings) -> KernelBackend:
    from mediaproxy.backends.iptables import open_iptables

    return open_iptables(settings)


def _named(opener: Open) -> Open:
    def open_backend(settings: BackendSettings) -> KernelBackend:
        try:
            return opener(settings)
        except ImportError as error:
            raise OffloadError(f"not part of this build: {error}") from error

    return open_backend


OPENERS: Final[Mapping[str, Open]] = {
    "tc": _named(_open_tc),
    "xdp": _named(_open_xdp),
    "nft": _named(_open_nft),
    "iptables": _named(_open_iptables),
}
