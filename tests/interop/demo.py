"""``make demo``: the main job on real programs, visibly, with a verdict.

A SIPp phone calls another one on a network that it cannot reach; Kamailio takes the call with the example
configuration; the media (G.711 by SIPp, RTCP by an agent beside it) passes through our proxy. What left each phone's
network card is compared with what reached the other's, packet by packet, and with the proxy's own counters. Who carried
the media is not asked of the proxy: the kernel's count of datagrams that reached any socket on its host says it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.support.datagrams import datagrams_delivered
from tests.support.netlab import NetLabError
from tests.support.ng_json import NoReplyError
from tests.support.processes import ProcessFailedError
from tests.support.rtp_agent import RtpAgent
from tests.support.sip_lab import IP4, IP6, RTP_PORT, SipLab, why_no_sip_lab
from tests.support.sipp import SipMessage, Sipp, sdp_endpoint, write_speech
from tests.support.tshark import Capture, Passage, WirePacket, compare

SPEECH_SECONDS: Final = 5.2
"""What each phone says: 260 packets of 20 ms."""
MIN_PACKETS: Final = 240
AFTER_SPEECH_MS: Final = 1300
"""How long the call stays up after the speech, so that the counters can be read at rest."""
MIN_RTCP: Final = 3
QUIET_FROM: Final = 1.2
QUIET_UNTIL: Final = 4.7
"""Seconds after the answer between which nobody asks the proxy anything, so that sockets there get media or nothing."""
HANDFUL: Final = 10
"""So many RTP packets may reach a socket in that time though the kernel carries the media."""


class Sabotage(Enum):
    """What may be broken on purpose, to see that the demo notices."""

    NONE = "none"
    NO_RELAY = "no-relay"
    """The media proxy is killed before the call."""
    KILLED_RELAY = "killed-relay"
    """It is killed while the phones talk."""
    FROZEN_RELAY = "frozen-relay"
    """It is stopped (SIGSTOP) while the phones talk."""
    CALLER_TO_CALLEE = "caller-to-callee"
    """A queue on the proxy's host swallows the caller's RTP."""
    CALLEE_TO_CALLER = "callee-to-caller"


@dataclass(slots=True)
class Direction:
    """What one direction's wires and counters say."""

    name: str
    passage: Passage
    rtcp_sent: int
    rtcp_received: int
    relay_packets: int | None = None
    """RTP received from the sender by the relay's own count, the last time it could be asked during the call."""
    relay_rtcp_packets: int | None = None
    path: str = "unknown"
    reason: str = ""
    """Why it is not in the kernel, as the proxy says."""

    def complaints(self) -> list[str]:
        """What is wrong with it, empty if nothing is."""
        passage = self.passage
        wrong = []
        if passage.received < MIN_PACKETS:
            wrong.append(f"{passage.received} of {passage.sent} packets arrived, at least {MIN_PACKETS} must")
        if passage.lost:
            wrong.append(f"{passage.lost} lost")
        if passage.reordered:
            wrong.append(f"{passage.reordered} re-ordered")
        if passage.duplicated:
            wrong.append(f"{passage.duplicated} duplicated")
        if passage.altered:
            wrong.append(f"{passage.altered} with a changed payload")
        if passage.foreign:
            wrong.append(f"{passage.foreign} that nobody sent")
        if self.rtcp_received < MIN_RTCP or self.rtcp_received != self.rtcp_sent:
            wrong.append(f"RTCP: {self.rtcp_received} of {self.rtcp_sent} packets arrived")
        if self.relay_packets != passage.sent:
            counted = "could not be asked" if self.relay_packets is None else f"counted {self.relay_packets}"
            wrong.append(f"the proxy {counted}, tshark counted {passage.sent} sent")
        elif self.relay_rtcp_packets != self.rtcp_sent:
            wrong.append(f"RTCP: the proxy counted {self.relay_rtcp_packets}, tshark counted {self.rtcp_sent} sent")
        return wrong


@dataclass(frozen=True, slots=True)
class QuietTime:
    """What happened on the proxy's host while nothing but media was under way.

    Attributes:
        begin, end: unix seconds.
        datagrams: how many UDP datagrams were delivered to sockets there, by the kernel's count.
    """

    begin: float
    end: float
    datagrams: int

    def media(self, packets: Sequence[WirePacket], *, rtcp: bool) -> int:
        """How many of these packets were sent in that time."""
        return sum(packet.is_rtcp is rtcp and self.begin <= packet.time < self.end for packet in packets)


