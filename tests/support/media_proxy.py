"""The media proxy under test as a program."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.netlab import Namespace, NetLab
from tests.support.ng_json import NgJsonClient
from tests.support.processes import Process

COMMAND_VARIABLE: Final = "MEDIAPROXY_COMMAND"
"""Environment variable that names another proxy with rtpengine's options to run the same tests against."""

NG_PORT: Final = 2223
PORT_MIN: Final = 30000
PORT_MAX: Final = 34999


default_kernel_path = "auto"
"""What a proxy is started with that nobody asked for a path; tests that want another one for a while patch it."""


def proxy_command() -> list[str]:
    """The program under test: ``mediaproxy run`` of this environment, unless ``MEDIAPROXY_COMMAND`` says otherwise."""
    override = os.environ.get(COMMAND_VARIABLE)
    return shlex.split(override) if override else [str(Path(sys.executable).parent / "mediaproxy"), "run"]


def own_options(lab: NetLab, instance: str, kernel_path: str) -> list[str]:
    """Options that keep instances apart, and say which kernel path to take; another proxy knows none of them."""
    if COMMAND_VARIABLE in os.environ:
        return []
    folder = lab.folder / "run"
    # What a daemon that was killed has left; its kernel objects go with their namespace, but for this one.
    lab.on_exit(lambda: _unmount(folder / instance / "bpf"))
    return [f"--instance={instance}", f"--run-dir={folder}", f"--kernel-path={kernel_path}"]


def _unmount(path: Path) -> None:
    if path.is_mount():
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class MediaProxyProcess:
    """A running media proxy with the command line that operators of rtpengine use.

    Args:
        lab: owns the process.
        namespace: the host that it stands on; ng is on 127.0.0.1 there.
        interfaces: as for ``--interface``: ``NAME/ADDRESS``.
        options: further options.
        kernel_path: ``--kernel-path``; ``None`` for ``default_kernel_path``.
        program: in place of ``proxy_command()``.
        name: sets a second instance on one host apart, by its log and by ``--instance``.
        ng_port, ports: of ng, and the range for media.
    Raises:
        ProcessFailedError: it did not answer a ping within 15 seconds.
    """

    def __init__(
        self,
        lab: NetLab,
        namespace: Namespace,
        interfaces: Sequence[str],
        options: Sequence[str] = (),
        kernel_path: str | None = None,
        *,
        program: Sequence[str] = (),
        name: str = "",
        ng_port: int = NG_PORT,
        ports: tuple[int, int] = (PORT_MIN, PORT_MAX),
    ) -> None:
        self.command = [
            *(program or proxy_command()),
            "--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--table=-1",
            *(f"--interface={interface}" for interface in interfaces), f"--listen-ng=127.0.0.1:{ng_port}",
            f"--port-min={ports[0]}", f"--port-max={ports[1]}", "--delete-delay=0", "--timeout=60", "--num-threads=2",
            *own_options(lab, namespace.name + name, kernel_path or default_kernel_path), *options,
        ]  # fmt: skip
        self.process: Process = lab.start(f"mediaproxy{name}", namespace, *self.command)
        self.ng = NgJsonClient(namespace, port=ng_port)
        lab.on_exit(self.ng.close)
        self.process.wait_ready(self.ng.is_up, 15.0)
