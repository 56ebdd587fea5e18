"""The host that we are on, as far as every machine has it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from mediaproxy.doctor.host import LiveHost
from mediaproxy.net import Endpoint

HOST = LiveHost()


def test_read_of_what_is_not_there_is_none() -> None:
    assert HOST.read("/proc/sys/no/such") is None
    assert HOST.read("/proc/sys/kernel/ostype") == "Linux"
    assert not list(HOST.lines("/proc/sys/no/such", 5))
    assert len(list(HOST.lines("/proc/meminfo", 3))) == 3


def test_devices_have_loopback_with_its_address() -> None:
    loopback = next(device for device in HOST.devices() if device.loopback)
    assert loopback.up
    assert "127.0.0.1" in loopback.addresses


def test_features_of_loopback_are_known_and_of_no_device_none() -> None:
    features = HOST.features("lo")
    assert features is not None
    assert "rx-udp-gro-forwarding" in features
    assert HOST.features("nosuch0") is None


def test_limits_and_clock_can_be_had() -> None:
    soft = HOST.descriptor_limit().soft
    assert soft is None or soft > 0
    clock = HOST.clock()
    assert clock is not None
    assert clock.max_error >= 0


def test_lock_holder_is_the_process_that_locked_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert HOST.lock_holder(path) is None
    with path.open("w") as file:
        assert HOST.lock_holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert HOST.lock_holder(path) == os.getpid()


def test_udp_owner_is_the_process_that_bound_the_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        endpoint = Endpoint(*udp.getsockname())
        owner = HOST.udp_owner(endpoint)
        assert owner is not None
        assert owner[0] in (os.getpid(), 0)
    assert HOST.udp_owner(endpoint) is None
