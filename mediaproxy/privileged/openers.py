"""The backends by name. What a backend needs (libraries, its compiled object) is loaded when it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, cast

from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.errors import OffloadError
from mediaproxy.privileged.probe import Open


def _opener(module: str, function: str) -> Open:
    def open_backend(settings: BackendSettings) -> KernelBackend:
        try:
            opener = cast(Open, getattr(import_module(module), function))
        except ImportError as error:
            raise OffloadError(f"not part of this build: {error}") from error
        return opener(settings)

    return open_backend


OPENERS: Final[Mapping[str, Open]] = {
    "tc": _opener("mediaproxy.backends.bpf", "open_tc"),
    "xdp": _opener("mediaproxy.backends.bpf", "open_xdp"),
    "nft": _opener("mediaproxy.backends.nft", "open_nft"),
    "iptables": _opener("mediaproxy.backends.iptables", "open_iptables"),
}
