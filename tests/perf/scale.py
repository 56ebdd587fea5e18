"""How much is measured: the full run, and the quick one that only shows that every row works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of the measurements; times in seconds, rates per second."""

    name: str
    repetitions: int
    setup_seconds: float
    setup_window: int
    latency_calls: int
    latency_offers: int
    """Offers a second while the calls carry media."""
    latency_seconds: float
    relay_calls: tuple[int, ...]
    relay_warm_up: float
    """Longer than the 3 s in which rtpengine looks for the endpoint."""
    relay_step: float
    relay_first_pps: int
    relay_fixed_pps: int
    relay_search_steps: int
    """Refinements after the first rate with loss."""
    memory_calls: int
    capacity: bool
    """Also fill the daemon until it refuses a call."""


FULL: Final = Scale(
    name="full",
    repetitions=4,
    setup_seconds=5.0,
    setup_window=16,
    latency_calls=200,
    latency_offers=100,
    latency_seconds=10.0,
    relay_calls=(1000,),
    relay_warm_up=4.0,
    relay_step=2.0,
    relay_first_pps=60_000,
    relay_fixed_pps=50_000,
    relay_search_steps=4,
    memory_calls=2000,
    capacity=True,
)

QUICK: Final = Scale(
    name="quick",
    repetitions=1,
    setup_seconds=0.5,
    setup_window=4,
    latency_calls=10,
    latency_offers=20,
    latency_seconds=1.0,
    relay_calls=(20,),
    relay_warm_up=0.3,
    relay_step=0.3,
    relay_first_pps=2_000,
    relay_fixed_pps=2_000,
    relay_search_steps=0,
    memory_calls=50,
    capacity=False,
)
