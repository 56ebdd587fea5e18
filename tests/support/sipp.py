"""SIPp as a phone: one scenario file, one run, and what it has sent and received."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.netlab import Namespace, NetLab
from tests.support.processes import Process, ProcessFailedError

SCENARIOS: Final = Path(__file__).resolve().parents[1] / "interop" / "sipp"
SIP_PORT: Final = 5060
SPEECH_FILE: Final = "speech.ulaw"
SAMPLES_PER_SECOND: Final = 8000
PTIME: Final = 0.02

_TRACE_HEAD: Final = re.compile(
    r"^-{3,} \d{4}-\d\d-\d\d[^\n]*\n(?:UDP|TCP) message (?P<way>sent|received)[^\n]*:\n\n", re.MULTILINE
)


def ulaw(sample: int) -> int:
    """Encode one 16-bit sample (ITU-T G.711, mu-law)."""
    bias, clip = 0x84, 32635
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), clip) + bias
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def write_speech(folder: Path, seconds: float) -> Path:
    """Write ``speech.ulaw``, a tone that sweeps (no two packets are alike), for SIPp's ``rtp_stream``.

    Args:
        folder: where SIPp runs.
        seconds: its length; one packet holds 20 ms.
    """
    count = round(seconds * SAMPLES_PER_SECOND)
    tone = bytes(
        ulaw(round(8000 * math.sin(2 * math.pi * (300 + 0.01 * index) * index / SAMPLES_PER_SECOND)))
        for index in range(count)
    )
    path = folder / SPEECH_FILE
    path.write_bytes(tone)
    return path


@dataclass(frozen=True, slots=True)
class SipMessage:
    """A SIP message as the phone saw it; ``way`` is ``sent`` or ``received``."""

    way: str
    text: str

    @property
    def start(self) -> str:
        """The first line without the SIP version: ``INVITE sip:...`` or ``200 OK``."""
        return self.text.partition("\n")[0].strip().removeprefix("SIP/2.0 ").removesuffix(" SIP/2.0")

    @property
    def sdp(self) -> str | None:
        """The body if it is SDP."""
        head, _, body = self.text.partition("\n\n")
        return body if "application/sdp" in head.lower() and body.strip() else None

    def header(self, name: str) -> str:
        """The value of the first header with this name, empty if there is none."""
        found = re.search(rf"^{re.escape(name)}:\s*(.*)$", self.text, re.MULTILINE | re.IGNORECASE)
        return found[1].strip() if found else ""


def sdp_endpoint(sdp: str) -> tuple[str, int]:
    """Address and port of the first media of an SDP: where its owner wants media."""
    section = sdp[sdp.index("\nm=") :]
    address = re.search(r"^c=IN IP[46] (\S+)", section, re.MULTILINE) or re.search(
        r"^c=IN IP[46] (\S+)", sdp, re.MULTILINE
    )
    port = re.search(r"^m=\S+ (\d+)", section, re.MULTILINE)
    if address is None or port is None:
        raise ValueError(f"no c= or m= line in {sdp!r}")
    return address[1], int(port[1])


class Sipp:
    """One run of SIPp in the background.

    Args:
        lab: owns the process and its files.
        namespace: where it runs.
        scenario: name of a file in ``tests/interop/sipp`` without ``.xml``.
        address: local address, for SIP and media.
        remote: address of the SIP proxy; ``None`` for a callee.
        rtp_port: printed in the SDP: SIPp's own media port, or that of the RTP agent beside it.
        calls: how many calls, then it ends.
        rate: calls per second.
        pause_ms: length of ``<pause/>`` in the scenario.
        own_media: SIPp itself opens ``rtp_port`` and plays ``speech.ulaw``.
        timeout: seconds, after which it gives up with an error.
    """

    def __init__(
        self,
        lab: NetLab,
        namespace: Namespace,
        scenario: str,
        address: str,
        *,
        remote: str | None = None,
        sip_port: int = SIP_PORT,
        rtp_port: int = 6000,
        calls: int = 1,
        rate: float = 10.0,
        pause_ms: int = 1000,
        own_media: bool = False,
        trace: bool = True,
        timeout: float = 60.0,
        service: str = "callee",
        name: str | None = None,
        call_id: str | None = None,
    ) -> None:
        self.name = name or scenario.replace("_", "-")
        self._folder = lab.folder / self.name
        self._folder.mkdir()
        if own_media:
            shutil.copy(lab.folder / SPEECH_FILE, self._folder)
        # fmt: off
        command = [
            "sipp", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-nostdin", "-i", address, "-p", str(sip_port),
            "-mi", address, "-mp", str(rtp_port if own_media else sip_port + 11000), "-key", "rtp_port", str(rtp_port),
            "-key", "contact_port", str(sip_port), "-s", service, "-m", str(calls), "-r", f"{rate:g}",
            "-d", str(pause_ms), "-timeout", f"{timeout:g}s", "-timeout_error",
            "-trace_err", "-error_file", str(self._folder / "errors.log"),
        ]
        # fmt: on
        if trace:
            command += ["-trace_msg", "-message_file", str(self._folder / "messages.log")]
        if call_id is not None:
            command += ["-cid_str", call_id]
        if remote is not None:
            command.append(f"[{remote}]:{SIP_PORT}" if ":" in remote else f"{remote}:{SIP_PORT}")
        self.process: Process = lab.start(self.name, namespace, *command, cwd=self._folder)

    def messages(self) -> list[SipMessage]:
        """All SIP messages so far, in order (needs ``trace``)."""
        path = self._folder / "messages.log"
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
        heads = list(_TRACE_HEAD.finditer(text))
        if not heads:
            return []
        ends = [head.start() for head in heads[1:]] + [len(text)]
        return [SipMessage(head["way"], text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]

    def find(self, way: str, start: str, nth: int = 0) -> SipMessage | None:
        """The nth message whose first line begins with ``start``."""
        found = [message for message in self.messages() if message.way == way and message.start.startswith(start)]
        return found[nth] if len(found) > nth else None

    def wait_message(self, way: str, start: str, nth: int = 0, timeout: float = 10.0) -> SipMessage:
        """Wait for such a message.

        Raises:
            ProcessFailedError: SIPp ended without it, or the time is up.
        """
        found: list[SipMessage] = []

        def seen() -> bool:
            message = self.find(way, start, nth)
            if message is not None:
                found.append(message)
            return message is not None

        try:
            self.process.wait_ready(seen, timeout)
        except ProcessFailedError:
            if not seen():  # it may have come just before the end
                raise
        return found[0]

    def errors(self) -> str:
        """What SIPp complained about."""
        path = self._folder / "errors.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _complaints(self) -> str:
        """The first errors that matter: retransmissions of ended calls ("Dead call") don't."""
        events = re.split(r"(?m)^'?(?=\d{4}-\d\d-\d\d\t)", self.errors())
        return "".join(event for event in events if "Dead call" not in event)[:2000].strip()

    def finish(self, timeout: float = 60.0) -> None:
        """Wait for the end of all calls.

        Raises:
            ProcessFailedError: a call failed, or SIPp did not end.
        """
        code = self.process.wait(timeout)
        if code != 0:
            raise ProcessFailedError(f"{self.name}: SIPp ended with code {code}\n{self._complaints()}")

    def count(self, what: str) -> int:
        """A cumulative figure of the final screen: ``Successful call``, ``Failed call``, ``Total Calls created``."""
        found = re.findall(rf"^\s*{re.escape(what)}\s*\|[^|]*\|\s*(\d+)", self.process.log(), re.MULTILINE)
        if not found:
            raise ProcessFailedError(f"{self.name}: no final statistics\n{self.process.tail()}")
        return int(found[-1])
