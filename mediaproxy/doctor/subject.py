"""What is examined beside the host: what the configuration makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mediaproxy.backends.kernel_backend import NftForm
from mediaproxy.config.options import DEFAULT_RUN_FOLDER
from mediaproxy.interfaces import Interface
from mediaproxy.net import Endpoint
from mediaproxy.privileged.settings import KernelPath


@dataclass(frozen=True, slots=True)
class Subject:
    """The part of the configuration that checks look at.

    Attributes:
        interfaces: addresses and port ranges for media; empty if the configuration cannot be used.
        control: where ng requests are taken.
        default_ports: nobody chose the port range.
        run_folder: of all instances.
    """

    interfaces: tuple[Interface, ...] = ()
    control: tuple[Endpoint, ...] = ()
    default_ports: bool = True
    kernel_path: KernelPath = KernelPath.AUTO
    nft_form: NftForm = NftForm.READABLE
    nft_owner: bool = False
    instance: str = "default"
    run_folder: Path = DEFAULT_RUN_FOLDER

    @property
    def addresses(self) -> tuple[str, ...]:
        """The relay's local addresses, each once."""
        return tuple(dict.fromkeys(interface.address for interface in self.interfaces))

    @property
    def port_ranges(self) -> tuple[tuple[int, int], ...]:
        """The media ranges, each once, both ends included."""
        return tuple(sorted({(interface.port_min, interface.port_max) for interface in self.interfaces}))

    @property
    def ports(self) -> int:
        """How many sockets media can have."""
        ranges = {(interface.address, interface.port_min, interface.port_max) for interface in self.interfaces}
        return sum(port_max - port_min + 1 for _, port_min, port_max in ranges)

    @property
    def wants_kernel(self) -> bool:
        return self.kernel_path is not KernelPath.USERSPACE
