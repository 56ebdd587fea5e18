"""What can be said of the nft backend without a kernel: how it refuses. All else is in ``tests/kernel``."""

from __future__ import annotations

import pytest

from mediaproxy.backends.kernel_backend import BackendSettings
from mediaproxy.backends.nft import open_nft
from mediaproxy.errors import OffloadError


@pytest.mark.parametrize("instance", ["", "a b", 'x"', "é", "a" * 65])
def test_an_instance_that_cannot_be_part_of_a_name_is_refused(instance: str) -> None:
    with pytest.raises(OffloadError, match="instance"):
        open_nft(BackendSettings(instance, None, 16))


def test_no_slots_are_refused() -> None:
    with pytest.raises(OffloadError):
        open_nft(BackendSettings("unit", None, 0))
