"""``statistics`` (reference B.7): counts are integers, durations and averages strings, as dashboards parse them."""

from __future__ import annotations

from typing import Final

from mediaproxy.commands.context import Context
from mediaproxy.ng.message import NgReply, NgReplyValue, NgRequest
from mediaproxy.stats.control import COMMAND_LABELS, OTHER_PEERS, CommandCounter, ControlCounters, PeerCounter
from mediaproxy.stats.totals import EndReason

_NONE: Final = CommandCounter()
_PEERS_SHOWN: Final = 20


def statistics(context: Context, _request: NgRequest, now: float) -> NgReply:
    """All groups that we can fill with true values; nothing is transcoded yet, hence the zero."""
    return {
        "statistics": {
            "currentstatistics": _current(context, now),
            "totalstatistics": _totals(context, now),
            "controlstatistics": _control(context),
            "interfaces": _interfaces(context),
            "relay": _relay(context),
            "kernelpath": _kernel(context),
        },
        "result": "ok",
    }


def _current(context: Context, now: float) -> dict[str, NgReplyValue]:
    totals = context.relay.totals()
    context.rates.maybe_sample(lambda: totals, now)
    rates = context.rates.rates(totals, now)
    sessions = len(context.table)
    report: dict[str, NgReplyValue] = {
        "sessionsown": sessions,
        "sessionsforeign": 0,
        "sessionstotal": sessions,
        "transcodedmedia": 0,
    }
    report |= _by_path(
        {
            "packetrate": (rates.packets, rates.kernel_packets),
            "byterate": (rates.bytes, rates.kernel_bytes),
            "errorrate": (rates.errors, rates.kernel_errors),
        }
    )
    return report | _medias(context)


def _medias(context: Context) -> dict[str, NgReplyValue]:
    """How many medias are forwarded by which path; mixed are those that go one way by the kernel, the other not."""
    userspace = kernel = mixed = 0
    for call in context.table.values():
        for media in call.medias():
            if media.pair is None:
                continue
            ways = [media.pair.rtp.handle]
            if media.rtp is not None:
                ways += [sink.transport.handle for sink in media.rtp.sinks]
            in_kernel = [context.relay.path(way) is None for way in ways]
            userspace += not any(in_kernel)
            kernel += all(in_kernel)
            mixed += any(in_kernel) and not all(in_kernel)
    return {"media_userspace": userspace, "media_kernel": kernel, "media_mixed": mixed}


def _totals(context: Context, now: float) -> dict[str, NgReplyValue]:
    calls = context.totals
    relayed = context.relay.totals()
    report: dict[str, NgReplyValue] = {
        "uptime": str(int(now - context.started)),
        "managedsessions": calls.managed,
        "rejectedsessions": calls.rejected,
        "timeoutsessions": calls.ended[EndReason.TIMEOUT],
        "silenttimeoutsessions": calls.ended[EndReason.SILENT_TIMEOUT],
        "finaltimeoutsessions": calls.ended[EndReason.FINAL_TIMEOUT],
        "offertimeoutsessions": calls.ended[EndReason.OFFER_TIMEOUT],
        "regularterminatedsessions": calls.ended[EndReason.DELETED],
        "forcedterminatedsessions": calls.ended[EndReason.SHUTDOWN],
    }
    report |= _by_path(
        {
            "relayedpackets": (relayed.packets, relayed.kernel_packets),
            "relayedpacketerrors": (relayed.errors, relayed.kernel_errors),
            "relayedbytes": (relayed.bytes, relayed.kernel_bytes),
        }
    )
    report |= {
        "zerowaystreams": calls.zero_way,
        "onewaystreams": calls.one_way,
        "avgcallduration": _seconds(calls.mean_duration),
        "totalcallsduration": _seconds(calls.duration),
        "totalcallsduration2": _seconds(calls.duration_squared),
        "totalcallsduration_stddev": _seconds(calls.duration_deviation),
    }
    return report


def _by_path(counts: dict[str, tuple[int, int]]) -> dict[str, NgReplyValue]:
    """Each count (sum, of that the kernel's) as that of user space, that of the kernel, and the sum."""
    report: dict[str, NgReplyValue] = {f"{name}_user": total - kernel for name, (total, kernel) in counts.items()}
    report |= {f"{name}_kernel": kernel for name, (_, kernel) in counts.items()}
    return report | {name: total for name, (total, _) in counts.items()}


def _control(context: Context) -> dict[str, NgReplyValue]:
    control: dict[str, NgReplyValue] = {"proxies": _peers(context.control)}
    totals = context.control.totals()
    control |= {f"total{label}count": totals.get(command, _NONE).count for command, label in COMMAND_LABELS.items()}
    control |= {
        "retransmissions": context.control.retransmissions,
        "internalerrors": context.control.internal_errors,
        "oversizedreplies": context.control.oversized,
        "evictedreplies": context.control.evicted_replies,
        "drops": {drop.value: count for drop, count in context.control.drops.items()},
    }
    return control


def _peers(control: ControlCounters) -> list[NgReplyValue]:
    """The busiest peers, and all others as one: more would not fit into a datagram."""
    busiest = sorted(control.peers.items(), key=lambda item: sum(one.count for one in item[1].commands.values()))
    busiest.reverse()
    shown = busiest[:_PEERS_SHOWN]
    rest = ControlCounters(peers=dict(busiest[_PEERS_SHOWN:]))
    if rest.peers:
        shown.append((OTHER_PEERS, PeerCounter(rest.totals())))
    return [_peer(name, counters) for name, counters in shown]


def _peer(name: str, counters: PeerCounter) -> NgReplyValue:
    report: dict[str, NgReplyValue] = {"proxy": name}
    for command, label in COMMAND_LABELS.items():
        counted = counters.commands.get(command, _NONE)
        report[f"{label}count"] = counted.count
        report[f"{label}duration"] = _seconds(counted.seconds)
    report["errorcount"] = counters.errors
    return report


def _relay(context: Context) -> dict[str, NgReplyValue]:
    """What Python was told of sources, and what was held back so that a flood could not drown it."""
    totals = context.relay.totals()
    return {
        "reports": totals.reports,
        "reportssuppressed": totals.reports_suppressed,
        "reportslost": totals.reports_lost,
    }


def _kernel(context: Context) -> dict[str, NgReplyValue]:
    """Which kernel path there is, how many transports' media it carries, and why it does not carry others'."""
    kernel = context.relay.kernel()
    report: dict[str, NgReplyValue] = {
        "backend": kernel.backend,
        "flows": kernel.flows,
        "installations": kernel.installations,
        "orphans": kernel.orphans,
        "reasons": {reason.value: count for reason, count in kernel.reasons.items()},
        "refusals": {reason.value: count for reason, count in kernel.refusals.items()},
        "rejected": dict(kernel.rejected),
    }
    if kernel.failure:
        report["failure"] = kernel.failure
    return report


def _interfaces(context: Context) -> list[NgReplyValue]:
    report: list[NgReplyValue] = []
    for interface in context.interfaces.all:
        pool = context.pools.of(interface)
        used = pool.size - pool.free
        report.append(
            {
                "name": interface.name,
                "address": interface.address,
                "ports": {
                    "min": interface.port_min,
                    "max": interface.port_max,
                    "used": used * 2,
                    "used_pct": f"{100 * used / pool.size if pool.size else 0:.2f}",
                    "free": pool.free * 2,
                    "totals": pool.size * 2,
                    "young": pool.young_taken,
                    "busy": pool.busy,
                },
            }
        )
    return report


def _seconds(value: float) -> str:
    return f"{value:.6f}"