@dataclass(slots=True)
class Result:
    """What the demo found; it passed if ``complaints`` is empty."""

    directions: list[Direction] = field(default_factory=list)
    quiet: QuietTime | None = None
    complaints: list[str] = field(default_factory=list)


class Demo:
    """One run.

    Args:
        console: where to print.
        lab: entered.
        sabotage: what to break.
        kernel_path: which one to use.
    """

    def __init__(self, console: Console, lab: SipLab, sabotage: Sabotage, kernel_path: str) -> None:
        self._console = console
        self._lab = lab
        self._sabotage = sabotage
        self._kernel_path = kernel_path
        self._started = time.monotonic()

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/dim]  {text}")

    def run(self) -> Result:
        """Build, call, measure."""
        lab, addresses = self._lab, self._lab.addresses
        self._say(
            f"caller {addresses.caller} | {addresses.external} proxy {addresses.internal} | {addresses.callee} callee"
        )
        if lab.can_reach(lab.caller, lab.callee, addresses.callee):
            return Result(complaints=["the two networks reach each other without the proxy: nothing can be shown"])
        self._say("the caller cannot reach the callee: the proxy's host forwards no packets")
        write_speech(lab.folder, SPEECH_SECONDS)
        proxy = lab.start_media_proxy(kernel_path=self._kernel_path)
        self._say(f"media proxy is up: {' '.join(proxy.command)}")
        lab.start_kamailio()
        lab.register_callee()
        self._say("Kamailio is up with kamailio-examples/basic/kamailio.cfg, the callee has registered")
        captures = [Capture(lab, lab.caller, "eth0"), Capture(lab, lab.callee, "eth0")]
        for capture in captures:
            capture.wait_ready()
        if self._sabotage is Sabotage.NO_RELAY:
            proxy.process.send_signal(signal.SIGKILL)
            self._say("[yellow]sabotage: the media proxy has been killed[/yellow]")
        result = Result()
        caller, callee = lab.call(
            "uac_call",
            "uas_call",
            own_media=True,
            timeout=30.0,
            pause_ms=round(SPEECH_SECONDS * 1000) + AFTER_SPEECH_MS,
        )
        try:
            answer = caller.wait_message("received", "200")
        except ProcessFailedError:
            refusals = [m.start for m in caller.messages() if m.way == "received" and m.start[0] in "456"]
            result.complaints.append(f"no call was set up: the caller got {refusals[-1] if refusals else 'no answer'}")
            return result
        offer = callee.wait_message("received", "INVITE")
        self._print_addresses(caller, callee, offer, answer)
        snapshots = self._watch_call(caller, offer, answer, result)
        self._finish(caller, callee, result)
        for capture in captures:
            capture.stop()
        at_caller, at_callee = (capture.packets([RTP_PORT]) for capture in captures)
        result.directions = [
            _direction("caller → callee", at_caller, addresses.caller, at_callee, addresses.callee),
            _direction("callee → caller", at_callee, addresses.callee, at_caller, addresses.caller),
        ]
        _add_relay_counters(result.directions, snapshots, caller, callee)
        self._print_directions(result.directions)
        if result.quiet is not None:
            sent = [packet for packet in at_caller if packet.source[0] == addresses.caller]
            sent += [packet for packet in at_callee if packet.source[0] == addresses.callee]
            self._judge_path(result, result.quiet, sent)
        for direction in result.directions:
            result.complaints.extend(f"{direction.name}: {complaint}" for complaint in direction.complaints())
        return result

    def _print_addresses(self, caller: Sipp, callee: Sipp, offer: SipMessage, answer: SipMessage) -> None:
        invite = caller.wait_message("sent", "INVITE")
        ok = callee.wait_message("sent", "200")
        table = Table(title="Media addresses in the SDP", title_justify="left")
        for column in ("", "as sent", "as received on the other side"):
            table.add_column(column)
        for name, before, after in (("offer (INVITE)", invite, offer), ("answer (200)", ok, answer)):
            table.add_row(name, *(_endpoint_text(message) for message in (before, after)))
        self._say("the call is answered")
        self._console.print(table)

    def _watch_call(self, caller: Sipp, offer: SipMessage, answer: SipMessage, result: Result) -> list[dict[str, Any]]:
        """Let the agents send RTCP, break what is to be broken, and ask the proxy until the call ends."""
        lab, addresses = self._lab, self._lab.addresses
        call_id = offer.header("Call-ID")
        snapshots: list[dict[str, Any]] = []
        with (
            RtpAgent(lab.caller, addresses.caller, RTP_PORT, 0xCA11_0000, with_rtp=False) as at_caller,
            RtpAgent(lab.callee, addresses.callee, RTP_PORT, 0xCA11_0000, with_rtp=False) as at_callee,
        ):
            at_caller.talk_to(sdp_endpoint(answer.sdp or ""))
            at_callee.talk_to(sdp_endpoint(offer.sdp or ""))
            ends = time.monotonic() + SPEECH_SECONDS + AFTER_SPEECH_MS / 1000 - 0.2
            sabotage_at = time.monotonic() + 1.5
            broken = self._sabotage in (Sabotage.NONE, Sabotage.NO_RELAY)
            answers = True
            started = time.monotonic()
            begin: tuple[float, int] | None = None
            while time.monotonic() < ends and caller.process.returncode is None:
                age = time.monotonic() - started
                if QUIET_FROM <= age < QUIET_UNTIL:
                    if begin is None:
                        begin = time.time(), datagrams_delivered(lab.proxy)
                elif begin is not None and result.quiet is None:
                    result.quiet = QuietTime(begin[0], time.time(), datagrams_delivered(lab.proxy) - begin[1])
                if not broken and time.monotonic() > sabotage_at:
                    self._break()
                    broken = True
                if answers and not QUIET_FROM <= age < QUIET_UNTIL:
                    try:
                        reply = lab.media_proxy.ng.query(call_id)
                        if reply.get("result") == "ok":
                            snapshots.append(reply)
                    except NoReplyError as error:
                        answers = False  # once is enough: each further question would wait as long
                        result.complaints.append(f"the proxy stopped answering during the call ({error})")
                if time.monotonic() > ends - 0.5:  # RTCP too must be at rest when it is counted
                    at_caller.talk_to(None)
                    at_callee.talk_to(None)
                time.sleep(0.2)
        return snapshots

    def _break(self) -> None:
        lab = self._lab
        process = lab.media_proxy.process
        if self._sabotage is Sabotage.KILLED_RELAY:
            process.send_signal(signal.SIGKILL)
        elif self._sabotage is Sabotage.FROZEN_RELAY:
            process.send_signal(signal.SIGSTOP)
        else:
            device = "int0" if self._sabotage is Sabotage.CALLER_TO_CALLEE else "ext0"
            # A queue that RTP does not get out of. All paths come by there; no packet filter is met by all of them: tc
            # takes a packet before netfilter's ingress, and what it redirects skips netfilter's egress.
            for arguments in (
                "qdisc add dev {} root handle 1: htb default 1",
                "class add dev {} parent 1: classid 1:1 htb rate 10gbit",
                "class add dev {} parent 1: classid 1:2 htb rate 8bit burst 1 cburst 1",
                "qdisc add dev {} parent 1:2 pfifo limit 1",
                f"filter add dev {{}} parent 1: protocol ip u32 match ip dport {RTP_PORT} 0xffff flowid 1:2",
            ):
                lab.proxy.run("tc", *arguments.format(device).split())
        self._say(f"[yellow]sabotage: {self._sabotage.value}[/yellow]")

    def _finish(self, caller: Sipp, callee: Sipp, result: Result) -> None:
        """Wait for the BYE and see that the proxy has forgotten the call."""
        try:
            caller.finish(15.0)
            callee.finish(15.0)
            self._say("the caller has hung up")
        except ProcessFailedError as error:
            result.complaints.append(f"the call did not end properly: {str(error).splitlines()[0]}")
        try:
            reply = self._lab.media_proxy.ng.query(caller.messages()[0].header("Call-ID"))
        except NoReplyError as error:
            result.complaints.append(f"the proxy does not answer after the call ({error})")
            return
        self._say(f"query after the BYE: {reply.get('result')}, {reply.get('error-reason', 'the call is still there')}")
        if reply.get("error-reason") != "Unknown call-id":
            result.complaints.append("the proxy still knows the call after the BYE")

    def _judge_path(self, result: Result, quiet: QuietTime, sent: Sequence[WirePacket]) -> None:
        """Say who carried the media, by what reached sockets on the proxy's host."""
        rtp, rtcp = quiet.media(sent, rtcp=False), quiet.media(sent, rtcp=True)
        by_socket = max(0, quiet.datagrams - rtcp)
        carrier = "the kernel" if by_socket <= HANDFUL else "user space"
        self._say(
            f"in {quiet.end - quiet.begin:.1f} s of talk the phones sent {rtp} RTP and {rtcp} RTCP packets; "
            f"{quiet.datagrams} datagrams reached a socket on the proxy's host (its UDP InDatagrams)"
        )
        self._say(f"[bold]{carrier} carried the media[/bold]: {by_socket} of {rtp} RTP packets came by a socket")
        for direction in result.directions:
            if direction.reason:
                self._say(f"{direction.name}: not in the kernel: {direction.reason}")
            if direction.relay_packets is not None and (direction.path == "kernel") is not (carrier == "the kernel"):
                result.complaints.append(f"{direction.name}: the proxy says {direction.path}, the host says {carrier}")

    def _print_directions(self, directions: Sequence[Direction]) -> None:
        table = Table(title="Media, counted by tshark on the phones' network cards", title_justify="left")
        for column in (
            "direction",
            "RTP sent",
            "arrived",
            "lost",
            "re-ordered",
            "RTCP sent",
            "arrived",
            "proxy's count",
            "path",
        ):
            table.add_column(column, justify="left" if column in ("direction", "path") else "right")
        for direction in directions:
            passage = direction.passage
            table.add_row(
                direction.name, str(passage.sent), str(passage.received), str(passage.lost), str(passage.reordered),
                str(direction.rtcp_sent), str(direction.rtcp_received),
                _relay_text(direction), direction.path,
            )  # fmt: skip
        self._console.print(table)


