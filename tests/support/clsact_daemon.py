"""The daemon on a kernel that has TCX, made to use clsact filters as it does on kernels before 6.6.

No option of the daemon does that, for nobody needs it but tests: this program is ``mediaproxy``, and also the Python
that ``mediaproxy`` starts its privileged process with.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Final

_PRIVILEGED: Final = ["-I", "-m", "mediaproxy.privileged"]


def clsact_command(folder: Path) -> list[str]:
    """The command line in place of ``mediaproxy run``.

    Args:
        folder: where a small program is put that stands for Python.
    """
    python = folder / "clsact-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -P {__file__} {python} "$@"\n', encoding="ascii")
    python.chmod(0o755)
    return [str(python), "run"]


def _main() -> None:
    python, *arguments = sys.argv[1:]
    if arguments[: len(_PRIVILEGED)] == _PRIVILEGED:
        from mediaproxy.backends import bpf  # noqa: PLC0415  # only one of the two processes has a use for it

        bpf.open_tc.__defaults__ = (bpf.TcForm.CLSACT,)
        sys.argv = [python, *arguments[len(_PRIVILEGED) :]]
        runpy.run_module("mediaproxy.privileged", run_name="__main__", alter_sys=True)
        return
    from mediaproxy.cli.mediaproxy import main  # noqa: PLC0415

    sys.executable = python
    sys.argv = [python, *arguments]
    main()


if __name__ == "__main__":
    _main()
