"""The closed sets of words that requests carry (reference C.2 to C.4); each value is the canonical word."""

from __future__ import annotations

from enum import Enum


class Flag(Enum):
    """Words of the ``flags`` list that change what we do; any other word is ignored (and logged once)."""

    ASYMMETRIC = "asymmetric"
    FATAL = "fatal"
    FAST = "fast"
    FULL_RTCP_ATTRIBUTE = "full-rtcp-attribute"
    GENERATE_MID = "generate-mid"
    LOOP_PROTECT = "loop-protect"
    MEDIA_HANDOVER = "media-handover"
    NEW_BRANCH = "new-branch"
    NO_PORT_LATCHING = "no-port-latching"
    NO_RTCP_ATTRIBUTE = "no-rtcp-attribute"
    ORIGINAL_SENDRECV = "original-sendrecv"
    PORT_LATCHING = "port-latching"
    PROVISIONAL = "provisional"
    SIP_SOURCE_ADDRESS = "sip-source-address"
    STRICT_SOURCE = "strict-source"
    STRIP_EXTMAP = "strip-extmap"
    TO_TAG = "to-tag"
    TRUST_ADDRESS = "trust-address"


class Replace(Enum):
    """Words of the ``replace`` list (reference C.3)."""

    ORIGIN = "origin"
    ORIGIN_FULL = "origin-full"
    SESSION_CONNECTION = "session-connection"
    SDP_VERSION = "sdp-version"
    USERNAME = "username"
    SESSION_NAME = "session-name"
    ZERO_ADDRESS = "zero-address"
    FORCE_INCREMENT_SDP_VERSION = "force-increment-sdp-ver"


class RtcpMux(Enum):
    """Words of the ``rtcp-mux`` list (reference E.5)."""

    OFFER = "offer"
    REQUIRE = "require"
    DEMUX = "demux"
    ACCEPT = "accept"
    REJECT = "reject"


class EndpointLearning(Enum):
    """How a party's real endpoint is found (reference F.5)."""

    DELAYED = "delayed"
    IMMEDIATE = "immediate"
    OFF = "off"
    HEURISTIC = "heuristic"