def _relay_text(direction: Direction) -> str:
    if direction.relay_packets is None:
        return "-"
    return f"{direction.relay_packets} + {direction.relay_rtcp_packets}"


def _endpoint_text(message: SipMessage) -> str:
    address, port = sdp_endpoint(message.sdp or "")
    return f"{address} port {port}"


def _direction(
    name: str, at_sender: Sequence[WirePacket], sender: str, at_receiver: Sequence[WirePacket], receiver: str
) -> Direction:
    sent = [packet for packet in at_sender if packet.source[0] == sender]
    received = [packet for packet in at_receiver if packet.destination[0] == receiver]
    return Direction(
        name,
        compare([p for p in sent if not p.is_rtcp], [p for p in received if not p.is_rtcp]),
        rtcp_sent=sum(p.is_rtcp for p in sent),
        rtcp_received=sum(p.is_rtcp for p in received),
    )


def _add_relay_counters(
    directions: Sequence[Direction], snapshots: Sequence[dict[str, Any]], caller: Sipp, callee: Sipp
) -> None:
    """Enter the proxy's own counters: what it received from each party."""
    if not snapshots:
        return
    tags = snapshots[-1]["tags"]
    for direction, prefix in zip(directions, ("caller-", "callee-"), strict=True):
        party = next(value for tag, value in tags.items() if tag.startswith(prefix))
        rtp, rtcp = party["medias"][0]["streams"]
        direction.relay_packets = rtp["stats"]["packets"]
        direction.relay_rtcp_packets = rtcp["stats"]["packets"]
        direction.path = "kernel" if _in_kernel(rtp["flags"]) else "userspace"
        direction.reason = str(rtp.get("path reason", ""))


