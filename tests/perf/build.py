"""Compiles the ng load generator into ``.cache/bench/`` when their source is newer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from mediaproxy.bench.errors import BenchError

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache" / "bench"
FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")


def build_generator(name: str) -> Path:
    """Return the executable of ``src/NAME.c``, compiled if need be.

    Raises:
        BenchError: there is no gcc, or it refused the source.
    """
    source = Path(__file__).parent / "src" / f"{name}.c"
    program = CACHE / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BenchError("gcc is missing: apt-get install gcc libc6-dev linux-libc-dev")
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(".new")
    done = subprocess.run(
        [compiler, *FLAGS, str(source), "-o", str(unfinished)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"gcc refused {source.name}: {done.stderr.strip()}")
    unfinished.replace(program)
    return program
