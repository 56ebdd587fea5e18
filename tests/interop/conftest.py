"""What all interop tests share: the logs of a failed test's lab are kept."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.interop.needs import FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note the outcome where a fixture finds it."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[FAILED] = True
    return report
