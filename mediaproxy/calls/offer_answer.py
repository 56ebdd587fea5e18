"""The session rules of ``offer`` and ``answer`` (reference E and F): who speaks to whom, over which ports.

Both commands are one act with two roles: the *speaker* wrote the SDP, the *listener* is to read it. Everything that
can fail (addresses, ports) is done before anything of the call is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from mediaproxy.calls.addresses import AddressPolicy
from mediaproxy.calls.call import Call, Dialogue, Party
from mediaproxy.calls.loops import Prospect, comes_round
from mediaproxy.calls.media import Media, PortPair, Signalled, Transport
from mediaproxy.calls.outgoing import Exchange, plan_media, write_sdp
from mediaproxy.calls.sockets import Sockets
from mediaproxy.datapath import TransportConfig
from mediaproxy.errors import RefusedAddressError, SdpIncompleteError
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
        tos: TOS byte of relayed packets.
    """

    endpoint_learning: EndpointLearning = EndpointLearning.HEURISTIC
    source_lock: bool = True
    sip_source: bool = False
    tos: int = 0


@dataclass(slots=True)
class Outcome:
    """What an offer or answer led to."""

    sdp: bytes
    configs: list[TransportConfig]
    warnings: list[str] = field(default_factory=list)


class OfferAnswer:
    """Carries SDP from one party of a dialogue to the other."""

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
        speaker: Party,
        request: NgRequest,
        sdp: SessionDescription,
        facts: SessionFacts,
        now: float,
    ) -> Outcome:
        """Process one SDP and write the one for the other party.

        Args:
            dialogue, speaker: need not belong to the call yet; ``speaker`` is one of the dialogue's parties.
        Raises:
            SdpIncompleteError: ``SIP-source-address`` without ``received-from``.
            RefusedAddressError: the SDP points where media must not go.
            OutOfPortsError: not enough sockets; nothing was changed.
        """
        listener = dialogue.second if speaker is dialogue.first else dialogue.first
        # What answers nothing that we saw is treated as an offer.
        is_answer = request.command == "answer" and bool(listener.medias)
        signalled = [self._signalled(request, fact) for fact in facts.medias]
        warnings = _unsupported(request, facts)
        families = _families(speaker, listener, request, facts, signalled)
        facing_speaker = self._interfaces_for(speaker, request.from_interface, families[0], warnings)
        facing_listener = self._interfaces_for(listener, request.to_interface, families[1], warnings)
        sections = [(_media_at(speaker, fact), _media_at(listener, fact)) for fact in facts.medias]
        opened: list[tuple[Media, PortPair]] = []
        with self._sockets.reserve(call, now) as reservation:
            for (heard, shown), fact in zip(sections, facts.medias, strict=True):
                if not _wants_ports(fact, shown, is_answer, known=heard.index < len(listener.medias)):
                    continue
                # The speaker goes on using the port that it was told: only what the listener is shown now may change.
                if heard.pair is None:
                    opened.append((heard, reservation.open_pair(facing_speaker)))
                if shown.pair is None or not _serves(shown.pair.interface, facing_listener[0]):
                    opened.append((shown, reservation.open_pair(facing_listener)))
            self._refuse_loops(sections, signalled, opened)
            reservation.commit()
        # From here on nothing fails.
        self._sockets.close_medias(call, [media for media, _ in opened], now)
        for media, pair in opened:
            media.take_pair(pair)
        for media in dialogue.medias():
            if media.pair is not None:
                media.pair.lend(media)
        _remember(speaker, listener, request, families)
        exchange = Exchange(request, sdp, facts, is_answer, listener, facing_listener[0])
        fresh = {id(media) for media, _ in opened}
        for (heard, shown), fact, said in zip(sections, facts.medias, signalled, strict=True):
            offered = not is_answer or (heard.index < len(listener.medias) and not shown.refused)
            _append(speaker, heard)
            _append(listener, shown)
            _fill(exchange, speaker, fact, heard, shown, offered=offered)
            heard.signalled = None if heard.rejected else said
            for media in (heard, shown):
                if media.pair is not None:
                    media.pair.serve(media)
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
        body = write_sdp(exchange, plans, self.loop_marker)
        tos = call.tos if is_answer else self._tos(request)
        medias = dialogue.medias()
        if len(call.dialogues) > 1 or tos != call.tos:
            # The TOS is the call's, and a pair that was let go may serve another dialogue's media now.
            medias = chain(call.medias(), medias if dialogue not in call.dialogues else ())
        call.tos = tos
        return Outcome(body, [config for media in medias for config in media.configs(call.tos)], warnings)

    def _tos(self, request: NgRequest) -> int | None:
        """The TOS byte that an offer asks for: its own, or the default; ``None`` leaves what the sockets have."""
        if request.tos is None:
            return self._settings.tos
        return request.tos if request.tos >= 0 else None

    def _interfaces_for(
        self, party: Party, asked: str | None, family: AddressFamily, warnings: list[str]
    ) -> tuple[Interface, ...]:
        choice = self._interfaces.choose(asked if asked is not None else party.interface_name, family)
        if choice.warning is not None:
            warnings.append(choice.warning)
        return self._interfaces.alternatives(choice.interface)

    def _refuse_loops(
        self, sections: list[tuple[Media, Media]], signalled: list[Signalled], opened: list[tuple[Media, PortPair]]
    ) -> None:
        """Check where the packets would go, with all that the SDP asks for done."""
        pairs = {id(media): pair for media, pair in opened}
        prospect = Prospect()
        sending: list[tuple[Transport, Endpoint]] = []
        for (heard, shown), said in zip(sections, signalled, strict=True):
            here, there = pairs.get(id(heard), heard.pair), pairs.get(id(shown), shown.pair)
            if here is None or there is None:
                continue
            prospect.join(here, there)
            for transport, endpoint in ((here.rtp, said.rtp), (here.rtcp, said.rtcp)):
                prospect.destinations[transport.handle] = endpoint
                if endpoint is not None:
                    sending.append((transport, endpoint))
        for transport, endpoint in sending:
            if comes_round(self._sockets, transport, endpoint, prospect):
                raise RefusedAddressError(endpoint.address, f"port {endpoint.port} there leads back to this call")

    def _signalled(self, request: NgRequest, fact: MediaFacts) -> Signalled:
        """Where the speaker wants the packets of one section; checks the addresses."""
        rtp, rtcp = self._endpoints(request, fact)
        return Signalled(
            rtp=rtp,
            rtcp=rtcp,
            held=fact.held,
            strict=Flag.STRICT_SOURCE in request.flags
            or (self._settings.source_lock and Flag.ASYMMETRIC not in request.flags),
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
        self._addresses.check(Endpoint(address, fact.port))
        rtcp_address, rtcp_port = address, fact.port + 1
        if fact.rtcp is not None:
            rtcp_port = fact.rtcp.port
            if fact.rtcp.address is not None and not by_sip:
                rtcp_address = fact.rtcp.address
        rtp = None if is_unspecified(address) else Endpoint(address, fact.port)
        self._addresses.check(Endpoint(rtcp_address, rtcp_port))
        if is_unspecified(rtcp_address) or not 0 < rtcp_port <= _MAX_PORT:
            return rtp, None
        return rtp, Endpoint(rtcp_address, rtcp_port)


def _families(
    speaker: Party, listener: Party, request: NgRequest, facts: SessionFacts, signalled: list[Signalled]
) -> tuple[AddressFamily, AddressFamily]:
    """The address families towards speaker and listener (reference E.3, E.11).

    A party is faced in the family that it asked for or once was given, else the one in which it wants its packets. An
    SDP that names no usable address (hold with 0.0.0.0, sections of port 0) says nothing about it.
    """
    own = next((said.rtp.family for said in signalled if said.rtp is not None), None)
    if own is None:
        named = (fact.connection for fact in facts.medias if fact.connection is not None)
        own = speaker.family or next((one.family for one in named), AddressFamily.IP4)
    own_shown = speaker.family if speaker.family_given and speaker.family is not None else own
    return own_shown, request.address_family or listener.family or own


def _remember(
    speaker: Party, listener: Party, request: NgRequest, families: tuple[AddressFamily, AddressFamily]
) -> None:
    """Interface names, families and profiles hold for later messages too, which needn't repeat them (F.2)."""
    if request.from_interface is not None:
        speaker.interface_name = request.from_interface
    if request.to_interface is not None:
        listener.interface_name = request.to_interface
    speaker.family = families[0]
    if request.address_family is not None:
        listener.family = request.address_family
        listener.family_given = True
    if request.transport_protocol is not None and request.command == "offer":
        listener.profile = request.transport_protocol


def _media_at(party: Party, fact: MediaFacts) -> Media:
    return party.medias[fact.index] if fact.index < len(party.medias) else Media(fact.index, fact.kind, fact.protocol)


def _append(party: Party, media: Media) -> None:
    if media.index == len(party.medias):
        party.medias.append(media)


def _wants_ports(fact: MediaFacts, shown: Media, is_answer: bool, *, known: bool) -> bool:
    """An answer gets no ports for sections that nobody offered."""
    return fact.relayed and fact.port != 0 and (not is_answer or (known and not shown.refused))


def _serves(interface: Interface, wanted: Interface) -> bool:
    """Whether a pair of the one will do where the other was chosen: any address of the name and family does."""
    return interface.name == wanted.name and interface.family is wanted.family


def _fill(exchange: Exchange, speaker: Party, fact: MediaFacts, heard: Media, shown: Media, *, offered: bool) -> None:
    """Take over what the speaker said about one section."""
    shown.protocol = _listener_protocol(exchange, speaker, fact, shown)
    if not exchange.is_answer or not shown.filled:
        shown.kind = fact.kind
    heard.kind = fact.kind
    heard.protocol = fact.protocol
    if fact.is_rtp:
        heard.rtp_profile = fact.protocol
    heard.filled = True
    heard.relayed = shown.relayed = fact.relayed
    heard.opaque = shown.opaque = fact.relayed and not fact.is_rtp
    heard.refused = fact.port == 0
    heard.rejected = shown.rejected = fact.port == 0 or not offered
    heard.direction = fact.direction or Direction.SENDRECV
    heard.formats = fact.formats
    heard.codecs = fact.codec_table
    heard.ptime = fact.ptime
    heard.maxptime = fact.maxptime
    heard.mid = fact.mid
    heard.extmap_allow_mixed = fact.extmap_allow_mixed
    if exchange.is_answer:
        _settle_mux(fact, heard, shown)
        return
    words = exchange.request.rtcp_mux
    heard.mux_possible = fact.rtcp_mux
    heard.mux_words = words
    shown.mux_possible = RtcpMux.DEMUX not in words and (
        fact.rtcp_mux or RtcpMux.OFFER in words or RtcpMux.REQUIRE in words
    )


def _settle_mux(fact: MediaFacts, answerer: Media, offerer: Media) -> None:
    """The table of reference E.5: what each side's RTCP does from now on."""
    answerer.settle_mux(fact.rtcp_mux and answerer.mux_possible)
    words = offerer.mux_words
    forced = RtcpMux.DEMUX in words or RtcpMux.ACCEPT in words
    offerer.settle_mux(offerer.mux_possible and RtcpMux.REJECT not in words and (forced or answerer.muxed))


def _is_secure(protocol: str) -> bool:
    return "SAVP" in protocol.upper()


def _listener_protocol(exchange: Exchange, speaker: Party, fact: MediaFacts, shown: Media) -> str:
    """The profile towards the listener: what it offered, what was asked for now or before, or the speaker's own."""
    if not fact.is_rtp:
        return "udptl" if fact.protocol.lower() == "udptl" else fact.protocol
    if exchange.is_answer:
        return shown.protocol
    # Re-offers don't repeat the key. Who is itself shown a translation is translated back.
    wanted = exchange.listener.profile or (shown.rtp_profile if speaker.profile is not None else None)
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
