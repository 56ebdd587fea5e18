"""A redirect that doesn't look at the packets: what cables, buffers and sink cost, and so everything costs at least."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from mediaproxy.backends.helper.load import functions
from mediaproxy.bench.calls import plan_calls
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow

NULL: Final = "null"


class OpenNull:
    """See ``OpenCandidate``."""

    def __init__(self, lab: Lab, flows: Sequence[MediaFlow], calls: int) -> None:
        self._lab = lab
        self.calls = calls
        self.flows = flows
        self.notes: Sequence[str] = ()
        self.setup_per_s: float | None = None

    def cpu_ns(self) -> int:
        """The kernel threads that receive."""
        return self._lab.relay_napi_ns()

    def own_cpu_ns(self) -> int:
        """Nothing."""
        return 0


class NullCandidate:
    """See ``Candidate``."""

    name = NULL
    bears_overload = True

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @contextmanager
    def open(self, calls: int) -> Iterator[OpenNull]:
        """Join the two devices.

        Raises:
            BenchError: the kernel can't.
        """
        lab = self.lab
        # What arrives leaves as it came, so it comes out addressed to the relay.
        flows = [
            MediaFlow(flow.side, flow.source, flow.relay, flow.relay)
            for call in plan_calls(lab, calls)
            for flow in call.media
        ]
        with ExitStack() as stack:
            for side in (0, 1):
                with lab.relay.inside():
                    link = functions.mpo_load_redirect(lab.relay_devices[side].index, lab.relay_devices[1 - side].index)
                if link < 0:
                    raise BenchError(f"not possible here: no plain redirect by TCX (kernel 6.6): {os.strerror(-link)}")
                stack.callback(os.close, link)
            yield OpenNull(lab, flows, calls)
