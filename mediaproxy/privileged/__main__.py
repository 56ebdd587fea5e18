"""``python -m mediaproxy.privileged FD FD``: the privileged process; started by ``launch`` and by nobody else."""

from __future__ import annotations

import socket
import sys

from mediaproxy.privileged.keeper import keep

if __name__ == "__main__":
    sys.exit(keep(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])))
