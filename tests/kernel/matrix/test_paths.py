"""Every backend, between IPv4 and IPv6, over two interfaces, one, or none: who carries the media, and how."""

from __future__ import annotations

import pytest

from tests.kernel.matrix.bed import TOPOLOGIES, Bed
from tests.kernel.matrix.call import Call


@pytest.mark.parametrize("families", [(4, 4), (6, 6), (4, 6)], ids=["ip4", "ip6", "ip4-ip6"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_media_is_carried_by_the_kernel_or_not_for_the_reason_that_is_named(
    bed: Bed, topology: str, families: tuple[int, int]
) -> None:
    with Call(bed, TOPOLOGIES[topology], families) as call:
        call.settle()
        call.carried_by()
