"""From what the relay is told of its transports to what the kernel is to forward: the rules, and nothing else.

A transport's RTP can be forwarded by one flow when it goes to one sink, its source is learnt, and the sink knows where
to send. The flow changes whenever the configuration of either of the two does.
"""

from __future__ import annotations

from collections.abc import Iterable

from mediaproxy.datapath.flow import MAX_FLOW_CLOCK_RATES, Capabilities, Flow, FlowReason, Verdict
from mediaproxy.datapath.relay import SourcePolicy, TransportConfig, TransportHandle
from mediaproxy.net import Endpoint


class FlowPlan:
    """What is known of all open transports, and which flows follow from it."""

    def __init__(self, capabilities: Capabilities) -> None:
        self._capabilities = capabilities
        self._locals: dict[TransportHandle, Endpoint] = {}
        self._configs: dict[TransportHandle, TransportConfig] = {}
        self._feeders: dict[TransportHandle, set[TransportHandle]] = {}
        self._changed: dict[TransportHandle, None] = {}

    def open(self, handle: TransportHandle, local: Endpoint) -> None:
        """A transport was opened."""
        self._locals[handle] = local

    def close(self, handle: TransportHandle) -> None:
        """A transport was closed; those that went to it have nowhere to go."""
        self._locals.pop(handle, None)
        self._changed.pop(handle, None)
        config = self._configs.pop(handle, None)
        if config is not None:
            self._unlink(config)
        self._touch(self._feeders.pop(handle, ()))

    def configure(self, configs: Iterable[TransportConfig]) -> None:
        """The relay was told this of open transports."""
        for config in configs:
            handle = config.handle
            if handle not in self._locals:
                continue
            before = self._configs.get(handle)
            if before == config:
                continue
            self._configs[handle] = config
            if before is None or before.rtp_sinks != config.rtp_sinks:
                if before is not None:
                    self._unlink(before)
                for sink in config.rtp_sinks:
                    self._feeders.setdefault(sink, set()).add(handle)
            self._changed[handle] = None
            self._touch(self._feeders.get(handle, ()))

    def touch(self, handle: TransportHandle) -> None:
        """Look at a transport again though nothing was configured."""
        self._touch((handle,))

    def take_changed(self) -> list[TransportHandle]:
        """The open transports whose flow may be another one than the last time."""
        changed = list(self._changed)
        self._changed.clear()
        return changed

    def feeders(self, sink: TransportHandle) -> list[TransportHandle]:
        """The transports whose RTP goes to this one."""
        return list(self._feeders.get(sink, ()))

    def sink(self, handle: TransportHandle) -> TransportHandle | None:
        """Where the RTP of a transport goes, if that is one place."""
        config = self._configs.get(handle)
        return config.rtp_sinks[0] if config is not None and len(config.rtp_sinks) == 1 else None

    def flow(self, handle: TransportHandle) -> Flow | Verdict:
        """The flow that is to forward the RTP of a transport, or why there is none."""
        config = self._configs.get(handle)
        local = self._locals.get(handle)
        if config is None or local is None or config.policy is SourcePolicy.CLOSED:
            return Verdict(FlowReason.CLOSED)
        if not config.rtp_sinks:
            return Verdict(FlowReason.RTCP if config.rtcp_sinks else FlowReason.NO_SINK)
        if len(config.rtp_sinks) > 1:
            return Verdict(FlowReason.SEVERAL_SINKS)
        out = self._configs.get(config.rtp_sinks[0])
        sender = self._locals.get(config.rtp_sinks[0])
        if out is None or sender is None or out.remote is None:
            return Verdict(FlowReason.NO_DESTINATION)
        source = config.expected
        if config.policy is SourcePolicy.TRUSTING and self._capabilities.any_source:
            source = None
        elif source is None:
            trusting = config.policy is SourcePolicy.TRUSTING
            return Verdict(FlowReason.NEEDS_ANY_SOURCE if trusting else FlowReason.NOT_LEARNT)
        if config.opaque and not self._capabilities.opaque:
            return Verdict(FlowReason.OPAQUE)
        if local.family is not out.remote.family and not self._capabilities.family_change:
            return Verdict(FlowReason.NEEDS_FAMILY_CHANGE)
        return Flow(
            local=local,
            source=source,
            sender=sender,
            target=out.remote,
            strict=config.policy is SourcePolicy.LOCKED,
            tos=out.tos or 0,
            opaque=config.opaque,
            clock_rates=config.clock_rates[:MAX_FLOW_CLOCK_RATES],
            drop=config.drop,
        )

    def _touch(self, handles: Iterable[TransportHandle]) -> None:
        for handle in handles:
            if handle in self._locals:
                self._changed[handle] = None

    def _unlink(self, config: TransportConfig) -> None:
        for sink in config.rtp_sinks:
            feeders = self._feeders.get(sink)
            if feeders is not None:
                feeders.discard(config.handle)
                if not feeders:
                    del self._feeders[sink]
