"""``mediaproxy bench``: what each way of relaying costs on this host, measured in namespaces of its own."""

from mediaproxy.bench.errors import BenchError
from mediaproxy.bench.run import BACKENDS, BenchOptions, run_bench

__all__ = ["BACKENDS", "BenchError", "BenchOptions", "run_bench"]
