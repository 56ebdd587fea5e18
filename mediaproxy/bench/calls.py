"""The calls of a measurement where no signalling makes them: who sends from where, and by which relay endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mediaproxy.bench.lab import Lab
from mediaproxy.bench.load import MediaFlow
from mediaproxy.datapath.flow import Flow, InstalledFlow, Slot
from mediaproxy.net import Endpoint

_FIRST_RELAY_PORT: Final = 10_000
_FIRST_AGENT_PORT: Final = 2_000
CALLS_MAX: Final = 27_000
"""As many as one address has port pairs for, on the agents' side."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call; indices are sides: ``agents[0]`` talks to ``relays[0]``, and is heard by ``agents[1]``."""

    number: int
    agents: tuple[Endpoint, Endpoint]
    relays: tuple[Endpoint, Endpoint]

    @property
    def media(self) -> tuple[MediaFlow, MediaFlow]:
        """What the generator sends."""
        first, second = (
            MediaFlow(side, self.agents[side], self.relays[side], self.agents[1 - side]) for side in (0, 1)
        )
        return first, second

    def installed(self, side: int) -> InstalledFlow:
        """The kernel flow for what ``agents[side]`` sends: strict, as of a call whose source was learnt."""
        flow = Flow(
            local=self.relays[side],
            source=self.agents[side],
            sender=self.relays[1 - side],
            target=self.agents[1 - side],
            clock_rates=((8, 8000),),
        )
        return InstalledFlow(flow, Slot(2 * self.number + side, 1))


def plan_calls(lab: Lab, count: int) -> list[PlannedCall]:
    """``count`` calls (at most ``CALLS_MAX``) over all addresses of the relay."""

    def relay(side: int, number: int) -> Endpoint:
        return Endpoint(
            lab.local_address(side, number % lab.addresses), _FIRST_RELAY_PORT + 2 * (number // lab.addresses)
        )

    def agent(side: int, number: int) -> Endpoint:
        return Endpoint(lab.agent_address(side), _FIRST_AGENT_PORT + 2 * number)

    return [
        PlannedCall(number, (agent(0, number), agent(1, number)), (relay(0, number), relay(1, number)))
        for number in range(count)
    ]
