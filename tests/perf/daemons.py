"""This project's daemon, and both daemons by name."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

from mediaproxy.bench.daemons import DaemonUnderTest, RtpengineUnderTest, first_line
from mediaproxy.bench.errors import BenchError
from tests.perf.build import ROOT


class MediaproxyUnderTest(DaemonUnderTest):
    """This project's daemon, from the virtual environment of the checkout."""

    name = "mediaproxy"

    def program(self) -> list[str]:
        path = ROOT / ".venv" / "bin" / "mediaproxy"
        if not path.exists():
            raise BenchError("mediaproxy is not built: make build")
        return [str(path), "run"]

    def version(self) -> str:
        source = Path(ROOT, "mediaproxy")
        commit = first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]) or "no commit"
        changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain", "--", str(source), "kernel_offload"])
        package = first_line([self.program()[0], "--version"]) or "version unknown"
        state = f", with uncommitted changes (content {self._fingerprint()})" if changed else ""
        return f"{package}, {commit}{state}"

    def _fingerprint(self) -> str:
        """Names what runs where the commit does not; another one at the end tells that it was rebuilt meanwhile."""
        digest = sha256()
        for path in [*sorted(ROOT.glob("mediaproxy/**/*.py")), *ROOT.glob("_mediaproxy_offload*.so")]:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:8]


DAEMONS: Final[dict[str, type[DaemonUnderTest]]] = {
    kind.name: kind for kind in (MediaproxyUnderTest, RtpengineUnderTest)
}
