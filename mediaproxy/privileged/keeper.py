"""What the privileged process does from its start to its end.

It is two: a *server* that talks to the daemon, with no more rights than its backend needs, and a *keeper* that talks
to nobody, waits for the server's end, and cleans up. A daemon that is killed takes the server with it, and everything
stays in the kernel. Where the server ends alone, or cannot start, the keeper takes out of the kernel what nobody could
change any more, so that the daemon's sockets get all packets.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import traceback
from pathlib import Path
from typing import Final

from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.datapath.flow import Capabilities
from mediaproxy.errors import MediaProxyError, OffloadError
from mediaproxy.privileged.doorkeeper import Doors, close_doors, open_doors
from mediaproxy.privileged.fence import Fence
from mediaproxy.privileged.installer import Installer
from mediaproxy.privileged.links import NetworkNews, read_links
from mediaproxy.privileged.openers import OPENERS
from mediaproxy.privileged.probe import choose_backend, try_in_child
from mediaproxy.privileged.rights import Capability, keep_only, last_capability, lift_memory_lock_limit
from mediaproxy.privileged.routes import KernelRoutes, Routes
from mediaproxy.privileged.run_folder import RunFolder
from mediaproxy.privileged.server import Ending, Server
from mediaproxy.privileged.settings import Candidate, KernelPath, PrivilegedSettings, Started, read_json, write_json
from mediaproxy.privileged.wire import MAX_FRAME, Frame, Kind, WireError, pack_frame, parse_frame

_PINNED: Final = frozenset({KernelPath.AUTO, KernelPath.TC, KernelPath.XDP})
_NEEDED: Final = {
    "tc": (Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON),
    "xdp": (Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON),
    "nft": (Capability.NET_ADMIN,),
    "iptables": (Capability.NET_ADMIN, Capability.NET_RAW),
}
_DYING: Final = 1.0
"""Seconds in which all files of a daemon that died are closed."""
_LEFT: Final = 0
_REMOVED: Final = 3
_BROKEN: Final = 4


def keep(channel: socket.socket, life: int) -> int:
    """Run the privileged process to its end.

    Args:
        channel: to the daemon, whose first frame are the settings; is closed.
        life: the read end of a pipe whose other end the daemon holds as long as it serves.
    Returns:
        The exit status.
    """
    ignore_signals()
    try:
        serial, settings = receive_settings(channel)
    except (OSError, WireError):
        return 1  # the daemon is gone, or is none
    lift_memory_lock_limit()
    folder = RunFolder(Path(settings.run_folder))
    pins, note = folder.mount() if settings.path in _PINNED else (None, "")
    doors = open_doors(settings, folder)
    server = os.fork()
    if server == 0:
        status = _BROKEN
        try:
            status = _serve(channel, serial, settings, folder, pins, note, doors)
        except ConnectionError:
            status = _LEFT
        except (MediaProxyError, OSError) as error:
            with contextlib.suppress(OSError):
                channel.send(pack_frame(Frame(Kind.FAILED, serial, str(error).encode("utf-8", "backslashreplace"))))
        except Exception:  # noqa: BLE001  # the boundary of the server: stderr is all that is left
            traceback.print_exc()
        finally:
            os._exit(status)
    channel.close()
    _, ended = os.waitpid(server, 0)
    status = os.waitstatus_to_exitcode(ended)
    # The kernel closes the files of a daemon that died one after the other: this one's end may come a moment later.
    patience = _DYING if status == _LEFT else 0.0
    if status not in {_REMOVED, _BROKEN} and not _serves(life, patience):
        return 0
    if status != _REMOVED:
        _clear(folder.remembered_backend(), _backend_settings(settings, pins))
        folder.remember_backend("")
        if doors.opened:
            os.read(life, 1)  # calls go on by the sockets: their packets must get in until the daemon ends
    close_doors(settings, folder)
    folder.remove()
    return 0


def _serves(life: int, patience: float) -> bool:
    """Whether the daemon holds its end of the pipe, into which nothing is ever written, for so many seconds more."""
    return not select.select([life], [], [], patience)[0]


def ignore_signals() -> None:
    """What ends the daemon must not end us before it has asked us to clean up; we end when it does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)


