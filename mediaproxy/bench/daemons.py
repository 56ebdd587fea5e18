"""A media proxy that runs as a daemon: how it is started on one core and given calls. And rtpengine, which is one."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit
from typing import Final

from mediaproxy.bench.accounting import Memory, memory_of, tree_cpu_ns
from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.lab import Lab
from mediaproxy.bench.ng import NG_ADDRESS, NG_PORT, MediaCall, NgClient

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
NICE: Final = -19
SETTLE_SECONDS: Final = 0.3
SETTLE_TRIES: Final = 20
DESCRIPTORS_A_CALL: Final = 8
"""More than any daemon here opens for one call: fewer left than this, and the limit was why a call was refused."""
PORT_MIN: Final = 10000
PORT_MAX: Final = 59999


class DaemonUnderTest(ABC):
    """A media proxy that speaks ng and takes rtpengine's options.

    Every thread of it runs on ``lab.relay_cpu``, at nice -19: other work on the machine then hardly disturbs it,
    and the order among the daemon's own threads stays the scheduler's.
    """

    name: str

    def __init__(self, lab: Lab, threads: int) -> None:
        self.lab = lab
        self.threads = threads

    @abstractmethod
    def program(self) -> list[str]:
        """The executable with what must come before the options.

        Raises:
            BenchError: it is not installed.
        """

    @abstractmethod
    def version(self) -> str:
        """Its version, and the commit where there is one."""

    def command_line(self) -> list[str]:
        """What is run, without the namespace and the pinning."""
        lab = self.lab
        return [
            *self.program(),
            "--config-file=none",
            "--foreground",
            "--log-stderr",
            "--log-level=4",
            "--table=-1",
            *(f"--interface=a{n}/{lab.local_address(0, n)}" for n in range(lab.addresses)),
            *(f"--interface=b{n}/{lab.local_address(1, n)}" for n in range(lab.addresses)),
            f"--listen-ng={NG_ADDRESS}:{NG_PORT}",
            f"--port-min={PORT_MIN}",
            f"--port-max={PORT_MAX}",
            "--delete-delay=0",
            "--timeout=3600",
            "--silent-timeout=3600",
            "--offer-timeout=3600",
            f"--num-threads={self.threads}",
        ]

    def printed_command_line(self) -> str:
        """The command line as a person would repeat it."""
        pinned = ["taskset", "-c", str(self.lab.relay_cpu), "nice", "-n", str(NICE)]
        return shlex.join([*pinned, *self.command_line()])

    @contextmanager
    def running(self) -> Iterator[RunningDaemon]:
        """Start it, wait until it answers a ping, and end it afterwards.

        Raises:
            BenchError: it is not installed, ended at once, or did not answer.
        """
        # It dies with the benchmark, even if that is killed.
        command = [
            *("setpriv", "--pdeathsig", "TERM"),
            *self.lab.relay.command(
                "taskset", "-c", str(self.lab.relay_cpu), "nice", "-n", str(NICE), *self.command_line()
            ),
        ]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            _prefer_session(process.pid)
            client = NgClient(self.lab)
            try:
                self._await_pong(process, client, log.fileno())
                yield RunningDaemon(self, process.pid, client, log.fileno())
                if process.poll() is not None:
                    raise BenchError(f"{self.name} ended by itself ({process.returncode}): {_tail(log.fileno())}")
            finally:
                client.close()
                self._stop(process)

    def _await_pong(self, process: subprocess.Popen[bytes], client: NgClient, log: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise BenchError(f"{self.name} did not start ({process.returncode}): {_tail(log)}")
            try:
                if b"pong" in client.ask(b"d7:command4:pinge", seconds=0.2, tries=1):
                    return
            except BenchError:
                time.sleep(0.05)  # a refused datagram comes back at once
        raise BenchError(f"{self.name} did not answer a ping within {START_SECONDS:.0f} s: {_tail(log)}")

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _prefer_session(pid: int) -> None:
    """With autogroups the kernel shares a core among sessions first: the nice value has to be the session's too."""
    path = Path(f"/proc/{pid}/autogroup")
    if path.exists():
        path.write_text(str(NICE))


def _tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 600, max(0, size - 600)).decode(errors="replace").strip() or "it printed nothing"


class RunningDaemon:
    """A daemon that is up: its client and what it used so far."""

    def __init__(self, daemon: DaemonUnderTest, pid: int, client: NgClient, log: int) -> None:
        self.daemon = daemon
        self.pid = pid
        self.client = client
        self._log = log

    def cpu_ns(self) -> int:
        """Exact CPU time of all its threads, in nanoseconds."""
        return tree_cpu_ns(self.pid)

    def cpu_with_receive_ns(self) -> int:
        """The same plus the kernel threads that receive for it."""
        return self.cpu_ns() + self.daemon.lab.relay_napi_ns()

    def memory(self) -> Memory:
        """Resident memory and open descriptors."""
        return memory_of(self.pid)

    def settled_memory(self) -> Memory:
        """The same once no descriptor comes or goes: rtpengine closes those of deleted calls a little later."""
        memory = self.memory()
        for _ in range(SETTLE_TRIES):
            time.sleep(SETTLE_SECONDS)
            before, memory = memory, self.memory()
            if memory.descriptors == before.descriptors:
                break
        return memory

    def log_tail(self) -> str:
        """The last it said."""
        return _tail(self._log)

    def set_up_calls(self, count: int) -> tuple[list[MediaCall], str]:
        """Set up calls; where the descriptors run out before, the text says so.

        Raises:
            BenchError: a call was refused although there were descriptors left.
        """
        calls: list[MediaCall] = []
        for number in range(count):
            try:
                calls.append(self.client.set_up(number, self.daemon.lab.addresses))
            except BenchError as error:
                descriptors, limit = self.memory().descriptors, getrlimit(RLIMIT_NOFILE)[1]
                if descriptors < limit - DESCRIPTORS_A_CALL:
                    raise
                return calls, f"the descriptor limit of {limit} ends this row at {number} of {count} calls ({error})"
        return calls, ""


class RtpengineUnderTest(DaemonUnderTest):
    """Debian's rtpengine in userspace mode (``--table=-1``: no kernel module)."""

    name = "rtpengine"

    def program(self) -> list[str]:
        path = shutil.which("rtpengine") or shutil.which("rtpengine", path="/usr/sbin:/usr/bin")
        if path is None:
            raise BenchError("rtpengine is not installed: apt-get install --no-install-recommends rtpengine-daemon")
        return [path]

    def version(self) -> str:
        return first_line([self.program()[0], "--version"]) or "version unknown"


def first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""
