"""The real kernel's answers, in a namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None,
    reason="needs root, unshare and ip",
)

PRINT = "from mediaproxy.backends.netlink import read_host_network as r; h = r(); print(h.default_address); \
print(*sorted(a.address for a in h.addresses))"


def read_in_namespace(*commands: str) -> tuple[str, list[str]]:
    """Run ``ip`` commands in a new namespace, then what the daemon would read there."""
    script = "".join(f"ip {command} >/dev/null\n" for command in commands) + f"exec {sys.executable} -c '{PRINT}'\n"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, check=True, timeout=30
    )
    default, addresses = done.stdout.splitlines()
    return default, addresses.split()


def test_namespace_without_anything_has_nothing() -> None:
    assert read_in_namespace("link show lo") == ("None", [])


def test_default_route_names_its_address() -> None:
    default, addresses = read_in_namespace(
        "link set lo up",
        "link add d0 type veth peer name d0p",
        "link add d1 type veth peer name d1p",
        "addr add 192.0.2.1/24 dev d0",
        "addr add 192.0.2.2/24 dev d0",
        "addr add 198.51.100.1/24 dev d1",
        "link set d0 up",
        "link set d0p up",
        "link set d1 up",
        "link set d1p up",
        "route add default via 192.0.2.254 metric 100",
        "route add default via 198.51.100.254 metric 50",
    )
    assert default == "198.51.100.1"
    assert {"127.0.0.1", "192.0.2.1", "192.0.2.2", "198.51.100.1"} <= set(addresses)


def test_default_route_with_a_preferred_source_names_that() -> None:
    default, _ = read_in_namespace(
        "link add d0 type veth peer name d0p",
        "addr add 192.0.2.1/24 dev d0",
        "addr add 192.0.2.2/24 dev d0",
        "link set d0 up",
        "link set d0p up",
        "route add default via 192.0.2.254 src 192.0.2.2",
    )
    assert default == "192.0.2.2"


def test_default_route_of_ipv6_alone_is_taken() -> None:
    default, _ = read_in_namespace(
        "link add d0 type veth peer name d0p",
        "addr add 2001:db8::1/64 dev d0 nodad",
        "link set d0 up",
        "link set d0p up",
        "route add default via 2001:db8::fe",
    )
    assert default == "2001:db8::1"
