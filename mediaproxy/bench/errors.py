"""The one error of the benchmark: something that a row needs is missing or failed, said in words."""

from __future__ import annotations

from mediaproxy.errors import MediaProxyError


class BenchError(MediaProxyError):
    """A measurement can't be taken; ``str(error)`` goes into the table and the JSON in place of its figures."""
