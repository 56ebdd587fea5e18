"""A program that installs and removes flows over and over, as the daemon does: the same parts, but no calls.

    python -m tests.support.flow_churn INSTANCE RUN_FOLDER ADDRESS PAIRS KERNEL_PATH

Each line of standard input is a number of times that ``PAIRS`` flows are to be installed and removed again; one line
of standard output answers it: how many flows were ever installed, and how many the kernel has then.
"""

from __future__ import annotations

import sys
from typing import Final

from mediaproxy.backends.userspace import UserspaceRelay
from mediaproxy.datapath.kernel_path import SLOT_REST, KernelPath
from mediaproxy.datapath.offload import OffloadingRelay
from mediaproxy.datapath.relay import SourcePolicy, TransportConfig, TransportHandle
from mediaproxy.logs import LogSink, StderrDestination, make_logger
from mediaproxy.net import Endpoint
from mediaproxy.privileged.launch import KernelPathRun, open_flow_stats
from mediaproxy.privileged.settings import KernelPath as Wanted
from mediaproxy.privileged.settings import PrivilegedSettings, RelayRange

_FIRST_PORT: Final = 30000
_PEER: Final = "10.10.1.10"
_TIMES_OPEN: Final = 10
"""How often the flows of a transport come and go before it is closed."""


class Churn:
    """Pairs of transports that send to each other, and a clock that runs as fast as it is told to."""

    def __init__(self, relay: OffloadingRelay, address: str, pairs: int) -> None:
        self._relay = relay
        self._address = address
        self._pairs = pairs
        self._now = 1000.0
        self._handles: list[tuple[TransportHandle, TransportHandle]] = []
        self._left = 0

    def turn(self) -> None:
        """Install all, remove all."""
        if not self._handles:
            self._handles = [
                self._relay.open_pair(self._address, _FIRST_PORT + 2 * pair, pair) for pair in range(self._pairs)
            ]
            self._left = _TIMES_OPEN
        self._relay.configure([self._config(index, SourcePolicy.LOCKED) for index in range(self._pairs)])
        self._settle()
        if self._relay.kernel().flows != self._pairs:
            raise SystemExit(f"{self._relay.kernel()}")
        self._left -= 1
        if self._left:
            self._relay.configure([self._config(index, SourcePolicy.CLOSED) for index in range(self._pairs)])
        else:
            self._relay.close([handle for pair in self._handles for handle in pair])
            self._handles = []
        self._settle()

    def _settle(self) -> None:
        self._now += 1.5 * SLOT_REST
        self._relay.settle(self._now)
        self._relay.take_changes()

    def _config(self, index: int, policy: SourcePolicy) -> TransportConfig:
        peer = Endpoint(_PEER, 6000 + 2 * index)
        other = self._handles[index ^ 1][0]
        return TransportConfig(self._handles[index][0], policy, remote=peer, expected=peer, rtp_sinks=(other,))


def _main() -> None:
    instance, folder, address, pairs, path = sys.argv[1:]
    count = int(pairs)
    settings = PrivilegedSettings(
        instance, Wanted(path), folder, (RelayRange(address, _FIRST_PORT, _FIRST_PORT + 2 * count - 1),), 4 * count
    )
    with (
        KernelPathRun(settings, make_logger(LogSink(StderrDestination())), open_flow_stats, no_fallback=True) as run,
        UserspaceRelay(1, 65536) as sockets,
    ):
        if run.datapath is None:
            raise SystemExit(run.reason)
        churn = Churn(OffloadingRelay(sockets, KernelPath(run.datapath, sockets, 1), path, ()), address, count)
        installed = 0
        for line in sys.stdin:
            for _ in range(int(line)):
                churn.turn()
                installed += count
            print(installed, len(run.datapath.installed()), flush=True)


if __name__ == "__main__":
    _main()
