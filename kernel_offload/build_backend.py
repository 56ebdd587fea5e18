"""The build backend: setuptools, after cffi and clang have written the C sources that are not in the repository.

``[[tool.setuptools.ext-modules]]`` compiles ``_mediaproxy_offload.c`` and ``_mpo_bpf_object.c`` (the eBPF programs, as
an array) but can't make them. Only what compiles needs them, so only those hooks are wrapped; everything else is
setuptools' own (PEP 517, "in-tree build backends"). By hand: ``python -m cffi.gen_src read-sources _mediaproxy_offload
mpo.cdef mpo.csrc _mediaproxy_offload.c`` and ``python kernel_offload/bpf_object.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import bpf_object
from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

MODULE = "_mediaproxy_offload"
HERE = Path(__file__).resolve().parent

Settings = Mapping[str, str | list[str] | None] | None


def write_sources() -> None:
    """Write ``_mediaproxy_offload.c`` and ``_mpo_bpf_object.c`` beside this file.

    Raises:
        subprocess.CalledProcessError: cffi refuses ``mpo.cdef``; its message is on stderr.
        bpf_object.BpfObjectError: the eBPF programs can't be compiled.
    """
    bpf_object.write_object_source()
    command = [sys.executable, "-m", "cffi.gen_src", "read-sources", MODULE, "mpo.cdef", "mpo.csrc", f"{MODULE}.c"]
    subprocess.run(command, cwd=HERE, check=True)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """PEP 517."""
    write_sources()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """PEP 660."""
    write_sources()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """PEP 517. setuptools wants every source of an extension to be there."""
    write_sources()
    return build_meta.build_sdist(sdist_directory, config_settings)
