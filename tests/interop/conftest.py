"""What all interop tests share: the logs of a failed test's lab are kept, and which path media takes."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.interop.needs import FAILED
from tests.support import media_proxy


@pytest.fixture(params=["auto", "userspace"])
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once with the kernel path of this host and once with none."""
    path: str = request.param
    monkeypatch.setattr(media_proxy, "default_kernel_path", path)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the outcome where a fixture finds it."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report
