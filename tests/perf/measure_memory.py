"""Memory and descriptors per call, and how many calls fit."""

from __future__ import annotations

from itertools import count
from resource import RLIMIT_NOFILE, getrlimit
from typing import Final

from mediaproxy.bench.daemons import DaemonUnderTest
from mediaproxy.bench.errors import BenchError
from tests.perf.samples import Sample
from tests.perf.scale import Scale

WARM_UP_CALLS: Final = 50


def measure_memory(daemon: DaemonUnderTest, scale: Scale) -> Sample:
    """One repetition: growth of the resident set and of the descriptors with calls that are up and answered.

    Kernel memory (sockets) is in neither daemon's figure; the descriptors say how many sockets there are.

    Raises:
        BenchError: a call was refused.
    """
    lab = daemon.lab
    with daemon.running() as running:
        client = running.client
        for call in [client.set_up(number, lab.addresses, "warm") for number in range(WARM_UP_CALLS)]:
            client.delete(call)
        before = running.settled_memory()
        calls, limit = running.set_up_calls(scale.memory_calls)
        up = running.settled_memory()
        for call in calls:
            client.delete(call)
        after = running.settled_memory()
        for call in running.set_up_calls(len(calls))[0]:
            client.delete(call)
        again = running.settled_memory()
    return Sample(
        figures={
            "kib_per_call": (up.rss_kib - before.rss_kib) / len(calls),
            "descriptors_per_call": (up.descriptors - before.descriptors) / len(calls),
            "rss_empty_mib": before.rss_kib / 1024,
            "rss_full_mib": up.rss_kib / 1024,
            "rss_after_mib": after.rss_kib / 1024,
            "rss_second_round_kib": (again.rss_kib - after.rss_kib) / len(calls),
            "descriptors_left": again.descriptors - before.descriptors,
            "calls": len(calls),
        },
        notes=[limit] if limit else [],
    )


def measure_capacity(daemon: DaemonUnderTest, scale: Scale) -> Sample:
    """Set up calls until one is refused; the note says what ended it.

    Raises:
        BenchError: not even one call could be set up.
    """
    limit = getrlimit(RLIMIT_NOFILE)[1]
    with daemon.running() as running:
        empty = running.settled_memory()
        for number in count():
            try:
                running.client.set_up(number, daemon.lab.addresses)
            except BenchError as error:
                reason = str(error)
                break
        up = running.settled_memory()
    if number == 0:
        raise BenchError(reason)
    return Sample(
        figures={
            "calls": number,
            "descriptors": up.descriptors,
            "kib_per_call": (up.rss_kib - empty.rss_kib) / number,
        },
        notes=[f"ended by: {reason[:160]} ({up.descriptors} descriptors open, the limit is {limit})"],
    )
