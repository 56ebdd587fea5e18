"""Benchmarks: ``python -m tests.perf.bench`` (``make bench``). How each figure is taken: ``tests/perf/README.md``."""
