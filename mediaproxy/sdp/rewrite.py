"""The outgoing SDP: the sender's lines in the fixed order of reference E.1 (form "M"), with our ports and addresses.

Kept although form M drops it: k=, r=, z=, groups other than BUNDLE. Kept as the sender wrote it although form M
re-formats it: a=fmtp. Not kept: the number of ports behind the slash of a relayed m= line, because we relay one port
pair (RFC 8866, section 5.14, would have the peer send to all of them). Not copied: a=rtpmap for a dynamic payload
type that has none, and an o= line where there was none.
"""

from __future__ import annotations

from typing import Final

from mediaproxy.errors import SdpRewriteError
from mediaproxy.sdp.attributes import MediaFacts, MediaLines, SessionFacts
from mediaproxy.sdp.model import SdpMedia, SessionDescription, parse_number
from mediaproxy.sdp.payload_types import STATIC_RTPMAPS
from mediaproxy.sdp.plan import Direction, MediaPlan, SessionPlan

_BANDWIDTH_ORDER: Final = ("b=AS:", "b=RR:", "b=RS:", "b=CT:", "b=TIAS:")
_SECURE_ATTRIBUTES: Final = ("crypto", "setup", "fingerprint", "tls-id")
"""In the order in which they are printed."""
_DIRECTION_ATTRIBUTES: Final = frozenset(direction.value for direction in Direction)
_MAX_PAYLOAD_TYPE: Final = 127


def write_outgoing(sdp: SessionDescription, facts: SessionFacts, plan: SessionPlan) -> bytes:
    """Write the SDP that the other side is to see.

    Args:
        facts: ``read_facts(sdp)``.
        plan: one media plan for each m= section of ``sdp``.
    Returns:
        Lines that end in CRLF, the last one too.
    Raises:
        SdpRewriteError: there is no m= section, or not as many as the plan has.
    Source: reference E.1.
    """
    if not sdp.medias:
        raise SdpRewriteError("the SDP has no m= line")
    if len(sdp.medias) != len(plan.medias):
        raise SdpRewriteError(f"the SDP has {len(sdp.medias)} m= sections, the plan {len(plan.medias)}")
    out = ["v=0"]
    _write_session(out, facts, plan)
    for media, fact, media_plan in zip(sdp.medias, facts.medias, plan.medias, strict=True):
        if media_plan.address is None:
            _write_sender_head(out, sdp, media, fact, media_plan)
        else:
            _write_our_head(out, fact, media_plan, media_plan.address)
        _write_body(out, fact, media_plan)
    out.append("")
    return "\r\n".join(out).encode("latin-1")


def _write_session(out: list[str], facts: SessionFacts, plan: SessionPlan) -> None:
    lines = facts.lines
    by_kind = lines.by_kind
    if plan.origin is not None:
        out.append(f"o={plan.origin.to_value()}")
    else:
        out += by_kind.get("o", ())[:1]
    name = plan.session_name if plan.session_name is not None else facts.session_name
    out.append("s=" if name is None else f"s={name}")
    for kind in "iuep":
        out += by_kind.get(kind, ())
    bandwidths = by_kind.get("b", ())
    out += sorted(bandwidths, key=_bandwidth_rank) if len(bandwidths) > 1 else bandwidths
    out += lines.times or ("t=0 0",)
    out += by_kind.get("z", ())
    out += by_kind.get("k", ())
    if plan.loop_marker is not None:
        out.append(f"a=rtpengine:{plan.loop_marker}")
    if not lines.attributes:
        return
    secure = any(media.secure for media in plan.medias)
    extmaps = any(media.extmaps for media in plan.medias)
    keep_direction = any(media.keep_direction for media in plan.medias)
    for name, line in lines.attributes:
        if name in _SECURE_ATTRIBUTES:
            passes = secure
        elif name in _DIRECTION_ATTRIBUTES:
            passes = keep_direction
        elif name == "rtpengine":
            # Another instance's marker stays: that one has to know its own again when the SDP comes back to it.
            passes = plan.loop_marker is None or line.partition(":")[2].strip(" \t") != plan.loop_marker
        else:
            passes = extmaps or name != "extmap"
        if passes:
            out.append(line)