def _in_kernel(flags: Sequence[str]) -> bool:
    return "kernelized" in flags and "no kernel support" not in flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code is 0 only if audio passed both ways, unharmed."""
    parser = argparse.ArgumentParser(description="The main job on real programs, with a verdict.")
    parser.add_argument(
        "--sabotage", type=Sabotage, choices=list(Sabotage), default=Sabotage.NONE, metavar="WHAT",
        help=f"break something on purpose: {', '.join(s.value for s in Sabotage)}",
    )  # fmt: skip
    parser.add_argument("--kernel-path", default="auto", help="auto (default), tc, nft, iptables or userspace")
    parser.add_argument("--ipv6", action="store_true", help="use IPv6 addresses everywhere")
    options = parser.parse_args(arguments)
    console = Console(width=int(os.environ.get("COLUMNS", "120")), highlight=False)
    reason = why_no_sip_lab(*(("nft",) if options.sabotage is not Sabotage.NONE else ()))
    if reason is not None:
        print(f"demo: {reason}", file=sys.stderr)
        return 2
    try:
        with SipLab(IP6 if options.ipv6 else IP4, prefix="demo") as lab:
            result = Demo(console, lab, options.sabotage, options.kernel_path).run()
            lab.keep_logs = bool(result.complaints) and options.sabotage is Sabotage.NONE
    except (ProcessFailedError, NetLabError, TimeoutError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    if result.complaints:
        console.print("[bold red]FAILED[/bold red]")
        for complaint in result.complaints:
            console.print(f"  {complaint}", soft_wrap=True)
        return 1
    console.print("[bold green]PASSED[/bold green]  audio both ways: nothing lost, nothing re-ordered, nothing altered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
