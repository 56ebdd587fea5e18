"""The difference between wanted and installed flows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mediaproxy.datapath.flow import Flow
from mediaproxy.datapath.reconcile import reconcile
from mediaproxy.net import Endpoint


def flow(key: int, target: int) -> Flow:
    return Flow(
        Endpoint("192.0.2.1", 30000 + key), None, Endpoint("192.0.2.2", 40000 + key), Endpoint("192.0.2.3", target)
    )


TABLES = st.dictionaries(st.integers(0, 9), st.integers(1, 3))


@given(desired=TABLES, installed=TABLES)
def test_difference_turns_what_is_installed_into_what_is_desired(
    desired: dict[int, int], installed: dict[int, int]
) -> None:
    wanted = {key: flow(key, target) for key, target in desired.items()}
    there = {key: flow(key, target) for key, target in installed.items()}
    difference = reconcile(wanted, there)
    result = {key: one for key, one in there.items() if key not in difference.removals} | difference.sets
    assert result == wanted
    assert all(there.get(key) != one for key, one in difference.sets.items()), "an equal flow is left alone"
