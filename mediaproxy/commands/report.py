"""The report on a call that ``query`` and ``delete`` answer with (reference B.5, B.6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from mediaproxy.calls.call import Call, ClosedStreams, Dialogue, Monologue
from mediaproxy.calls.latching import Latch
from mediaproxy.calls.media import Media, Stream, StreamKind, Transport
from mediaproxy.commands.context import Context
from mediaproxy.datapath import FlowReason, StreamCounters, TransportCounters, TransportHandle, Verdict
from mediaproxy.datapath.kernel import FlowDrop, FlowUp
from mediaproxy.net import Endpoint
from mediaproxy.ng.message import NgReply, NgReplyValue
from mediaproxy.sdp.plan import Direction

_MICROSECONDS = 1_000_000
KERNEL = "kernel"
USERSPACE = "userspace"
_RTCP_VERDICT = Verdict(FlowReason.RTCP)
_UNSUPPORTED = frozenset(
    {
        FlowReason.SEVERAL_SINKS,
        FlowReason.NEEDS_SRTP,
        FlowReason.NEEDS_FAMILY_CHANGE,
        FlowReason.NEEDS_ANY_SOURCE,
        FlowReason.NEEDS_TAP,
        FlowReason.OPAQUE,
        FlowReason.LOCAL_PEER,
    }
)
"""What the kernel path would not take however long one waits."""
_SENDS = (Direction.SENDRECV, Direction.SENDONLY)
_RECEIVES = (Direction.SENDRECV, Direction.RECVONLY)


class _Counters:
    """Reads each transport once per report."""

    def __init__(self, context: Context) -> None:
        self._relay = context.relay
        self._read: dict[TransportHandle, TransportCounters] = {}

    def of_transport(self, transport: Transport) -> TransportCounters:
        counters = self._read.get(transport.handle)
        if counters is None:
            counters = self._read[transport.handle] = self._relay.counters(transport.handle)
        return counters

    def of(self, stream: Stream) -> StreamCounters:
        counters = self.of_transport(stream.transport)
        return counters.rtp if stream.kind is StreamKind.RTP else counters.rtcp


def report_call(context: Context, call: Call, parties: Iterable[Monologue] | None) -> NgReply:
    """The whole tree without ``result``.

    Args:
        parties: those to list under ``tags``; ``None`` for all.
    """
    counters = _Counters(context)
    created = call.created_wall
    created_us = round(created * _MICROSECONDS)
    reply: NgReply = {
        "created": created_us // _MICROSECONDS,
        "created_us": created_us % _MICROSECONDS,
        "created_ts": created_us,
        "last signal": int(call.last_signal + context.wall_offset),
        "last redis update": 0,
    }
    if call.metadata is not None:
        reply["metadata"] = call.metadata
    reply["SSRC"] = _report_ssrcs(call, counters)
    chosen = list(call.monologues if parties is None else parties)
    reply["tags"] = {
        monologue.tag if monologue.tag is not None else f"<untagged {number}>": _report_party(
            context, call, monologue, counters
        )
        for number, monologue in enumerate(chosen, 1)
    }
    reply["totals"] = _report_totals(call, counters)
    return reply


def _transports(call: Call) -> Iterator[Transport]:
    """Each once, also where several dialogues share it."""
    for media in call.medias():
        if media.pair is not None and media.pair.users[-1] is media:
            yield media.pair.rtp
            yield media.pair.rtcp


def _report_ssrcs(call: Call, counters: _Counters) -> dict[str, NgReplyValue]:
    return {
        str(ssrc.ssrc): {
            "bytes": ssrc.bytes,
            "packets": ssrc.packets,
            "last RTP timestamp": ssrc.last_timestamp,
            "last RTP seq": ssrc.extended_sequence,
            "cumulative loss": ssrc.lost,
        }
        for transport in _transports(call)
        for ssrc in counters.of_transport(transport).rtp.ssrcs
    }


def _report_totals(call: Call, counters: _Counters) -> NgReplyValue:
    rtp, rtcp = ClosedStreams(), ClosedStreams()
    rtp.add(call.closed_rtp)
    rtcp.add(call.closed_rtcp)
    for transport in _transports(call):
        counted = counters.of_transport(transport)
        rtp.add(counted.rtp)
        rtcp.add(counted.rtcp)
    return {
        kind.value: {"packets": sums.packets, "bytes": sums.bytes, "errors": sums.errors}
        for kind, sums in ((StreamKind.RTP, rtp), (StreamKind.RTCP, rtcp))
    }


def _main_dialogue(call: Call, monologue: Monologue) -> Dialogue | None:
    """The dialogue whose media stand for the party: the latest answered one, else the latest."""
    latest = None
    for dialogue in call.dialogues_of(monologue):
        if dialogue.answered and dialogue.release_at is None:
            return dialogue
        latest = latest or dialogue
    return latest


def _report_party(context: Context, call: Call, monologue: Monologue, counters: _Counters) -> NgReplyValue:
    party: dict[str, NgReplyValue] = {}
    if monologue.tag is not None:
        party["tag"] = monologue.tag
    if monologue.via_branch is not None:
        party["via-branch"] = monologue.via_branch
    if monologue.aliases:
        party["tag-aliases"] = list(monologue.aliases)
    if monologue.label is not None:
        party["label"] = monologue.label
    party["created"] = int(monologue.created)
    peers: list[NgReplyValue] = [
        {"tag": dialogue.parties_from(monologue)[1].monologue.tag or "", "type": "offer/answer"}
        for dialogue in call.dialogues_of(monologue)
    ]
    party["subscriptions"] = peers
    party["subscribers"] = list(peers)
    dialogue = _main_dialogue(call, monologue)
    medias = dialogue.parties_from(monologue)[0].medias if dialogue is not None else []
    party["medias"] = [_report_media(context, media, counters) for media in medias]
    return party


def _report_media(context: Context, media: Media, counters: _Counters) -> NgReplyValue:
    report: dict[str, NgReplyValue] = {"index": media.index + 1, "type": media.kind, "protocol": media.protocol}
    ingress: list[NgReplyValue] = []
    egress: list[NgReplyValue] = []
    streams: list[NgReplyValue] = []
    if media.rtp is not None and media.rtcp is not None:
        received = counters.of(media.rtp)
        names = {payload_type: name for payload_type, name, _ in media.codecs}
        for ssrc in received.ssrcs[:1]:
            name = names.get(ssrc.payload_type)
            if name is not None:
                report["codec"] = name
        streams = [_report_stream(context, media, stream, counters) for stream in (media.rtp, media.rtcp)]
        ingress = _ssrc_list(received)
        for sink in _senders_to(media):
            egress += _ssrc_list(counters.of(sink))
    report["streams"] = streams
    report["flags"] = _media_flags(media)
    report["ingress SSRCs"] = ingress
    report["egress SSRCs"] = egress
    return report


def _senders_to(media: Media) -> list[Stream]:
    """The RTP streams that go to this media: those of its own sinks, offer/answer being symmetric."""
    return list(media.rtp.sinks) if media.rtp is not None else []


def _ssrc_list(counters: StreamCounters) -> list[NgReplyValue]:
    return [
        {
            "SSRC": ssrc.ssrc,
            "bytes": ssrc.bytes,
            "packets": ssrc.packets,
            "last RTP timestamp": ssrc.last_timestamp,
            "last RTP seq": ssrc.extended_sequence,
        }
        for ssrc in counters.ssrcs
    ]


def _media_flags(media: Media) -> list[NgReplyValue]:
    flags: list[NgReplyValue] = []
    if media.pair is not None:
        flags.append("initialized")
    if media.signalled is not None and media.signalled.asymmetric:
        flags.append("asymmetric")
    # From our end: "send" is what we send to the party, "recv" what we take from it.
    if media.filled and not media.rejected:
        if media.opaque or media.direction in _RECEIVES:
            flags.append("send")
        if media.opaque or media.direction in _SENDS:
            flags.append("recv")
    if media.muxed:
        flags.append("rtcp-mux")
    return flags


def _report_stream(context: Context, media: Media, stream: Stream, counters: _Counters) -> NgReplyValue:
    transport = stream.transport
    latching = transport.latching
    counted = counters.of(stream)
    said = media.signalled
    signalled = None if said is None else said.rtp if stream.kind is StreamKind.RTP else said.rtcp
    last = 0 if counted.last_seen is None else int(counted.last_seen + context.wall_offset)
    report: dict[str, NgReplyValue] = {
        "local port": transport.port,
        "local address": transport.interface.address,
        "family": transport.interface.family.long_name,
    }
    if latching.destination is not None:
        report["endpoint"] = _report_endpoint(latching.destination)
    if signalled is not None:
        report["advertised endpoint"] = _report_endpoint(signalled)
    by_kernel = 0 if counted.last_kernel is None else int(counted.last_kernel + context.wall_offset)
    by_user = 0 if counted.last_user is None else int(counted.last_user + context.wall_offset)
    report["last packet"] = last
    report["last kernel packet"] = by_kernel
    report["last user packet"] = by_user
    if counted.ssrcs:
        report["SSRC"] = counted.ssrcs[0].ssrc
    flags: list[NgReplyValue] = [stream.kind.value]
    if media.muxed and stream.kind is StreamKind.RTP:
        flags.append(StreamKind.RTCP.value)
    if media.filled:
        flags.append("filled")
    if latching.state is Latch.CONFIRMED:
        flags.append("confirmed")
    if transport.strict:
        flags.append("strict source address")
    if latching.handover:
        flags.append("media handover")
    verdict = context.relay.path(transport.handle) if stream.kind is StreamKind.RTP else _RTCP_VERDICT
    if verdict is None:
        flags.append("kernelized")
    elif verdict.reason in _UNSUPPORTED:
        flags.append("no kernel support")
    report["flags"] = flags
    report["path"] = KERNEL if verdict is None else USERSPACE
    if verdict is not None:
        report["path reason"] = str(verdict)
    ups = _nonzero(FlowUp, counted.kernel_ups)
    if ups:
        report["kernel sent up"] = ups
    drops = _nonzero(FlowDrop, counted.kernel_drops)
    if drops:
        report["kernel dropped"] = drops
    report["stats"] = {"packets": counted.packets, "bytes": counted.bytes, "errors": counted.errors}
    report["stats_out"] = {"packets": counted.packets_out, "bytes": counted.bytes_out, "errors": 0}
    return report


def _nonzero(names: type[IntEnum], counts: Iterable[int]) -> dict[str, NgReplyValue]:
    return {name.name.lower().replace("_", " "): count for name, count in zip(names, counts, strict=False) if count}


def _report_endpoint(endpoint: Endpoint) -> NgReplyValue:
    return {"family": endpoint.family.long_name, "address": endpoint.address, "port": endpoint.port}
