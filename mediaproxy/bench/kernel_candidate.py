"""Kernel backends as candidates: driven as the privileged process drives them, without daemon and sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Final

from mediaproxy.backends.flow_records import REMOVE, SET, FlowRecord, pack_record, results
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend, Link, NftForm
from mediaproxy.bench.calls import PlannedCall, plan_calls
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow
from mediaproxy.errors import OffloadError
from mediaproxy.privileged.probe import Open

_SETUP_SECONDS: Final = 0.2
"""So long flows are set and removed for the set-up rate, at least once."""
_SPARE_SLOTS: Final = 64


class OpenKernel:
    """A backend with its flows installed; see ``OpenCandidate``."""

    def __init__(self, lab: Lab, backend: KernelBackend, planned: Sequence[PlannedCall]) -> None:
        self._lab = lab
        self._backend = backend
        self.calls = len(planned)
        self.flows: Sequence[MediaFlow] = [flow for call in planned for flow in call.media]
        self.notes: Sequence[str] = ()
        self.setup_per_s: float | None = None
        self._stats: FlowStatsMemory | None = None
        self._records = [
            (call, side, lab.relay_devices[1 - side].index, lab.relay_devices[1 - side].mtu)
            for call in planned
            for side in (0, 1)
        ]

    def install(self) -> None:
        """Set all flows, and find out how many a second can be set.

        Raises:
            BenchError: a flow was refused.
        """
        self._stats = FlowStatsMemory(self._backend.stats_fd, self._backend.slots)
        for call, side, *_ in self._records:
            self._stats.seed(call.installed(side).slot, None)
        sets, removals = self._pack(SET), self._pack(REMOVE)
        times: list[float] = []
        while True:
            records = bytearray(sets)
            began = time.monotonic()
            self._backend.apply(records)
            times.append(time.monotonic() - began)
            self._refuse_failures(records)
            if sum(times) > _SETUP_SECONDS:
                break
            self._backend.apply(bytearray(removals))
        self.setup_per_s = len(self._records) / median(times)

    def _pack(self, operation: int) -> bytes:
        return b"".join(
            pack_record(FlowRecord(operation, call.installed(side), ifindex, mtu))
            for call, side, ifindex, mtu in self._records
        )

    def _refuse_failures(self, records: bytearray) -> None:
        failed = [-result for result in results(records) if result < 0]
        if not failed:
            return
        if errno.ENOSPC in failed:
            raise BenchError(f"not possible: it takes {len(self._records) - len(failed)} flows and no more")
        raise BenchError(f"{len(failed)} of {len(self._records)} flows refused: {os.strerror(failed[0])}")

    def moved(self) -> int:
        """Packets that the kernel says it has forwarded."""
        if self._stats is None:
            return 0
        with self._lab.relay.inside():
            self._backend.check()
        return self._stats.totals().packets

    def close(self) -> None:
        """Let go of the statistics; the backend ends elsewhere."""
        if self._stats is not None:
            self._stats.close()

    def cpu_ns(self) -> int:
        """The kernel threads that receive: what they receive they also forward."""
        return self._lab.relay_napi_ns()

    def own_cpu_ns(self) -> int:
        """No process takes part."""
        return 0


class KernelCandidate:
    """See ``Candidate``.

    Args:
        forwarding: the backend needs ``ip_forward``.
    """

    bears_overload = True

    def __init__(
        self, name: str, lab: Lab, opener: Open, form: NftForm = NftForm.READABLE, *, forwarding: bool = False
    ) -> None:
        self.name = name
        self.lab = lab
        self._opener = opener
        self._form = form
        self._forwarding = forwarding

    @contextmanager
    def open(self, calls: int) -> Iterator[OpenKernel]:
        """Attach the backend to the relay's devices and set all flows.

        Raises:
            BenchError: this host can't have the backend, or it refuses a flow.
        """
        lab = self.lab
        settings = BackendSettings("bench", None, 2 * calls + _SPARE_SLOTS, self._form)
        lab.relay.set_sysctls({"ipv4/ip_forward": int(self._forwarding)})
        if self._forwarding:
            # Connection tracking is there once something asks for it; what it counts is how iptables knows.
            with contextlib.suppress(OSError):
                lab.relay.set_sysctls({"netfilter/nf_conntrack_acct": 1})
        try:
            with lab.relay.inside():
                backend = self._opener(settings)
        except OffloadError as error:
            raise BenchError(f"not possible here: {error}") from error
        opened = OpenKernel(lab, backend, plan_calls(lab, calls))
        try:
            with lab.relay.inside():
                limit = backend.capabilities.max_flows
                if limit is not None and limit < 2 * calls:
                    raise BenchError(f"not possible: it takes {limit} flows, {calls} calls are {2 * calls}")
                backend.attach([Link(device.index, device.name, device.mtu) for device in lab.relay_devices])
                opened.install()
            yield opened
        except OffloadError as error:
            raise BenchError(f"{self.name} failed: {error}") from error
        finally:
            opened.close()
            with lab.relay.inside():
                backend.remove()
