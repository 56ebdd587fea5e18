"""Compile the eBPF programs and write the object file as a C array: what is installed needs no compiler.

By hand: ``python3 kernel_offload/bpf_object.py OUTPUT.c``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "bpf" / "mpo.bpf.c"
OUTPUT = HERE / "_mpo_bpf_object.c"

# -mcpu=v3: 32-bit registers and jumps, kernel 5.1. -g: the maps are described by BTF.
FLAGS = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing",
         "-fno-stack-protector"]  # fmt: skip
BYTES_PER_LINE = 24


class BpfObjectError(Exception):
    """The programs could not be compiled; the text says why."""


def compile_object() -> bytes:
    """The ELF object of ``bpf/mpo.bpf.c``.

    Raises:
        BpfObjectError: there is no clang, or it refuses the source.
    """
    clang = shutil.which("clang")
    if clang is None:
        raise BpfObjectError("the eBPF programs need clang to be compiled (Debian: clang llvm libbpf-dev)")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "mpo.bpf.o"
        command = [clang, *FLAGS, f"-I{HERE / 'include'}", *_system_headers(), "-c", str(SOURCE), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BpfObjectError(result.stderr)
        strip = shutil.which("llvm-strip")
        if strip is not None:  # what debuggers read is three quarters of it
            subprocess.run([strip, "--strip-debug", str(target)], check=True)
        return target.read_bytes()


def _system_headers() -> list[str]:
    """Debian keeps ``asm/`` where only a compiler for that machine looks, and eBPF is another machine."""
    gcc = shutil.which("gcc") or shutil.which("cc")
    if gcc is None:
        return []
    triplet = subprocess.run([gcc, "-print-multiarch"], capture_output=True, text=True, check=False).stdout.strip()
    return [f"-I/usr/include/{triplet}"] if triplet else []


def _lines(data: bytes) -> Iterator[str]:
    for at in range(0, len(data), BYTES_PER_LINE):
        yield "\t" + " ".join(f"{byte}," for byte in data[at : at + BYTES_PER_LINE])


def write_object_source(output: Path = OUTPUT) -> None:
    """Write the C source that holds the object.

    Raises:
        BpfObjectError: it could not be compiled.
    """
    data = compile_object()
    text = "\n".join(
        [
            "/* Written by kernel_offload/bpf_object.py from kernel_offload/bpf/. */",
            "extern const unsigned char mpo_bpf_object[];",
            "extern const unsigned long mpo_bpf_object_size;",
            "",
            "const unsigned char mpo_bpf_object[] __attribute__((aligned(8))) = {",
            *_lines(data),
            "};",
            "const unsigned long mpo_bpf_object_size = sizeof(mpo_bpf_object);",
            "",
        ]
    )
    output.write_text(text, encoding="ascii")


if __name__ == "__main__":
    try:
        write_object_source(Path(sys.argv[1]) if sys.argv[1:] else OUTPUT)
    except BpfObjectError as error:
        sys.exit(str(error))
