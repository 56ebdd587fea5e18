"""Networks for one test: namespaces, cables between them, addresses, a NAT router; all gone afterwards.

Nothing in the host's own namespace is touched: cables are born with each end in its namespace. Namespace names carry
the process id of the run that made them (``mp-PID-N-ROLE``), so that several runs don't meet, and so that what a
killed run left behind is known to be nobody's and is removed by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self, TypeVar

from tests.support.processes import Process, is_alive, kill_pid, wait_until

T = TypeVar("T")

_NETNS_FOLDER: Final = Path("/run/netns")
_OWN_NAME: Final = re.compile(r"mp-(\d+)-\d+-[a-z0-9]+\Z")
_OWN_FOLDER: Final = re.compile(r"mp-(\d+)-[a-z]+-[^/]+\Z")
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_libc: Final = ctypes.CDLL(None, use_errno=True)
_serial: Final = itertools.count()


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: unwinds like Ctrl-C does, so that every lab on the way is taken down."""


class NetLabError(Exception):
    """A network could not be built; the text holds the command and what it said."""


def why_not() -> str | None:
    """Why no lab can be built here, in one sentence; ``None`` if it can."""
    if os.geteuid() != 0:
        return "needs root, because it makes network namespaces"
    missing = [tool for tool in ("ip", "nsenter", "setpriv") if shutil.which(tool) is None]
    if missing:
        return f"needs the programs {', '.join(missing)} (Debian: iproute2, util-linux)"
    trial = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        return f"this machine allows no network namespaces: {trial.stderr.strip()}"
    return None


def _run(command: Sequence[str], stdin: str | None = None) -> str:
    """Run a short administrative command and return what it printed.

    Raises:
        NetLabError: it failed.
    """
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NetLabError(f"{' '.join(command)}: {(result.stderr or result.stdout).strip()}\n{stdin or ''}".rstrip())
    return result.stdout


