"""One module per ng command; here is only which word means which."""

from collections.abc import Mapping
from typing import Final

from mediaproxy.commands.context import Command, Context
from mediaproxy.commands.delete import delete
from mediaproxy.commands.firewall import show_firewall
from mediaproxy.commands.flows import list_flows, sweep_flows
from mediaproxy.commands.listing import list_calls
from mediaproxy.commands.offer import answer, offer
from mediaproxy.commands.ping import ping
from mediaproxy.commands.query import query
from mediaproxy.commands.statistics import statistics

COMMANDS: Final[Mapping[str, Command]] = {
    "ping": ping,
    "offer": offer,
    "answer": answer,
    "delete": delete,
    "query": query,
    "list": list_calls,
    "statistics": statistics,
    "list flows": list_flows,
    "sweep flows": sweep_flows,
    "show firewall": show_firewall,
}

__all__ = ["COMMANDS", "Command", "Context"]
