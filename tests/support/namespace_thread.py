"""A thread that stands in a namespace of the lab and does there what it is told, one thing after another.

What a kernel backend opens later (tables, netlink) belongs to the namespace of the thread that opens it: so one thread
has to do all, as in the privileged process.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from tests.support.netlab import Namespace, enter

T = TypeVar("T")


class NamespaceThread:
    """Use it in a ``with`` statement, or ``close`` it."""

    def __init__(self, namespace: Namespace) -> None:
        self._pool = ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,))

    def do(self, function: Callable[[], T], timeout: float = 60.0) -> T:
        """Have a function run inside, and return what it returns or raise what it raises."""
        return self._pool.submit(function).result(timeout)

    def close(self) -> None:
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
