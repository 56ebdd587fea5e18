"""The lab of the main job: two networks that cannot reach each other, and the proxies between them.

::

    caller 10.10.1.10 ---- 10.10.1.1 [ Kamailio, media proxy ] 10.20.2.1 ---- 10.20.2.20 callee
                            external                   internal
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.media_proxy import MediaProxyProcess, proxy_command
from tests.support.netlab import Namespace, NetLab, why_not
from tests.support.processes import Process, wait_until
from tests.support.rtp_agent import RtpAgent
from tests.support.sipp import SIP_PORT, Sipp

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "kamailio-examples" / "basic" / "kamailio.cfg"
RTP_PORT: Final = 6000


@dataclass(frozen=True, slots=True)
class Addresses:
    """Who has which address. ``caller`` is what the caller believes to be (behind NAT a private one)."""

    caller: str
    external: str
    internal: str
    callee: str


IP4: Final = Addresses(caller="10.10.1.10", external="10.10.1.1", internal="10.20.2.1", callee="10.20.2.20")
IP6: Final = Addresses(caller="fd10:1::10", external="fd10:1::1", internal="fd20:2::1", callee="fd20:2::20")
BEHIND_NAT: Final = Addresses(caller="192.168.77.10", external="10.10.1.1", internal="10.20.2.1", callee="10.20.2.20")
NAT_OUTSIDE: Final = "10.10.1.77"
STRANGER: Final = "10.30.3.30"


def why_no_sip_lab(*more_programs: str) -> str | None:
    """Why the main job can't be run here, in one sentence; ``None`` if it can."""
    reason = why_not()
    if reason is not None:
        return reason
    programs = {
        "kamailio": "kamailio", "sipp": "sip-tester", "tshark": "tshark", "dumpcap": "tshark", "nft": "nftables",
        "strace": "strace",
    }  # fmt: skip
    wanted = ("kamailio", "sipp", "tshark", "dumpcap", *more_programs)
    missing = sorted({programs[program] for program in wanted if shutil.which(program) is None})
    if missing:
        return f"needs the Debian packages {', '.join(missing)}"
    if shutil.which(proxy_command()[0]) is None:
        return f"needs {proxy_command()[0]} ('make build' makes it)"
    return None


