"""What processes used, read from /proc: exact CPU time, memory, descriptors.

CPU time is ``sum_exec_runtime`` of ``/proc/PID/task/TID/schedstat`` (nanoseconds, no sampling). Interrupt and softirq
time that the kernel spends on top of a thread is inside that thread's figure unless the kernel accounts for it apart
(``CONFIG_IRQ_TIME_ACCOUNTING``); the receive path has kernel threads of its own here (threaded NAPI), which are added.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue  # the thread ended meanwhile
    return found


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants that are alive."""
    tree = [pid]
    for member in tree:
        tree += _children(member)
    return tree


def cpu_ns(pid: int) -> int:
    """Exact CPU time of all threads of one process so far, in nanoseconds; 0 for a process that is gone."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except (OSError, IndexError):
            continue
    return total


def thread_cpu_ns(thread_id: int) -> int:
    """Exact CPU time of one thread of this process so far, in nanoseconds; 0 for one that is gone."""
    try:
        return int(Path(f"/proc/self/task/{thread_id}/schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return 0


def tree_cpu_ns(pid: int) -> int:
    """Exact CPU time of a process and its descendants, in nanoseconds."""
    return sum(cpu_ns(member) for member in process_tree(pid))


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process tree: all of it, and what is in swap or shared is not told apart."""

    rss_kib: int
    descriptors: int


def memory_of(pid: int) -> Memory:
    """Resident set and open descriptors of a process and its descendants."""
    rss_kib = descriptors = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                rss_kib += int(line.split()[1])
        descriptors += len(os.listdir(f"/proc/{member}/fd"))
    return Memory(rss_kib, descriptors)


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """One ``cpuN`` line of /proc/stat, in ticks."""

    busy: int
    steal: int
    total: int

    def __sub__(self, earlier: CoreTimes) -> CoreTimes:
        return CoreTimes(self.busy - earlier.busy, self.steal - earlier.steal, self.total - earlier.total)

    @property
    def busy_part(self) -> float:
        """Which part of the time somebody ran on this core (ticks, so coarse), steal included."""
        return (self.busy + self.steal) / self.total if self.total else 0.0

    @property
    def stolen_part(self) -> float:
        """Which part of the time the hypervisor gave this core to others."""
        return self.steal / self.total if self.total else 0.0


def core_times(cpu: int) -> CoreTimes:
    """Times of one core since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            user, nice, system, idle, iowait, irq, softirq, steal = (int(word) for word in words[1:9])
            busy = user + nice + system + irq + softirq
            return CoreTimes(busy, steal, busy + steal + idle + iowait)
    raise ValueError(f"no cpu{cpu} in /proc/stat")
