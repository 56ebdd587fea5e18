"""Flows come and go by the ten thousand, and nothing grows: maps, descriptors, memory of daemon and privileged process.

``SOAK_SCALE=1``: 60 000 installations and removals; else 12 000.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.interop.needs import needs_sip_lab
from tests.support.media_lab import MediaLab, scaled
from tests.support.processes import open_descriptors

pytestmark = needs_sip_lab

_FLOWS: Final = 200
_WARM_UP: Final = 10
"""Turns until caches and pools are as large as they will be."""
_GROWTH_KB: Final = 512
"""Flows that leave 50 bytes behind each would be more. Memory that is shared is not counted: it is as large as it will
ever be, but counts for a process only as it is touched."""


def _memory_kb(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def _family(pid: int) -> list[int]:
    """A process and those below it."""
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(each for child in text.split() for each in _family(int(child)))]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kernel_path", ["tc", "nft"])
def test_flows_that_come_and_go_leave_nothing_behind(kernel_path: str) -> None:
    turns = scaled(60_000, 12_000) // _FLOWS
    with MediaLab(prefix="churn") as lab:
        folder = lab.folder / "run" / lab.proxy.name
        process = subprocess.Popen(
            lab.proxy.command(
                "setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.support.flow_churn",
                lab.proxy.name, str(folder), lab.addresses.external, str(_FLOWS), kernel_path,
            ),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            try:
                assert process.stdin is not None
                assert process.stdout is not None

                def turn(times: int) -> list[str]:
                    print(times, file=process.stdin, flush=True)
                    return process.stdout.readline().split()  # type: ignore[union-attr]

                assert turn(_WARM_UP) == [str(_WARM_UP * _FLOWS), "0"]
                family = _family(process.pid)
                assert len(family) == 3  # with keeper and server
                descriptors = [open_descriptors(pid) for pid in family]
                memory = [_memory_kb(pid) for pid in family]
                assert turn(turns) == [str((_WARM_UP + turns) * _FLOWS), "0"]
                assert [open_descriptors(pid) for pid in family] == descriptors
                grown = [_memory_kb(pid) - before for pid, before in zip(family, memory, strict=True)]
                assert max(grown) < _GROWTH_KB, grown
                process.stdin.close()
                assert process.wait(10.0) == 0
            finally:
                process.kill()
        assert not folder.exists()
