"""An engine on a fake relay, and requests by name: what the session tests talk to."""

from __future__ import annotations

from dataclasses import dataclass, field

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.datapath import PacketClass, SourceEvent, SourceEventKind
from mediaproxy.datapath.orphans import OrphanHolder
from mediaproxy.engine import Engine, EngineSettings
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.stats.control import ControlCounters
from tests.support.fake_relay import FakeRelay

LOOP_MARKER = "0123456789ab"
WALL_OFFSET = 1_700_000_000.0

PUBLIC = Interface("pub", "203.0.113.10", "203.0.113.10", 30000, 30099)
PUBLIC6 = Interface("pub", "2001:db8:aa::10", "2001:db8:aa::10", 30000, 30099)
PRIVATE = Interface("priv", "198.51.100.10", "198.51.100.10", 40000, 40099)


def audio(
    address: str = "192.0.2.21",
    port: int = 9000,
    *,
    direction: str | None = None,
    extra: str = "",
    origin: str = "anna 8000 8000",
    formats: str = "8 0 101",
    protocol: str = "RTP/AVP",
) -> bytes:
    """A plain phone's SDP."""
    family = "IP6" if ":" in address else "IP4"
    lines = [
        "v=0",
        f"o={origin} IN {family} {address}",
        "s=desk",
        f"c=IN {family} {address}",
        "t=0 0",
        f"m=audio {port} {protocol} {formats}",
        "a=rtpmap:101 telephone-event/8000",
    ]
    if direction:
        lines.append(f"a={direction}")
    return ("\r\n".join(lines) + "\r\n" + extra).encode()


@dataclass
class Session:
    """Attributes:
    now: monotonic seconds; tests move it.
    """

    interfaces: tuple[Interface, ...] = (PUBLIC, PUBLIC6, PRIVATE)
    settings: EngineSettings = field(default_factory=EngineSettings)
    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    relay: FakeRelay = field(default_factory=FakeRelay)
    control: ControlCounters = field(default_factory=ControlCounters)
    orphans: OrphanHolder | None = None
    busy: set[tuple[str, int]] = field(default_factory=set)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.relay.busy |= self.busy
        self.engine = Engine(
            interfaces=Interfaces(self.interfaces),
            relay=self.relay,
            orphans=self.orphans,
            settings=self.settings,
            addresses=self.addresses,
            control=self.control,
            shuffle=lambda ports: None,
            loop_marker=LOOP_MARKER,
            now=self.now,
            wall_offset=WALL_OFFSET,
        )

    def handle(self, request: NgRequest) -> NgReply:
        """Carry out a request as the daemon does: reply, and the relay told."""
        try:
            return self.engine.handle(request, self.now)
        finally:
            self.relay.configure(self.engine.take_config_changes())

    def offer(self, sdp: bytes | None = None, call_id: str = "c", from_tag: str = "a", **keys: object) -> NgReply:
        return self.handle(
            NgRequest("offer", sdp=audio() if sdp is None else sdp, call_id=call_id, from_tag=from_tag, **keys)
        )

    def answer(self, sdp: bytes | None = None, call_id: str = "c", **keys: object) -> NgReply:
        keys = {"from_tag": "a", "to_tag": "b"} | keys
        body = audio("192.0.2.77", 17000, origin="bob 1 1") if sdp is None else sdp
        return self.handle(NgRequest("answer", sdp=body, call_id=call_id, **keys))

    def call(self, command: str, call_id: str | None = "c", **keys: object) -> NgReply:
        return self.handle(NgRequest(command, call_id=call_id, **keys))

    def pass_time(self, seconds: float) -> None:
        """Let time pass, calling ``expire`` at each deadline as the daemon's timer does."""
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.engine.expire(self.now)
            self.relay.configure(self.engine.take_config_changes())
        self.now = end

    def see(
        self,
        local: Endpoint,
        source: Endpoint,
        kind: SourceEventKind = SourceEventKind.SEEN,
        packet_class: PacketClass = PacketClass.RTP,
    ) -> None:
        """The relay reports a source on one of our ports."""
        handle = self.relay.handle_at(local.address, local.port)
        self.engine.source_seen(SourceEvent(kind, handle, packet_class, source, 7), self.now)
        self.relay.configure(self.engine.take_config_changes())


def sdp_lines(reply: NgReply) -> list[str]:
    body = reply["sdp"]
    assert isinstance(body, bytes)
    return body.decode("latin-1").split("\r\n")


def media_ports(reply: NgReply) -> list[int]:
    """The port of each m= line."""
    return [int(line.split()[1]) for line in sdp_lines(reply) if line.startswith("m=")]
