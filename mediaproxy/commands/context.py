"""What the commands work with: one bundle, built once by the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mediaproxy.calls.call import Call
from mediaproxy.calls.events import CallEvent
from mediaproxy.calls.lifecycle import Configure, Lifecycle
from mediaproxy.calls.offer_answer import OfferAnswer
from mediaproxy.calls.orphans import Orphans
from mediaproxy.calls.table import CallTable
from mediaproxy.datapath import Relay
from mediaproxy.errors import MissingKeyError, UnknownCallError
from mediaproxy.interfaces import Interfaces
from mediaproxy.ng.message import NgReply, NgRequest
from mediaproxy.ports import PortPools
from mediaproxy.stats.control import ControlCounters
from mediaproxy.stats.totals import CallTotals, RateMeter


@dataclass(slots=True)
class Context:
    """The state of the engine as the commands see it.

    Attributes:
        max_sessions: calls at most; ``None`` for no limit.
        firewall: what must be open on this host, for people.
        started: monotonic seconds.
        wall_offset: what to add to monotonic seconds to get unix time; the shell keeps it true.
        calls_begun: numbers the calls, for spreading them over the relay's workers.
    """

    table: CallTable
    lifecycle: Lifecycle
    offer_answer: OfferAnswer
    relay: Relay
    orphans: Orphans | None
    interfaces: Interfaces
    pools: PortPools
    totals: CallTotals
    rates: RateMeter
    control: ControlCounters
    max_sessions: int | None
    firewall: tuple[str, ...]
    started: float
    wall_offset: float
    emit: Callable[[CallEvent], None]
    configure: Configure
    calls_begun: int = 0


Command = Callable[[Context, NgRequest, float], NgReply]
"""One ng command: request and monotonic time in, reply out; raises ``RequestError`` with the text for the client."""


def required_call_id(request: NgRequest) -> str:
    """The request's call-id.

    Raises:
        MissingKeyError: it has none.
    """
    if request.call_id is None:
        raise MissingKeyError("call-id")
    return request.call_id


def required_call(context: Context, request: NgRequest) -> Call:
    """The call that a request is about.

    Raises:
        MissingKeyError, UnknownCallError: there is none.
    """
    call_id = required_call_id(request)
    call = context.table.get(call_id)
    if call is None:
        raise UnknownCallError(call_id)
    return call