class SipLab(NetLab):
    """The networks of the main job, and what is run in them; use it in a ``with`` statement.

    Args:
        addresses: ``IP4``, ``IP6`` or ``BEHIND_NAT`` (the caller then stands behind a masquerading router).
        stranger: add a third host with a cable of its own to the proxy, at ``STRANGER``.
    """

    def __init__(self, addresses: Addresses = IP4, *, stranger: bool = False, prefix: str = "sip") -> None:
        super().__init__(prefix)
        self.addresses = addresses
        self._with_stranger = stranger
        self.media_proxy_options: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._build()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _build(self) -> None:
        self.caller = self.namespace("caller")
        self.proxy = self.namespace("proxy")
        self.callee = self.namespace("callee")
        prefix_length = 64 if ":" in self.addresses.external else 24
        self.cable(self.callee, "eth0", self.proxy, "int0")
        self.address(self.proxy, "int0", f"{self.addresses.internal}/{prefix_length}")
        self.address(self.callee, "eth0", f"{self.addresses.callee}/{prefix_length}", gateway=self.addresses.internal)
        if self.addresses is BEHIND_NAT:
            router = self.namespace("router")
            self.cable(router, "wan0", self.proxy, "ext0")
            self.cable(self.caller, "eth0", router, "lan0")
            self.address(router, "wan0", f"{NAT_OUTSIDE}/24")
            self.address(router, "lan0", "192.168.77.1/24")
            self.address(self.caller, "eth0", f"{self.addresses.caller}/24", gateway="192.168.77.1")
            self.masquerade(router, "wan0")
        else:
            self.cable(self.caller, "eth0", self.proxy, "ext0")
            self.address(self.caller, "eth0", f"{self.addresses.caller}/{prefix_length}")
        self.address(self.proxy, "ext0", f"{self.addresses.external}/{prefix_length}")
        if self.addresses is not BEHIND_NAT:
            # A way out exists for both: they can't reach each other because the proxy's host forwards nothing.
            self.address(self.caller, "eth0", gateway=self.addresses.external)
        if self._with_stranger:
            stranger = self.namespace("stranger")
            self.cable(stranger, "eth0", self.proxy, "str0")
            self.address(self.proxy, "str0", "10.30.3.1/24")
            self.address(stranger, "eth0", f"{STRANGER}/24", gateway="10.30.3.1")

    def can_reach(self, source: Namespace, target: Namespace, address: str) -> bool:
        """Whether a UDP datagram gets from one host to the other."""
        with target.udp_socket(address, 9999) as receiver, source.udp_socket("::" if ":" in address else "") as sender:
            receiver.settimeout(0.3)
            try:
                sender.sendto(b"hello", (address, 9999))
                return receiver.recv(16) == b"hello"
            except OSError:  # a time-out, or "no route"
                return False

    def start_media_proxy(self, *options: str, kernel_path: str | None = None) -> MediaProxyProcess:
        """Start the media proxy and wait until it answers; ``kernel_path`` as ``MediaProxyProcess`` has it."""
        interfaces = (f"external/{self.addresses.external}", f"internal/{self.addresses.internal}")
        self.media_proxy = MediaProxyProcess(self, self.proxy, interfaces, options, kernel_path)
        return self.media_proxy

    def start_kamailio(self, *defines: str, config: Path = EXAMPLE) -> Process:
        """Start Kamailio with the example and wait until it answers an OPTIONS request from the callee's network."""
        process = self.start(
            "kamailio", self.proxy, "kamailio", "-DD", "-E", "-f", str(config), "-Y", str(self.folder),
            "-A", f"EXTERNAL_SOCKET=udp:{_bracketed(self.addresses.external)}:{SIP_PORT}",
            "-A", f"INTERNAL_SOCKET=udp:{_bracketed(self.addresses.internal)}:{SIP_PORT}",
            *(part for define in defines for part in ("-A", define)),
        )  # fmt: skip
        with self.callee.udp_socket(self.addresses.callee, 5999) as probe:
            probe.settimeout(0.1)

            def answers() -> bool:
                try:
                    probe.sendto(self._options_request(), (self.addresses.internal, SIP_PORT))
                    return probe.recv(2048).startswith(b"SIP/2.0 200")
                except OSError:
                    return False

            process.wait_ready(answers, 15.0)
        return process

    def _options_request(self) -> bytes:
        host = _bracketed(self.addresses.internal)
        us = _bracketed(self.addresses.callee)
        return (
            f"OPTIONS sip:{host}:{SIP_PORT} SIP/2.0\r\nVia: SIP/2.0/UDP {us}:5999;branch=z9hG4bKready\r\n"
            f"From: <sip:lab@{us}>;tag=lab\r\nTo: <sip:{host}>\r\nCall-ID: ready@{us}\r\nCSeq: 1 OPTIONS\r\n"
            "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def register_callee(self, sip_port: int = SIP_PORT) -> None:
        """Register the callee's contact (another port is another phone of the same user)."""
        Sipp(
            self, self.callee, "register", self.addresses.callee, remote=self.addresses.internal, sip_port=sip_port,
            name=f"register-{sip_port}",
        ).finish(10.0)  # fmt: skip

    def start_all(self, *options: str) -> None:
        """Media proxy, Kamailio, and the callee registered."""
        self.start_media_proxy(*options)
        self.start_kamailio()
        self.register_callee()

    def call(
        self,
        uac: str,
        uas: str,
        *,
        pause_ms: int = 1000,
        uas_pause_ms: int | None = None,
        rtp_port: int = RTP_PORT,
        uac_pause_ms: int | None = None,
        **options: object,
    ) -> tuple[Sipp, Sipp]:
        """Start a callee and then a caller with these scenarios; returns (caller, callee)."""
        callee = Sipp(
            self, self.callee, uas, self.addresses.callee, rtp_port=rtp_port,
            pause_ms=pause_ms if uas_pause_ms is None else uas_pause_ms, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        wait_until(lambda: udp_port_is_bound(self.callee, SIP_PORT), 5.0, "the callee's SIP port")
        caller = Sipp(
            self, self.caller, uac, self.addresses.caller, remote=self.addresses.external, rtp_port=rtp_port,
            pause_ms=pause_ms if uac_pause_ms is None else uac_pause_ms, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        return caller, callee

    def agents(self, *, rtp_port: int = RTP_PORT) -> tuple[RtpAgent, RtpAgent]:
        """An RTP agent beside each phone: (caller's, callee's), closed with the lab."""
        caller = RtpAgent(self.caller, self.addresses.caller, rtp_port, 0x0CA11E40)
        self.on_exit(caller.close)
        callee = RtpAgent(self.callee, self.addresses.callee, rtp_port, 0x0CA11EE0)
        self.on_exit(callee.close)
        return caller, callee

    def kamailio_errors(self) -> Sequence[str]:
        """The error lines of Kamailio's log."""
        path = self.folder / "kamailio.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return re.findall(r"^.*(?:ERROR|CRITICAL|BUG):.*$", text, re.MULTILINE)


def udp_port_is_bound(namespace: Namespace, port: int) -> bool:
    """Whether somebody on this host has bound a UDP port."""
    return bool(namespace.run("ss", "-Huln", f"sport = :{port}").strip())


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