def receive_settings(channel: socket.socket) -> tuple[int, PrivilegedSettings]:
    """The first frame: its serial and what is in it.

    Raises:
        WireError: it is something else.
        OSError: the daemon is gone.
    """
    data = channel.recv(MAX_FRAME + 1)
    if not data:
        raise ConnectionResetError
    frame = parse_frame(data)
    if frame.kind is not Kind.SETTINGS:
        raise WireError(f"{frame.kind.name} instead of the settings")
    return frame.serial, read_json(PrivilegedSettings, frame.body)


def _backend_settings(settings: PrivilegedSettings, pins: Path | None) -> BackendSettings:
    return BackendSettings(settings.instance, pins, settings.slots, settings.nft_form, settings.nft_owner)


def _clear(name: str, settings: BackendSettings) -> str:
    """Take out of the kernel what a backend has left there; why not, if it cannot be done."""
    opener = OPENERS.get(name)
    if opener is None:
        return ""
    try:
        opener(settings).remove()
    except OffloadError as error:
        return f"what {name} has left in the kernel cannot be removed: {error}"
    return ""


def _serve(
    channel: socket.socket,
    serial: int,
    settings: PrivilegedSettings,
    folder: RunFolder,
    pins: Path | None,
    note: str,
    doors: Doors,
) -> int:
    backend: KernelBackend | None = None
    candidates: list[Candidate] = []
    backend_settings = _backend_settings(settings, pins)
    if settings.path is not KernelPath.USERSPACE:
        backend, candidates = choose_backend(settings.path, OPENERS, backend_settings, try_in_child)
    notes = [f"firewall: {doors.problem}"] if doors.problem else []
    notes += [note] if note and backend is not None and backend.name in {"tc", "xdp"} else []
    before = folder.remembered_backend()
    if before and (backend is None or before != backend.name):
        # Flows of a daemon that died would take the packets of new calls.
        notes += filter(None, [_clear(before, backend_settings)])
    if backend is None:
        stays = bool(doors.opened)
        started = Started("", Capabilities(), 0, tuple(candidates), tuple(notes), firewall=doors.opened, stays=stays)
        channel.send(pack_frame(Frame(Kind.STARTED, serial, write_json(started))))
        return _wait_with_doors(channel) if stays else _REMOVED
    folder.remember_backend(backend.name)
    return _serve_with(backend, channel, serial, settings, tuple(candidates), tuple(notes), doors.opened)


def _wait_with_doors(channel: socket.socket) -> int:
    """Without a kernel path there is nothing to ask of us but the end."""
    keep_only(())
    while data := channel.recv(MAX_FRAME + 1):
        try:
            frame = parse_frame(data)
        except WireError:
            continue
        if frame.kind is Kind.REMOVE_ALL:
            with contextlib.suppress(OSError):
                channel.send(pack_frame(Frame(Kind.DONE, frame.serial)))
            return _REMOVED
        channel.send(pack_frame(Frame(Kind.FAILED, frame.serial, b"there is no kernel path")))
    return _LEFT


def _serve_with(
    backend: KernelBackend,
    channel: socket.socket,
    serial: int,
    settings: PrivilegedSettings,
    candidates: tuple[Candidate, ...],
    notes: tuple[str, ...],
    opened: tuple[str, ...],
) -> int:
    with contextlib.ExitStack() as stack:
        routes = KernelRoutes()
        stack.callback(routes.close)
        news = stack.enter_context(NetworkNews())
        fence = Fence(settings.relays, backend.capabilities, backend.slots)
        installer = Installer(backend, fence, Routes(routes.look_up))
        server = Server(channel, backend, installer, news, read_links, routes.set_link_mtus)
        # Hooks are there before the daemon is told that they are.
        backend.attach(read_links().links)
        keep_only(_needed(backend.name))
        fds = [backend.stats_fd, *([backend.tap_fd] if backend.tap_fd >= 0 else [])]
        started = Started(
            backend.name,
            backend.capabilities,
            backend.slots,
            candidates,
            notes,
            has_tap=backend.tap_fd >= 0,
            firewall=opened,
            stays=True,
        )
        socket.send_fds(channel, [pack_frame(Frame(Kind.STARTED, serial, write_json(started)))], fds)
        return _REMOVED if server.run() is Ending.REMOVED else _LEFT


def _needed(name: str) -> tuple[Capability, ...]:
    needed = _NEEDED[name]
    if Capability.BPF in needed and last_capability() < Capability.BPF:
        return (*needed, Capability.SYS_ADMIN)  # before Linux 5.8 that one is CAP_BPF
    return needed
