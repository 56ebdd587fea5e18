"""The session rules of ``offer`` and ``answer`` (reference E and F): who speaks to whom, over which ports.

Both commands are one act with two roles: the *speaker* wrote the SDP, the *listener* is to read it. Everything that
can fail (addresses, ports) is done before anything of the call is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.calls.call import Call, Dialogue, Side
from mediaproxy.calls.media import Media, PortPair, Signalled
from mediaproxy.calls.outgoing import Exchange, plan_media, write_sdp
from mediaproxy.calls.sockets import Sockets
from mediaproxy.datapath import TransportConfig
from mediaproxy.errors import SdpIncompleteError
from mediaproxy.interfaces import Interface, Interfaces
from mediaproxy.net import AddressFamily, Endpoint, is_unspecified
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import EndpointLearning, Flag, RtcpMux
from mediaproxy.sdp import MediaFacts, SessionDescription, SessionFacts
from mediaproxy.sdp.plan import Direction

_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Defaults that requests may override.

    Attributes:
        endpoint_learning: how the source of media is learnt.
        source_lock: drop other sources after learning (``source-lock = strict``).
        sip_source: believe the SIP source address instead of the SDP's, unless the request says ``trust-address``.
        tos: TOS byte of relayed packets; ``None`` leaves it 0.
    """

    endpoint_learning: EndpointLearning = EndpointLearning.HEURISTIC
    source_lock: bool = True
    sip_source: bool = False
    tos: int | None = None


@dataclass(slots=True)
class Outcome:
    """What an offer or answer led to."""

    sdp: bytes
    configs: list[TransportConfig]
    warnings: list[str] = field(default_factory=list)


