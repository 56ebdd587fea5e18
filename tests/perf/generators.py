"""The ng generator in C, driven from here: it runs on ``lab.load_cpu``, as FIFO so that nobody delays it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Final

from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.ng import NG_ADDRESS, NG_PORT
from tests.perf.build import build_generator

REPLY_SLACK_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class NgRun:
    """What one run of the ng generator gave; latencies in milliseconds from sending to reply."""

    seconds: float
    cycles: int
    failed: int
    resent: int
    window_full: int
    generator_cpu: float
    first_failure: str
    offer_ms: dict[str, float]
    answer_ms: dict[str, float]
    delete_ms: dict[str, float]

    @property
    def rate(self) -> float:
        """Completed offer + answer + delete cycles a second."""
        return self.cycles / self.seconds if self.seconds else 0.0


def ng_load(lab: Lab, *, window: int, rate: int, seconds: float, prefix: str) -> NgRun:
    """Run plain calls against the daemon; ``rate`` 0 means as fast as it answers.

    Raises:
        BenchError: the generator could not be built or failed, or no call came through.
    """
    program = build_generator("ng_load")
    command = lab.relay.command(
        *("taskset", "-c", str(lab.load_cpu), "chrt", "-f", "1"),
        *(str(program), NG_ADDRESS, str(NG_PORT), str(window), str(rate), str(int(seconds * 1000))),
        *(str(lab.addresses), lab.agent_address(0), lab.agent_address(1), prefix),
    )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + REPLY_SLACK_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise BenchError("the ng generator did not end") from None
    if done.returncode != 0:
        raise BenchError(f"the ng generator failed: {done.stderr.strip()}")
    result = NgRun(**json.loads(done.stdout))
    if result.cycles == 0:
        raise BenchError(f"no call came through: {result.first_failure or 'no reply'}")
    return result
