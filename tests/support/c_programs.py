"""Small programs of the tests that are written in C, because Python is too slow for them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "src"
_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "programs"
_FLAGS: Final = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror", "-pthread")


class BuildError(Exception):
    """There is no compiler, or it refused the source."""


def build_program(name: str) -> Path:
    """Return the executable of ``src/NAME.c``, compiled if need be.

    Raises:
        BuildError: see there.
    """
    source = _FOLDER / f"{name}.c"
    program = _CACHE / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = shutil.which("gcc")
    if compiler is None:
        raise BuildError("gcc is missing: apt-get install gcc libc6-dev linux-libc-dev")
    _CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, *_FLAGS, str(source), "-o", str(unfinished)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildError(f"gcc refused {source.name}: {done.stderr.strip()}")
    unfinished.replace(program)
    return program
