"""The exception tree: who acts on an error is decided by its class (docs/architecture.md, "Errors")."""

from __future__ import annotations


class MediaProxyError(Exception):
    """Root of the tree: a boundary catches this and nothing wider."""


class ConfigError(MediaProxyError):
    """A setting cannot be used.

    Args:
        source: the file, environment variable or command line that holds the setting.
        key: the setting's name as the user wrote it; empty when the whole source is unreadable.
        reason: what is wrong and what would be right.
    """

    def __init__(self, source: str, key: str, reason: str) -> None:
        super().__init__(f"{source}: {key}: {reason}" if key else f"{source}: {reason}")
        self.source = source
        self.key = key
        self.reason = reason


class NgSyntaxError(MediaProxyError):
    """Not ng. No cookie to answer to, so the listener drops and counts it."""


class RelayError(MediaProxyError):
    """The relay refused to open or to change a transport."""


class OffloadError(MediaProxyError):
    """A kernel path cannot be had, or no longer answers. Never fails a call: its media stays with the sockets."""


class PortBusyError(RelayError):
    """Somebody else has bound this port: the caller takes another one."""


class RequestError(MediaProxyError):
    """The request can't be carried out; ``str(error)`` becomes ``error-reason``.

    The texts are part of the wire protocol: SIP servers and scripts compare them literally
    (ng-protocol reference B, G.6, G.33). ``detail`` is for people: it goes into the log and into the
    reply's ``error-detail``, never into ``error-reason``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


class PayloadError(RequestError):
    """There is a cookie, but what follows is no dictionary that we can read (reference A.3)."""


class MissingKeyError(RequestError):
    """A required key is absent, e.g. ``No call-id in message``."""

    def __init__(self, key: str) -> None:
        super().__init__(f"No {key} in message")
        self.key = key


class UnknownCallError(RequestError):
    """No such call (offer, answer, query)."""

    def __init__(self, call_id: str) -> None:
        super().__init__("Unknown call-id")
        self.call_id = call_id


class LimitReachedError(RequestError):
    """A configured limit refuses a new call (reference A.8).

    Args:
        limit: which limit, as the ``load limit`` reply names it.
    """

    def __init__(self, limit: str) -> None:
        # The same text for all limits: it is the one that makes Kamailio and OpenSIPS try the next node.
        super().__init__("Parallel session limit reached", detail=limit)
        self.limit = limit


class OutOfPortsError(RequestError):
    """No port pair is free on the interface; nothing was allocated."""

    def __init__(self, detail: str) -> None:
        super().__init__("Ran out of ports", detail)


class RefusedAddressError(RequestError):
    """The SDP points at an address that media must not be sent to."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"Refused media address {address}: {why}")
        self.address = address
        self.why = why


class SdpError(RequestError):
    """The SDP of the request can't be used."""


class SdpSyntaxError(SdpError):
    """Not SDP (reference E.13)."""

    def __init__(self, detail: str) -> None:
        super().__init__("Failed to parse SDP", detail)


class SdpIncompleteError(SdpError):
    """SDP, but a field that relaying needs is missing or unusable (reference E.13)."""

    def __init__(self, detail: str) -> None:
        super().__init__("Incomplete SDP specification", detail)


class SdpRewriteError(SdpError):
    """No outgoing SDP can be made of it, e.g. it has no m= line."""

    def __init__(self, detail: str) -> None:
        super().__init__("Error rewriting SDP", detail)
