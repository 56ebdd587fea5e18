"""``show firewall``: what must be open on this host for us. Ours, not rtpengine's."""

from __future__ import annotations

from mediaproxy.commands.context import Context
from mediaproxy.ng.message import NgReply, NgRequest


def show_firewall(context: Context, _request: NgRequest, _now: float) -> NgReply:
    """The lines that the shell has made of the configuration: in words, and as rules to paste."""
    reply: NgReply = {"firewall": list(context.firewall), "result": "ok"}
    return reply
