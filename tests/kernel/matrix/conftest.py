"""The rows of the matrix as fixtures: one bed after the other, each with all tests that want it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.matrix.backends import BACKENDS, Backend
from tests.kernel.matrix.bed import Bed, bed_of


@pytest.fixture(scope="session", params=BACKENDS, ids=str)
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The networks and the daemon of a backend, shared by all tests."""
    backend: Backend = request.param
    with bed_of(backend) as made:
        yield made