class OfferAnswer:
    """Carries SDP from one side of a dialogue to the other."""

    def __init__(
        self,
        interfaces: Interfaces,
        sockets: Sockets,
        addresses: AddressPolicy,
        settings: SessionSettings,
        loop_marker: str,
    ) -> None:
        """Args:
        loop_marker: what ``loop-protect`` puts into SDP, unique to this instance and start.
        """
        self._interfaces = interfaces
        self._sockets = sockets
        self._addresses = addresses
        self._settings = settings
        self.loop_marker: Final = loop_marker

    def carry(
        self,
        call: Call,
        dialogue: Dialogue,
        speaker: Side,
        request: NgRequest,
        sdp: SessionDescription,
        facts: SessionFacts,
        now: float,
    ) -> Outcome:
        """Process one SDP and write the one for the other side.

        Args:
            dialogue, speaker: need not belong to the call yet; ``speaker`` is one of the dialogue's sides.
        Raises:
            SdpIncompleteError: ``SIP-source-address`` without ``received-from``.
            RefusedAddressError: the SDP points where media must not go.
            OutOfPortsError: not enough sockets; nothing was changed.
        """
        listener = dialogue.second if speaker is dialogue.first else dialogue.first
        is_answer = request.command == "answer"
        signalled = [self._signalled(request, fact) for fact in facts.medias]
        warnings = _unsupported(request, facts)
        facing_speaker = self._interface(speaker, request.from_interface, _own_family(speaker, facts), warnings)
        facing_listener = self._interface(
            listener, request.to_interface, _listener_family(speaker, listener, request, facts), warnings
        )
        with self._sockets.reserve(call, now) as reservation:
            opened: list[tuple[Media, PortPair]] = []
            sections: list[tuple[Media, Media]] = []
            for index, fact in enumerate(facts.medias):
                heard = _media_at(speaker, index, fact)
                shown = _media_at(listener, index, fact)
                sections.append((heard, shown))
                if not _wants_ports(fact, is_answer, index < len(listener.medias)):
                    continue
                for media, interface in ((heard, facing_speaker), (shown, facing_listener)):
                    if media.pair is None or media.pair.interface is not interface:
                        opened.append((media, reservation.open_pair(interface)))
            reservation.commit()
        # From here on nothing fails.
        self._sockets.close_pairs(call, [media.pair for media, _ in opened if media.pair is not None], now)
        for media, pair in opened:
            media.take_pair(pair)
        _remember(speaker, listener, request, facts)
        exchange = Exchange(request, sdp, facts, is_answer, speaker, listener, facing_listener)
        fresh = {id(media) for media, _ in opened}
        for (heard, shown), fact, said in zip(sections, facts.medias, signalled, strict=True):
            known = heard.index < len(listener.medias)
            _append(speaker, heard)
            _append(listener, shown)
            self._fill(exchange, fact, heard, shown, offered=known or not is_answer)
            if not heard.rejected:
                heard.signalled = said
                heard.listen(now)
                if id(shown) in fresh:
                    shown.listen(now)
                else:
                    shown.listen_again(now)
            heard.connect(shown)
            shown.connect(heard)
        plans = tuple(
            plan_media(exchange, fact, heard, shown)
            for (heard, shown), fact in zip(sections, facts.medias, strict=True)
        )
        if not is_answer:
            call.tos = self._settings.tos if request.tos is None else request.tos if request.tos >= 0 else None
        body = write_sdp(exchange, plans, self.loop_marker)
        configs = [config for media in dialogue.medias() for config in media.configs(call.tos)]
        return Outcome(body, configs, warnings)

    def _interface(self, side: Side, asked: str | None, family: AddressFamily, warnings: list[str]) -> Interface:
        choice = self._interfaces.choose(asked if asked is not None else side.interface_name, family)
        if choice.warning is not None:
            warnings.append(choice.warning)
        return choice.interface

    def _signalled(self, request: NgRequest, fact: MediaFacts) -> Signalled:
        """Where the speaker wants the packets of one section; checks the addresses."""
        rtp, rtcp = self._endpoints(request, fact)
        return Signalled(
            rtp=rtp,
            rtcp=rtcp,
            held=fact.held,
            strict=self._settings.source_lock or Flag.STRICT_SOURCE in request.flags,
            mode=request.endpoint_learning or self._settings.endpoint_learning,
            asymmetric=Flag.ASYMMETRIC in request.flags,
            handover=Flag.MEDIA_HANDOVER in request.flags,
        )

    def _endpoints(self, request: NgRequest, fact: MediaFacts) -> tuple[Endpoint | None, Endpoint | None]:
        if fact.port == 0 or fact.connection is None or not fact.relayed:
            return None, None
        by_sip = Flag.SIP_SOURCE_ADDRESS in request.flags or (
            self._settings.sip_source and Flag.TRUST_ADDRESS not in request.flags
        )
        if by_sip:
            if request.received_from is None:
                raise SdpIncompleteError("SIP-source-address was asked for, but there is no usable received-from")
            address = request.received_from
        else:
            address = fact.connection.address
        self._addresses.check(address)
        rtcp_address, rtcp_port = address, fact.port + 1
        if fact.rtcp is not None:
            rtcp_port = fact.rtcp.port
            if fact.rtcp.address is not None and not by_sip:
                rtcp_address = fact.rtcp.address
                self._addresses.check(rtcp_address)
        rtp = None if is_unspecified(address) else Endpoint(address, fact.port)
        if is_unspecified(rtcp_address) or not 0 < rtcp_port <= _MAX_PORT:
            return rtp, None
        return rtp, Endpoint(rtcp_address, rtcp_port)

    def _fill(self, exchange: Exchange, fact: MediaFacts, heard: Media, shown: Media, *, offered: bool) -> None:
        """Take over what the speaker said about one section."""
        request = exchange.request
        shown.protocol = _listener_protocol(exchange, fact, heard, shown)
        if not exchange.is_answer or not shown.filled:
            shown.kind = fact.kind
        heard.kind = fact.kind
        heard.protocol = fact.protocol
        heard.filled = True
        heard.relayed = shown.relayed = fact.relayed
        heard.opaque = shown.opaque = fact.relayed and not fact.is_rtp
        heard.rejected = fact.port == 0 or not offered
        shown.rejected = heard.rejected
        heard.direction = fact.direction or Direction.SENDRECV
        heard.formats = fact.formats
        heard.codecs = fact.codec_table
        heard.ptime = fact.ptime
        heard.maxptime = fact.maxptime
        heard.mid = fact.mid
        heard.extmap_allow_mixed = fact.extmap_allow_mixed
        if exchange.is_answer:
            _settle_mux(fact, heard, shown)
        else:
            words = request.rtcp_mux
            heard.mux_possible = fact.rtcp_mux
            heard.mux_words = words
            shown.mux_possible = RtcpMux.DEMUX not in words and (
                fact.rtcp_mux or RtcpMux.OFFER in words or RtcpMux.REQUIRE in words
            )


