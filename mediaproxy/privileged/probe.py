"""Which backend this host can have: each one really forwards a packet, and why one did not is kept."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mediaproxy.backends.flow_records import SET, FlowRecord, pack_record, results
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.backends.kernel_backend import BackendSettings, KernelBackend
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.errors import MediaProxyError, OffloadError
from mediaproxy.privileged.scratch import Place, loopback, own_network
from mediaproxy.privileged.settings import Candidate, KernelPath

Open = Callable[[BackendSettings], KernelBackend]
"""Makes a backend, or raises ``OffloadError`` with the reason."""
Attempt = Callable[[str, Open, BackendSettings], str]
"""Tries a backend; empty if it forwards, else the reason."""

AUTOMATIC: Final = ("tc", "nft", "iptables")
"""The order in which ``auto`` tries; xdp is only ever asked for."""
_INSTANCE: Final = "probe"
_SLOTS: Final = 64
_TIMEOUT: Final = 8.0
"""Seconds that one attempt may take."""
_PATIENCE: Final = 1.5
"""Seconds in which a packet must have come through."""
_RESEND: Final = 0.05
_MAX_REASON: Final = 2000
_SUCCESS: Final = b"\0"


def choose_backend(
    path: KernelPath, openers: Mapping[str, Open], settings: BackendSettings, attempt: Attempt
) -> tuple[KernelBackend | None, list[Candidate]]:
    """Try the backends that are wanted until one forwards, and open that one.

    Returns:
        The open backend, if any, and what became of each that was tried.
    """
    wanted: Sequence[str] = AUTOMATIC if path is KernelPath.AUTO else (path.value,)
    candidates: list[Candidate] = []
    for name in wanted:
        opener = openers.get(name)
        reason = "not part of this build" if opener is None else attempt(name, opener, settings)
        if opener is not None and not reason:
            try:
                backend = opener(settings)
            except OffloadError as error:
                reason = str(error)
            else:
                candidates.append(Candidate(name, True, "forwarded a packet"))
                return backend, candidates
        candidates.append(Candidate(name, False, reason))
    return None, candidates


def try_in_child(_name: str, opener: Open, settings: BackendSettings) -> str:
    """An ``Attempt`` in a process of its own, which takes everything that it made with it."""
    trial = replace(settings, instance=_INSTANCE, pin_folder=None, slots=_SLOTS, nft_owner=False)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            reason = _try_here(opener, trial)
            os.write(write_end, reason.encode("utf-8", "backslashreplace")[:_MAX_REASON] or _SUCCESS)
        finally:
            os._exit(0)
    os.close(write_end)
    ready, _, _ = select.select([read_end], [], [], _TIMEOUT)
    if not ready:
        os.kill(child, signal.SIGKILL)
    verdict = os.read(read_end, _MAX_REASON) if ready else b""
    os.close(read_end)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ready:
        return f"did not forward a packet within {_TIMEOUT:g} s"
    if not verdict:
        return f"crashed while it was tried (signal {-ended})" if ended < 0 else "ended while it was tried"
    return "" if verdict == _SUCCESS else verdict.decode("utf-8", "replace")


def _try_here(opener: Open, settings: BackendSettings) -> str:
    try:
        with _a_place() as place:
            return forward_one(opener, settings, place)
    except MediaProxyError as error:
        return " ".join(str(error).split())
    except OSError as error:
        return f"cannot be tried: {error}"
    except Exception:  # noqa: BLE001  # the boundary of this process
        return f"cannot be tried: {traceback.format_exc().strip().splitlines()[-1]}"


@contextlib.contextmanager
def _a_place() -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        try:
            place: Place = stack.enter_context(own_network())
        except OSError:
            place = stack.enter_context(loopback())
        yield place


def forward_one(opener: Open, settings: BackendSettings, place: Place) -> str:
    """Have a backend forward one RTP packet.

    Returns:
        Empty if it came through, else what was missing.
    Raises:
        OffloadError: the backend cannot be had.
        OSError: nothing can be sent here.
    """
    backend = opener(settings)
    try:
        notes = [event.text for event in backend.attach(place.links)]
        source, local, sender, target = place.path
        flow = Flow(local=local, source=source, sender=sender, target=target, strict=False)
        mtu = max((link.mtu for link in place.links if link.index == place.ifindex), default=0)
        record = FlowRecord(SET, InstalledFlow(flow, Slot(0, 1)), place.ifindex, mtu, local_peer=place.ifindex == 0)
        with FlowStatsMemory(backend.stats_fd, backend.slots) as stats:
            stats.seed(record.installed.slot, None)  # no flow forwards that has nowhere to count
        records = bytearray(pack_record(record))
        backend.apply(records)
        result = results(records)[0]
        if result:
            return f"refused a flow: {os.strerror(-result)}"
        deadline = time.monotonic() + _PATIENCE
        for number in range(1000):
            payload = rtp_packet(number)
            place.send(payload)
            if place.receive(_RESEND) is not None:
                return ""
            if time.monotonic() > deadline:
                break
        return "; ".join(["took a flow, but forwarded no packet", *notes])
    finally:
        backend.remove()


def rtp_packet(sequence: int) -> bytes:
    """20 ms of silence in G.711 u-law (RFC 3550, section 5.1; RFC 3551, section 4.5.14)."""
    return struct.pack("!BBHII", 0x80, 0, sequence & 0xFFFF, 160 * sequence, 0x6D706F21) + b"\xff" * 160