def _bandwidth_rank(line: str) -> int:
    for rank, prefix in enumerate(_BANDWIDTH_ORDER):
        if line.startswith(prefix):
            return rank
    return len(_BANDWIDTH_ORDER)


def _write_our_head(out: list[str], fact: MediaFacts, plan: MediaPlan, address: str) -> None:
    # Without any format m= would be no m= line; "0" is what rtpengine puts there.
    formats = plan.formats or (("0",) if fact.is_rtp else ())
    out.append(" ".join((f"m={fact.kind} {plan.port} {plan.protocol}", *formats)))
    out += fact.lines.by_kind.get("i", ())
    shown = address if plan.port else plan.family.unspecified
    out.append(f"c=IN {plan.family.value} {shown}")


def _write_sender_head(
    out: list[str], sdp: SessionDescription, media: SdpMedia, fact: MediaFacts, plan: MediaPlan
) -> None:
    """For a section that goes past us: port and address stay the sender's."""
    count = f"/{media.port_count}" if media.port_count != 1 else ""
    out.append(" ".join((f"m={media.media_type} {media.port}{count} {plan.protocol}", *plan.formats)))
    out += fact.lines.by_kind.get("i", ())
    # The session's own c= is not printed, so a section that relied on it gets it here.
    out += fact.lines.by_kind.get("c") or [f"c={line.value}" for line in sdp.lines if line.kind == "c"][:1]


def _write_body(out: list[str], fact: MediaFacts, plan: MediaPlan) -> None:
    lines = fact.lines
    attributes = lines.attributes
    out += lines.by_kind.get("b", ())
    out += lines.by_kind.get("k", ())
    if plan.mid is not None:
        out.append(f"a=mid:{plan.mid}")
    if "label" in attributes:
        out.append(attributes["label"][0].line)
    if fact.bundle_only:
        out.append("a=bundle-only")
    if not plan.port:
        return
    if not fact.is_rtp:
        _write_others(out, lines, plan)
        return
    _write_codecs(out, lines, plan.formats)
    if plan.extmaps and "extmap" in attributes:
        if plan.extmap_allow_mixed:
            out.append("a=extmap-allow-mixed")
        out += [attribute.line for attribute in attributes["extmap"]]
    _write_others(out, lines, plan)
    if plan.direction is not None and not plan.keep_direction:
        out.append(f"a={plan.direction.value}")
    if plan.rtcp_port is not None:
        tail = f" IN {plan.family.value} {plan.address}" if plan.full_rtcp and plan.address is not None else ""
        out.append(f"a=rtcp:{plan.rtcp_port}{tail}")
    if plan.rtcp_mux:
        out.append("a=rtcp-mux")
    if plan.secure:
        for name in _SECURE_ATTRIBUTES:
            out += [attribute.line for attribute in attributes.get(name, ())]
    if plan.ptime is not None:
        out.append(f"a=ptime:{plan.ptime}")
    if plan.maxptime is not None:
        out.append(f"a=maxptime:{plan.maxptime}")


def _write_codecs(out: list[str], lines: MediaLines, formats: tuple[str, ...]) -> None:
    for text in dict.fromkeys(formats):
        payload_type = parse_number(text, _MAX_PAYLOAD_TYPE)
        if payload_type is None:
            continue  # only in a section that its sender rejected
        line = lines.rtpmaps.get(payload_type) or STATIC_RTPMAPS.get(payload_type)
        if line is not None:
            out.append(line)
        out += lines.codec_parameters.get(payload_type, ())


def _write_others(out: list[str], lines: MediaLines, plan: MediaPlan) -> None:
    others = lines.others
    if plan.keep_direction and "direction" in lines.attributes:
        direction = lines.attributes["direction"][-1]
        others = [*others[: direction.place], direction.line, *others[direction.place :]]
    if not plan.rtcp_mux and "a=rtcp-mux-only" in others:
        # RFC 8858: "only" beside a port of its own would contradict itself.
        others = [line for line in others if line != "a=rtcp-mux-only"]
    out += others