def _own_family(speaker: Side, facts: SessionFacts) -> AddressFamily:
    """The family towards the speaker: that of its own SDP, unless ``address-family`` was once given for it."""
    if speaker.family_given and speaker.family is not None:
        return speaker.family
    return _sdp_family(facts) or speaker.family or AddressFamily.IP4


def _listener_family(speaker: Side, listener: Side, request: NgRequest, facts: SessionFacts) -> AddressFamily:
    """Asked for, or as the listener itself speaks, or as the SDP at hand (reference E.11)."""
    return request.address_family or listener.family or _sdp_family(facts) or _own_family(speaker, facts)


def _sdp_family(facts: SessionFacts) -> AddressFamily | None:
    for fact in facts.medias:
        if fact.connection is not None:
            return fact.connection.family
    return None


def _remember(speaker: Side, listener: Side, request: NgRequest, facts: SessionFacts) -> None:
    """Interface names and families hold for later messages too, which needn't repeat them (reference F.2)."""
    if request.from_interface is not None:
        speaker.interface_name = request.from_interface
    if request.to_interface is not None:
        listener.interface_name = request.to_interface
    speaker.family = _own_family(speaker, facts)
    if request.address_family is not None:
        listener.family = request.address_family
        listener.family_given = True


def _media_at(side: Side, index: int, fact: MediaFacts) -> Media:
    return side.medias[index] if index < len(side.medias) else Media(index, fact.kind, fact.protocol)


def _append(side: Side, media: Media) -> None:
    if media.index == len(side.medias):
        side.medias.append(media)


def _wants_ports(fact: MediaFacts, is_answer: bool, offered: bool) -> bool:
    """An answer gets no ports for sections that nobody offered."""
    return fact.relayed and fact.port != 0 and (offered or not is_answer)


def _settle_mux(fact: MediaFacts, answerer: Media, offerer: Media) -> None:
    """The table of reference E.5: what each side's RTCP does from now on."""
    answerer.settle_mux(fact.rtcp_mux and answerer.mux_possible)
    words = offerer.mux_words
    forced = RtcpMux.DEMUX in words or RtcpMux.ACCEPT in words
    offerer.settle_mux(offerer.mux_possible and RtcpMux.REJECT not in words and (forced or answerer.muxed))


def _is_secure(protocol: str) -> bool:
    return "SAVP" in protocol.upper()


def _listener_protocol(exchange: Exchange, fact: MediaFacts, heard: Media, shown: Media) -> str:
    """The profile towards the listener: what it offered, what was asked for now or before, or the speaker's own."""
    if not fact.is_rtp:
        return "udptl" if fact.protocol.lower() == "udptl" else fact.protocol
    if exchange.is_answer:
        return shown.protocol
    wanted = exchange.request.transport_protocol
    if wanted is None and shown.protocol.upper() != heard.protocol.upper() and "RTP/" in shown.protocol.upper():
        # A translation is in force; re-offers don't repeat the key.
        wanted = shown.protocol
    if wanted is None or _is_secure(wanted) != _is_secure(fact.protocol):
        return fact.protocol
    return wanted


def _unsupported(request: NgRequest, facts: SessionFacts) -> list[str]:
    """What was asked for and can't be done yet; the call goes on without (an offer never fails for it)."""
    warnings = []
    wanted = request.transport_protocol
    for fact in facts.medias:
        if not fact.is_rtp or fact.port == 0:
            continue
        if request.command == "offer" and wanted is not None and _is_secure(wanted) != _is_secure(fact.protocol):
            warnings.append(f"media {fact.index + 1}: {fact.protocol} is not translated to {wanted}")
        if fact.has_ice and "remove" not in request.ice:
            warnings.append(f"media {fact.index + 1}: ICE is not supported and was removed")
    if "force" in request.ice:
        warnings.append("ICE=force is not supported and was ignored")
    return warnings
