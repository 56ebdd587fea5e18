"""``firewall = manage`` from the start of the privileged process to its end.

What opens the firewall runs programs and a thread, so it does that in a process of its own, which ends when it is done.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from mediaproxy.backends.firewall import Firewall, FirewallError, Opening
from mediaproxy.privileged.run_folder import RunFolder
from mediaproxy.privileged.settings import FirewallMode, PrivilegedSettings, RelayRange

_MARK = "firewall"


@dataclass(frozen=True, slots=True)
class Doors:
    """What came of it: ``opened`` says what was done and proven, ``problem`` why not; each is one line for people."""

    opened: tuple[str, ...] = ()
    problem: str = ""


def openings_of(relays: Sequence[RelayRange]) -> list[Opening]:
    """What must be open for media."""
    return [Opening("media", relay.address, relay.port_min, relay.port_max, media=True) for relay in relays]


def open_doors(settings: PrivilegedSettings, folder: RunFolder) -> Doors:
    """Open the media ports if that is wanted; else close what a daemon that died has opened."""
    if settings.firewall is FirewallMode.MANAGE:
        folder.mark(_MARK)
        return _in_child(lambda: _manage(settings))
    close_doors(settings, folder)
    return Doors()


def close_doors(settings: PrivilegedSettings, folder: RunFolder) -> None:
    """Take out of the firewall what we have put in, if anything; what can't go now goes at the next start."""
    if folder.has_mark(_MARK) and not _in_child(lambda: _withdraw(settings)).problem:
        folder.unmark(_MARK)


def _manage(settings: PrivilegedSettings) -> Doors:
    try:
        report = Firewall(settings.instance, openings_of(settings.relays)).manage()
    except FirewallError as error:
        return Doors(problem=str(error))
    where = ", ".join(report.changed) or "nothing holds rules, so nothing was changed"
    return Doors(opened=(where, *report.proofs))


def _withdraw(settings: PrivilegedSettings) -> Doors:
    try:
        Firewall(settings.instance, ()).withdraw()
    except FirewallError as error:
        return Doors(problem=str(error))
    return Doors()


def _in_child(work: Callable[[], Doors]) -> Doors:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            try:
                doors = work()
            except Exception:  # noqa: BLE001  # the boundary of this process
                doors = Doors(problem=traceback.format_exc().strip().splitlines()[-1])
            with open(write_end, "wb") as pipe:
                pipe.write(msgspec.json.encode(doors))
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(answer, type=Doors)
    return Doors(problem="ended while it was at the firewall")