class Namespace:
    """One host of the lab."""

    def __init__(self, name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.path = _NETNS_FOLDER / name

    def command(self, *command: str) -> list[str]:
        """The command line that runs ``command`` inside; the process id stays the same."""
        return ["nsenter", f"--net={self.path}", "--", *command]

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a short command inside and return its output.

        Raises:
            NetLabError: it failed.
        """
        return _run(self.command(*command), stdin)

    def ip(self, *arguments: str) -> str:
        """``ip ARGUMENTS`` inside."""
        return _run(["ip", "-n", self.name, *arguments])

    def nft(self, rules: str) -> None:
        """Load nftables rules inside (each statement on a line of its own)."""
        self.run("nft", "-f", "-", stdin=rules)

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in a thread that stands in this namespace: the sockets that it makes belong to it for good.

        Raises:
            Whatever ``function`` raises; ``OSError`` if the namespace is gone.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                enter(self)
                results.append(function())
            except BaseException as error:  # noqa: BLE001  (carried over to the caller's thread)
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def udp_socket(self, address: str = "", port: int = 0) -> socket.socket:
        """A UDP socket bound inside this namespace."""

        def make() -> socket.socket:
            udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind((address, port))
            except OSError:
                udp.close()
                raise
            return udp

        return self.call(make)

    def sysctl(self, **values: object) -> None:
        """Set sysctls below ``net``: ``sysctl(ipv4__ip_forward=1)`` (two underscores stand for a dot)."""

        def write() -> None:
            for key, value in values.items():
                Path("/proc/sys/net", *key.split("__")).write_text(f"{value}\n", encoding="ascii")

        self.call(write)

    def pids(self) -> list[int]:
        """The processes that stand in this namespace."""
        return [int(pid) for pid in _run(["ip", "netns", "pids", self.name]).split()]


def enter(namespace: Namespace) -> None:
    """Put the calling thread, which then should end, into a namespace.

    Raises:
        OSError: the namespace is gone.
    """
    with namespace.path.open("rb") as handle:
        if _libc.setns(handle.fileno(), _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace.path))


def _remove_namespace(name: str) -> None:
    """End what still runs inside (only we put processes there) and delete it, cables included."""

    def kill_all() -> bool:
        pids = [int(pid) for pid in _run(["ip", "netns", "pids", name]).split()]
        for pid in pids:
            kill_pid(pid)
        return not [pid for pid in pids if _state(pid) not in ("Z", "")]

    with contextlib.suppress(NetLabError, TimeoutError):
        wait_until(kill_all, 3.0, f"{name} empty")
    _run(["ip", "netns", "del", name])


def _state(pid: int) -> str:
    """The state letter of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def remove_leftovers() -> list[str]:
    """Remove the namespaces and folders of runs whose process is gone, and return their names."""
    removed = []
    for path in _NETNS_FOLDER.iterdir() if _NETNS_FOLDER.is_dir() else ():
        match = _OWN_NAME.match(path.name)
        if match is not None and not is_alive(int(match[1])):
            with contextlib.suppress(NetLabError):  # another run may be removing it at this moment
                _remove_namespace(path.name)
                removed.append(path.name)
    for path in Path(tempfile.gettempdir()).iterdir():
        match = _OWN_FOLDER.match(path.name)
        if match is not None and not is_alive(int(match[1])):
            _remove_folder(path)
            removed.append(path.name)
    return removed


def _remove_folder(folder: Path) -> None:
    """Remove a lab's folder, with the file systems that a killed daemon has left mounted in it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in mounts:
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)


class NetLab:
    """The namespaces, processes and files of one test; use it in a ``with`` statement.

    Whatever way the block is left (end, exception, Ctrl-C, SIGTERM, SIGHUP), programs are ended, namespaces are
    deleted, and the folder with the logs is deleted too, unless the test failed: then it is kept and its name is
    printed.

    Args:
        prefix: of the temporary folder's name.
    Raises:
        NetLabError: on entering, if no namespaces can be made here.
    """

    def __init__(self, prefix: str = "lab") -> None:
        self._prefix = prefix
        self._stack = contextlib.ExitStack()
        self._namespaces: dict[str, Namespace] = {}
        self.folder = Path()
        self.keep_logs = False
        """Set it when the test failed though no exception passes through the ``with`` statement."""

    def __enter__(self) -> Self:
        reason = why_not()
        if reason is not None:
            raise NetLabError(reason)
        remove_leftovers()
        self._install_signal_handlers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"mp-{os.getpid()}-{self._prefix}-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _signals_blocked():  # a second Ctrl-C must not stop the cleaning up
            self._stack.close()
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if self.keep_logs or (kind is not None and not interrupted):
            # Under another name: what is called mp-PID-... belongs to a run, and is removed once that is dead.
            kept = self.folder.rename(self.folder.with_name(self.folder.name.replace("mp-", "mediaproxy-failed-", 1)))
            print(f"the logs are kept in {kept}", file=sys.stderr)
        else:
            _remove_folder(self.folder)

    def _install_signal_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def terminate(number: int, frame: FrameType | None) -> None:
            raise Terminated(signal.Signals(number).name)

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                self._stack.callback(signal.signal, number, signal.signal(number, terminate))

    def namespace(self, role: str) -> Namespace:
        """Make a host with nothing but a loopback interface.

        Args:
            role: lower-case letters and digits; unique in this lab.
        Raises:
            NetLabError: the namespace can't be made.
        """
        namespace = Namespace(f"mp-{os.getpid()}-{next(_serial)}-{role}", role)
        with _signals_blocked():
            _run(["ip", "netns", "add", namespace.name])
            self._stack.callback(_remove_namespace, namespace.name)
        namespace.ip("link", "set", "lo", "up")
        # A new namespace may inherit the host's settings: a host of ours forwards nothing unless it is made a router.
        namespace.sysctl(ipv4__ip_forward=0, ipv4__conf__all__rp_filter=0, ipv4__conf__default__rp_filter=0)
        if Path("/proc/sys/net/ipv6").exists():
            namespace.sysctl(ipv6__conf__all__forwarding=0)
        self._namespaces[role] = namespace
        return namespace

    def __getitem__(self, role: str) -> Namespace:
        return self._namespaces[role]

    def cable(self, left: Namespace, left_device: str, right: Namespace, right_device: str) -> None:
        """Connect two hosts by a veth pair; both ends are up, without addresses."""
        _run(["ip", "link", "add", left_device, "netns", left.name, "type", "veth",
              "peer", "name", right_device, "netns", right.name])  # fmt: skip
        left.ip("link", "set", left_device, "up")
        right.ip("link", "set", right_device, "up")

    def address(self, namespace: Namespace, device: str, *addresses: str, gateway: str | None = None) -> None:
        """Give a device its addresses (``10.0.0.1/24``, ``fd00::1/64``) and, if wanted, the default route."""
        for address in addresses:
            # nodad: a tentative IPv6 address can't be bound for a second.
            flags = ("nodad",) if ":" in address else ()
            namespace.ip("address", "add", address, "dev", device, *flags)
        if gateway is not None:
            namespace.ip("-6" if ":" in gateway else "-4", "route", "add", "default", "via", gateway)

    def masquerade(self, router: Namespace, outside_device: str) -> None:
        """Make a host a NAT router: what leaves by ``outside_device`` gets that device's address."""
        router.sysctl(ipv4__ip_forward=1)
        router.nft(
            "table ip nat {\n"
            "  chain postrouting {\n"
            "    type nat hook postrouting priority srcnat; policy accept;\n"
            f'    oifname "{outside_device}" masquerade\n'
            "  }\n"
            # Like a home router: nobody outside starts anything towards the inside.
            "  chain forward {\n"
            "    type filter hook forward priority filter; policy drop;\n"
            "    ct state established,related accept\n"
            f'    oifname "{outside_device}" accept\n'
            "  }\n"
            "}\n"
        )

    def start(
        self,
        name: str,
        namespace: Namespace,
        *command: str,
        stop_signal: signal.Signals = signal.SIGTERM,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program in a namespace; it is ended when the lab is left, the youngest first."""
        process = Process(name, namespace.command(*command), self.folder, stop_signal, cwd=cwd)
        self._stack.callback(process.stop)
        return process

    def on_exit(self, function: Callable[[], object]) -> None:
        """Have something done when the lab is left, before the namespaces go."""
        self._stack.callback(function)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Hold back the signals that unwind, for the few steps that must not be torn apart."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
