"""The difference between what is wanted and what is installed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from mediaproxy.datapath.flow import Flow

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Difference(Generic[K]):
    """What has to happen: ``removals`` first, then ``sets``. A flow to be replaced is only in ``sets``."""

    sets: dict[K, Flow]
    removals: list[K]


def reconcile(desired: Mapping[K, Flow], installed: Mapping[K, Flow]) -> Difference[K]:
    """What turns ``installed`` into ``desired``; equal flows are left alone."""
    return Difference(
        sets={key: flow for key, flow in desired.items() if installed.get(key) != flow},
        removals=[key for key in installed if key not in desired],
    )
