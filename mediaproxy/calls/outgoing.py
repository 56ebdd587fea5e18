"""What the SDP that leaves us says: the plan for ``mediaproxy.sdp.rewrite``, made of the state of both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mediaproxy.calls.call import Party, SdpHistory
from mediaproxy.calls.media import Media
from mediaproxy.interfaces import Interface
from mediaproxy.net import AddressFamily, family_of
from mediaproxy.ng.message import NgRequest
from mediaproxy.ng.words import Flag, Replace, RtcpMux
from mediaproxy.sdp import MediaFacts, SessionDescription, SessionFacts, write_outgoing
from mediaproxy.sdp.plan import Direction, MediaPlan, Origin, SessionPlan

_MAX_PLACES: Final = 1 << 20
_MAX_VERSION_DIGITS: Final = 20
"""RFC 8866, section 5.2, wants a version that fits into 64 bits; we don't count on from a longer one."""

_HISTORY_WORDS: Final = frozenset(
    {
        Replace.ORIGIN_FULL,
        Replace.SDP_VERSION,
        Replace.USERNAME,
        Replace.SESSION_NAME,
        Replace.FORCE_INCREMENT_SDP_VERSION,
    }
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One SDP on its way through us.

    Attributes:
        is_answer: it answers an offer of ``listener``.
        listener: who is to read it.
        interface: the one chosen to face the listener.
    """

    request: NgRequest
    sdp: SessionDescription
    facts: SessionFacts
    is_answer: bool
    listener: Party
    interface: Interface


def plan_media(exchange: Exchange, fact: MediaFacts, heard: Media, shown: Media) -> MediaPlan:
    """The plan for one section.

    Args:
        heard: the speaker's media, already filled from ``fact``.
        shown: the listener's media at the same index, with its port pair if it has one.
    """
    request = exchange.request
    mid = shown.mid if exchange.is_answer else _offered_mid(exchange, fact)
    if heard.rejected:
        return MediaPlan(0, AddressFamily.IP4.unspecified, AddressFamily.IP4, shown.protocol, fact.formats, mid=mid)
    if not heard.relayed or shown.pair is None:
        return MediaPlan(fact.port, None, AddressFamily.IP4, fact.protocol, fact.formats, mid=mid)
    address = _shown_address(request, fact, shown.pair.interface)
    port = shown.pair.rtp.port
    if heard.opaque:
        return MediaPlan(port, address, family_of(address), shown.protocol, fact.formats, mid=mid)
    direction = fact.direction or Direction.SENDRECV
    if fact.held and direction is Direction.SENDRECV:
        direction = Direction.SENDONLY
    muxed = shown.muxed if exchange.is_answer else shown.mux_possible
    same_port = shown.muxed if exchange.is_answer else muxed and RtcpMux.REQUIRE in request.rtcp_mux
    flags = request.flags
    return MediaPlan(
        port=port,
        address=address,
        family=family_of(address),
        protocol=shown.protocol,
        formats=_answered_formats(fact, heard, shown) if exchange.is_answer else fact.formats,
        mid=mid,
        direction=direction,
        keep_direction=Flag.ORIGINAL_SENDRECV in flags,
        rtcp_port=None if Flag.NO_RTCP_ATTRIBUTE in flags else port if same_port else port + 1,
        full_rtcp=Flag.FULL_RTCP_ATTRIBUTE in flags,
        rtcp_mux=muxed,
        ptime=fact.ptime or (shown.ptime if exchange.is_answer else None),
        maxptime=fact.maxptime,
        extmaps=Flag.STRIP_EXTMAP not in flags,
        extmap_allow_mixed=shown.extmap_allow_mixed if exchange.is_answer else True,
        secure=fact.secure,
    )


def write_sdp(exchange: Exchange, plans: tuple[MediaPlan, ...], loop_marker: str | None) -> bytes:
    """Write the listener's SDP, with the o= and s= lines that the ``replace`` words ask for (reference C.3, E.2)."""
    words = exchange.request.replace
    marker = loop_marker if Flag.LOOP_PROTECT in exchange.request.flags else None
    origin = exchange.facts.origin
    if origin is not None and not words.isdisjoint((Replace.ORIGIN, Replace.ORIGIN_FULL)):
        advertised = exchange.interface.advertised
        origin = replace(origin, address=advertised, address_type=family_of(advertised).value)
    plan = SessionPlan(plans, origin=origin, loop_marker=marker)
    if words.isdisjoint(_HISTORY_WORDS):
        return write_outgoing(exchange.sdp, exchange.facts, plan)
    return _write_with_history(exchange, plan)


def _write_with_history(exchange: Exchange, plan: SessionPlan) -> bytes:
    words = exchange.request.replace
    history = exchange.listener.history
    if history is None:
        history = exchange.listener.history = SdpHistory()
        history.origin = plan.origin
        history.session_name = exchange.facts.session_name
    if Replace.SESSION_NAME in words:
        plan = replace(plan, session_name=history.session_name)
    origin = plan.origin
    if origin is None or history.origin is None:
        return write_outgoing(exchange.sdp, exchange.facts, plan)
    if Replace.ORIGIN_FULL in words:
        origin = replace(history.origin, version=origin.version)
    elif Replace.USERNAME in words:
        origin = replace(origin, username=history.origin.username)
    if words.isdisjoint((Replace.ORIGIN_FULL, Replace.SDP_VERSION, Replace.FORCE_INCREMENT_SDP_VERSION)):
        return write_outgoing(exchange.sdp, exchange.facts, replace(plan, origin=origin))
    return _write_versioned(exchange, plan, origin, history)


def _write_versioned(exchange: Exchange, plan: SessionPlan, origin: Origin, history: SdpHistory) -> bytes:
    """Number what this listener is shown: on from the first version, one more only when something changed."""
    first = history.version is None
    if history.version is None:
        # RFC 8866, section 5.2, wants a number; who sends none gets one that we can count on from.
        countable = origin.version.isascii() and origin.version.isdigit() and len(origin.version) <= _MAX_VERSION_DIGITS
        history.version = int(origin.version) if countable else 0
    elif Replace.FORCE_INCREMENT_SDP_VERSION in exchange.request.replace:
        history.version += 1
    body = _write_as(exchange, plan, origin, history.version)
    if not first and body != history.body and Replace.FORCE_INCREMENT_SDP_VERSION not in exchange.request.replace:
        history.version += 1
        body = _write_as(exchange, plan, origin, history.version)
    history.body = body
    return body


def _write_as(exchange: Exchange, plan: SessionPlan, origin: Origin, version: int) -> bytes:
    return write_outgoing(exchange.sdp, exchange.facts, replace(plan, origin=replace(origin, version=str(version))))


def _offered_mid(exchange: Exchange, fact: MediaFacts) -> str | None:
    if fact.mid is not None or Flag.GENERATE_MID not in exchange.request.flags:
        return fact.mid
    taken = {other.mid for other in exchange.facts.medias}
    # Numbered from 1 by place; behind the last place where a number is somebody's already.
    places = range(fact.index + 1, _MAX_PLACES, len(exchange.facts.medias))
    return next(str(place) for place in places if str(place) not in taken)


def _shown_address(request: NgRequest, fact: MediaFacts, interface: Interface) -> str:
    address = request.media_address or interface.advertised
    if fact.held and Replace.ZERO_ADDRESS not in request.replace:
        # The old form of hold (RFC 2543) must arrive as it was sent.
        return family_of(address).unspecified
    return address


def _answered_formats(fact: MediaFacts, heard: Media, shown: Media) -> tuple[str, ...]:
    """The answerer's formats without those that were never offered (reference E.9).

    RFC 3264, section 6.1, only says that an answer SHOULD keep the offered payload type number: the same codec under
    another number stays. Where nothing at all was offered the list passes as it is: we don't transcode.
    """
    offered = set(shown.formats)
    offered_codecs = {name.lower() for _, name, _ in shown.codecs if name}
    names = {str(payload_type): name.lower() for payload_type, name, _ in heard.codecs}
    kept = tuple(one for one in fact.formats if one in offered or names.get(one) in offered_codecs)
    return kept or fact.formats
