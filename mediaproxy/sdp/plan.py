"""What an outgoing SDP is to say: decided by the session rules, carried out by ``mediaproxy.sdp.rewrite``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mediaproxy.net import AddressFamily


class Direction(Enum):
    """The four direction attributes (RFC 8866, section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Origin:
    """The o= line (RFC 8866, section 5.2). ``version`` and ``session_id`` stay text: they may exceed 64 bits.

    ``address`` may be a host name: it is never used to send anything.
    """

    username: str
    session_id: str
    version: str
    network_type: str
    address_type: str
    address: str

    def to_value(self) -> str:
        return (
            f"{self.username} {self.session_id} {self.version} {self.network_type} {self.address_type} {self.address}"
        )


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """One outgoing m= section.

    Attributes:
        port: ours; 0 for a rejected section, which then ends after mid and label (reference E.1).
        address: printed in c=, of ``family``; ``None`` leaves m= port and c= as the sender wrote them (sections that
            are not relayed: ``message``, TCP).
        protocol: as printed in m=.
        formats: as printed in m=, already filtered and ordered; codec lines follow this order.
        mid: printed as ``a=mid``; ``None`` prints none.
        direction: printed; ``None`` prints none (not RTP).
        keep_direction: ``original-sendrecv``: the sender's own direction line passes unchanged at the place of the
            unknown attributes and ``direction`` is not printed.
        rtcp_port: printed as ``a=rtcp``; ``None`` prints none.
        full_rtcp: print the address in ``a=rtcp`` too.
        rtcp_mux: print ``a=rtcp-mux``.
        ptime, maxptime: printed values; ``None`` prints none.
        extmaps: pass ``a=extmap`` lines.
        extmap_allow_mixed: print ``a=extmap-allow-mixed`` before them.
        secure: pass ``a=crypto`` and the DTLS attributes unchanged (end-to-end encryption through us).
    """

    port: int
    address: str | None
    family: AddressFamily
    protocol: str
    formats: tuple[str, ...]
    mid: str | None = None
    direction: Direction | None = None
    keep_direction: bool = False
    rtcp_port: int | None = None
    full_rtcp: bool = False
    rtcp_mux: bool = False
    ptime: str | None = None
    maxptime: str | None = None
    extmaps: bool = True
    extmap_allow_mixed: bool = False
    secure: bool = False


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """A whole outgoing SDP; ``medias`` has one plan per m= section, in order.

    Attributes:
        origin: printed instead of the sender's; ``None`` passes the sender's line (and prints none if it had none).
        session_name: printed instead of the sender's; ``None`` passes it.
        loop_marker: printed as ``a=rtpengine:MARKER`` (``loop-protect``).
    """

    medias: tuple[MediaPlan, ...]
    origin: Origin | None = None
    session_name: str | None = None
    loop_marker: str | None = None
