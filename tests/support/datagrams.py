"""Who carried the media, by the kernel's own count: what it gave to sockets it did not forward by itself."""

from __future__ import annotations

from pathlib import Path

from tests.support.netlab import Namespace


def datagrams_delivered(namespace: Namespace) -> int:
    """UDP datagrams, IPv4 and IPv6, that sockets of a host have been given since it is up (RFC 4113, InDatagrams)."""

    def read() -> int:
        ip4 = [line.split() for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()]
        names, values = (line for line in ip4 if line[0] == "Udp:")
        ip6 = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
        return int(values[names.index("InDatagrams")]) + int(ip6["Udp6InDatagrams"])

    return namespace.call(read)
