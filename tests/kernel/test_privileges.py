"""Rights, for real: what daemon and privileged process hold, what they leave behind, and whom they refuse."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mediaproxy.backends.flow_records import SET, FlowRecord, pack_record
from mediaproxy.backends.flow_stats import FlowStatsMemory
from mediaproxy.datapath.flow import Flow, FlowReason, InstalledFlow, Slot
from mediaproxy.datapath.kernel import DatapathEvent, DatapathEventKind
from mediaproxy.errors import OffloadError
from mediaproxy.net import Endpoint
from mediaproxy.privileged.client import Channel, RemoteDatapath, start
from mediaproxy.privileged.rights import Capability
from mediaproxy.privileged.run_folder import is_bpf_mount
from mediaproxy.privileged.settings import KernelPath, PrivilegedSettings, RelayRange
from mediaproxy.privileged.wire import HEAD, MAX_FRAME, Frame, Kind, pack_frame
from tests.support.media_proxy import MediaProxyProcess, proxy_command
from tests.support.netlab import NetLab, why_not
from tests.support.processes import is_alive, kill_pid, wait_until

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

TIMEOUT = 20.0
RELAY = "10.1.0.1"
OUTSIDE = "10.1.0.2"
PORTS = (30000, 34999)
BACKENDS = ("tc", "nft", "iptables")
SDP = "v=0\r\no=- 1 1 IN IP4 10.1.0.2\r\ns=-\r\nc=IN IP4 10.1.0.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n"


@pytest.fixture
def lab() -> Iterator[NetLab]:
    with NetLab("rights") as lab:
        proxy, agent = lab.namespace("proxy"), lab.namespace("agent")
        lab.cable(proxy, "eth0", agent, "eth0")
        lab.address(proxy, "eth0", f"{RELAY}/24")
        lab.address(agent, "eth0", f"{OUTSIDE}/24")
        proxy.sysctl(ipv4__ip_forward=1)
        with contextlib.suppress(OSError):
            proxy.sysctl(netfilter__nf_conntrack_acct=1)
        yield lab


def daemon_in(lab: NetLab, *options: str, kernel_path: str = "auto") -> MediaProxyProcess:
    # The number of a kernel table means nothing to us, but -1 would be overridden by --kernel-path anyway.
    return MediaProxyProcess(lab, lab["proxy"], [f"default/{RELAY}"], options, kernel_path=kernel_path)


def chosen(daemon: MediaProxyProcess) -> str:
    """The kernel path that it says it has; skips the test where there is none at all."""
    match = re.search(r"notice kernel path backend=(\w+)", daemon.process.log())
    if match is None:
        pytest.skip(f"no kernel path here: {daemon.process.log()}")
    return match[1]


def status_of(path: Path) -> dict[str, str]:
    lines = (path / "status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def threads_of(pid: int) -> list[dict[str, str]]:
    return [status_of(path) for path in Path(f"/proc/{pid}/task").iterdir()]


def children_of(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def privileged_of(daemon: MediaProxyProcess) -> tuple[int, int]:
    """Keeper and server."""
    (keeper,) = children_of(daemon.process.pid)
    (server,) = children_of(keeper)
    return keeper, server


def bits(*capabilities: int) -> int:
    return sum(1 << capability for capability in capabilities)


def run_folder_of(lab: NetLab) -> Path:
    return lab.folder / "run" / lab["proxy"].name


def offer(daemon: MediaProxyProcess, call_id: str = "c1") -> dict[str, Any]:
    reply: dict[str, Any] = daemon.ng.request("offer", call_id=call_id, from_tag="a", sdp=SDP)
    assert reply["result"] == "ok", reply
    return reply


@pytest.mark.parametrize("user", ["", "nobody"])
@pytest.mark.parametrize("kernel_path", ["auto", "userspace"])
def test_no_thread_of_the_daemon_has_a_capability(lab: NetLab, user: str, kernel_path: str) -> None:
    daemon = daemon_in(lab, *([f"--user={user}"] if user else []), kernel_path=kernel_path)
    threads = threads_of(daemon.process.pid)
    assert len(threads) >= 3  # the loop and two that relay
    for thread in threads:
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(thread[name], 16) == 0, (thread["Name"], name)
        assert thread["NoNewPrivs"] == "1"
        assert set(thread["Uid"].split()) == {"65534" if user else "0"}
        assert set(thread["Gid"].split()) == {"65534" if user else "0"}
        assert thread["Groups"].split() in ([], ["0"])
    offer(daemon)


def test_server_has_no_more_than_its_backend_needs(lab: NetLab) -> None:
    daemon = daemon_in(lab)
    backend = chosen(daemon)
    _, server = privileged_of(daemon)
    (thread,) = threads_of(server)
    allowed = {
        "tc": bits(Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON),
        "nft": bits(Capability.NET_ADMIN),
        "iptables": bits(Capability.NET_ADMIN, Capability.NET_RAW),
    }[backend]
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(thread[name], 16) & ~allowed == 0, name
    assert (int(thread["CapInh"], 16), int(thread["CapAmb"], 16), thread["NoNewPrivs"]) == (0, 0, "1")


@pytest.mark.parametrize("kernel_path", ["auto", "tc"])
def test_orderly_stop_leaves_nothing(lab: NetLab, kernel_path: str) -> None:
    daemon = daemon_in(lab, kernel_path=kernel_path)
    folder = run_folder_of(lab)
    backend = chosen(daemon)
    if backend == "tc":
        assert is_bpf_mount(folder / "bpf")
    keeper, server = privileged_of(daemon)
    assert daemon.process.stop() == 0
    assert not is_alive(keeper)
    assert not is_alive(server)
    assert not is_bpf_mount(folder / "bpf")
    assert not folder.parent.exists()
    assert "clsact" not in lab["proxy"].run("tc", "qdisc", "show", "dev", "eth0")


def test_signals_of_the_terminal_end_the_daemon_in_order(lab: NetLab) -> None:
    """Ctrl-C reaches the whole process group: the privileged process must outlive the daemon's last words."""
    daemon = daemon_in(lab)
    chosen(daemon)
    for pid in (*privileged_of(daemon), daemon.process.pid):
        os.kill(pid, signal.SIGINT)
    assert daemon.process.wait(TIMEOUT) == 0
    assert "could not be removed" not in daemon.process.log()
    assert not run_folder_of(lab).exists()


def test_killed_privileged_process_is_noticed_and_calls_go_on(lab: NetLab) -> None:
    daemon = daemon_in(lab)
    chosen(daemon)
    offer(daemon, "before")
    keeper, server = privileged_of(daemon)
    kill_pid(server)
    daemon.process.wait_log("only a restart of it brings the kernel path back", TIMEOUT)
    offer(daemon, "after")
    wait_until(lambda: not is_bpf_mount(run_folder_of(lab) / "bpf"), TIMEOUT, "the keeper's cleaning up")
    wait_until(lambda: not run_folder_of(lab).exists(), TIMEOUT, "the keeper's cleaning up")
    assert daemon.process.returncode is None
    before = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    offer(daemon, "later")
    ticks = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert sum(map(int, ticks)) - sum(map(int, before)) < 100  # the loop does not turn around the dead socket
    assert daemon.process.stop() == 0
    assert not is_alive(keeper)


def test_second_daemon_of_the_same_instance_serves_from_user_space(lab: NetLab) -> None:
    first = daemon_in(lab)
    chosen(first)
    second = lab.start(
        "second", lab["proxy"], *proxy_command(), "--config-file=none", "-f", f"--interface={RELAY}@40000-40999",
        "--listen-ng=127.0.0.1:2300", f"--instance={lab['proxy'].name}", f"--run-dir={lab.folder / 'run'}",
    )  # fmt: skip
    second.wait_log("notice ready", TIMEOUT)
    (line,) = (line for line in second.log().splitlines() if "no kernel path" in line)
    assert "warning" in line
    assert "another daemon runs as instance" in line
    assert second.stop() == 0
    assert is_bpf_mount(run_folder_of(lab) / "bpf") or chosen(first) != "tc"
    offer(first)


def test_two_instances_do_not_meet(lab: NetLab) -> None:
    first = daemon_in(lab)
    backend = chosen(first)
    second = lab.start(
        "second", lab["proxy"], *proxy_command(), "--config-file=none", "-f", f"--interface={RELAY}@40000-40999",
        "--listen-ng=127.0.0.1:2300", "--instance=other", f"--run-dir={lab.folder / 'run'}",
    )  # fmt: skip
    second.wait_log("notice ready", TIMEOUT)
    assert f"kernel path backend={backend}" in second.log()
    assert second.stop() == 0
    assert not (lab.folder / "run" / "other").exists()
    assert run_folder_of(lab).exists()
    offer(first)


def test_daemon_without_any_right_says_so_in_one_line(lab: NetLab) -> None:
    folder = lab.folder / "own"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    lab.folder.chmod(0o711)
    process = lab.start(
        "powerless", lab["proxy"], "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
        "--bounding-set=-all", "--no-new-privs", *proxy_command(), "--config-file=none", "-f",
        f"--interface={RELAY}@30000-30999", "--listen-ng=127.0.0.1:2223", f"--run-dir={folder}",
    )  # fmt: skip
    process.wait_log("notice ready", TIMEOUT)
    lines = [line for line in process.log().splitlines() if "warning" in line]
    (line,) = (line for line in lines if "no kernel path" in line)
    assert 'reason="needs CAP_NET_ADMIN, and for tc CAP_BPF and CAP_PERFMON"' in line
    assert children_of(process.pid) == []
    assert list(folder.iterdir()) == []
    assert process.stop() == 0


def test_no_fallback_refuses_to_start_without_a_kernel_path(lab: NetLab) -> None:
    process = lab.start(
        "strict", lab["proxy"], "setpriv", "--inh-caps=-all", "--bounding-set=-all", *proxy_command(),
        "--config-file=none", "-f", "--no-fallback", f"--interface={RELAY}@30000-30999",
        "--listen-ng=127.0.0.1:2223", f"--run-dir={lab.folder / 'run'}",
    )  # fmt: skip
    assert process.wait(TIMEOUT) == 1
    assert "mediaproxy: no-fallback: there is no kernel path: needs CAP_NET_ADMIN" in process.log()


def test_unknown_user_refuses_to_start(lab: NetLab) -> None:
    process = lab.start("x", lab["proxy"], *proxy_command(), "--config-file=none", "-f", "--user=no-such-user")
    assert process.wait(TIMEOUT) == 1
    assert "mediaproxy: user: there is no user no-such-user" in process.log()


def test_killed_daemon_leaves_its_pins_and_the_next_one_takes_them_over(lab: NetLab) -> None:
    daemon = daemon_in(lab, kernel_path="tc")
    chosen(daemon)
    folder = run_folder_of(lab)
    pins = sorted(path.name for path in (folder / "bpf").iterdir())
    keeper, server = privileged_of(daemon)
    kill_pid(daemon.process.pid)
    daemon.process.wait(TIMEOUT)
    wait_until(lambda: not is_alive(keeper) and not is_alive(server), TIMEOUT, "end of the privileged process")
    assert sorted(path.name for path in (folder / "bpf").iterdir()) == pins
    again = daemon_in(lab, kernel_path="tc")
    assert chosen(again) == "tc"
    assert sorted(path.name for path in (folder / "bpf").iterdir()) == pins
    assert again.process.stop() == 0
    assert not folder.exists()


def test_kernel_path_left_behind_is_cleared_by_a_start_without_one(lab: NetLab) -> None:
    """Else what a dead daemon has installed would take the packets of new calls."""
    daemon = daemon_in(lab, kernel_path="tc")
    chosen(daemon)
    kill_pid(daemon.process.pid)
    daemon.process.wait(TIMEOUT)
    again = daemon_in(lab, kernel_path="userspace")
    assert not run_folder_of(lab).exists()
    assert "no kernel path is wanted" in again.process.log()
    offer(again)


DROPPING = """table inet host {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
  }
}
"""


def rules_in(lab: NetLab) -> str:
    return lab["proxy"].run("nft", "list", "ruleset")


@pytest.mark.parametrize("kernel_path", ["tc", "userspace"])
def test_managed_firewall_is_open_while_the_daemon_serves(lab: NetLab, kernel_path: str) -> None:
    lab["proxy"].nft(DROPPING)
    before = rules_in(lab)
    daemon = daemon_in(lab, "--firewall=manage", kernel_path=kernel_path)
    assert "notice firewall" in daemon.process.log(), daemon.process.log()
    assert f"{PORTS[0]}-{PORTS[1]}" in rules_in(lab)
    _keeper, server = privileged_of(daemon)
    kill_pid(server)
    if kernel_path == "tc":
        daemon.process.wait_log("only a restart of it brings the kernel path back", TIMEOUT)
    assert f"{PORTS[0]}-{PORTS[1]}" in rules_in(lab)  # the sockets go on
    assert daemon.process.stop() == 0
    assert rules_in(lab) == before
    assert not run_folder_of(lab).exists()


def test_firewall_that_a_dead_daemon_has_opened_is_closed_by_the_next_one(lab: NetLab) -> None:
    lab["proxy"].nft(DROPPING)
    before = rules_in(lab)
    daemon = daemon_in(lab, "--firewall=manage", kernel_path="userspace")
    kill_pid(daemon.process.pid)
    daemon.process.wait(TIMEOUT)
    assert f"{PORTS[0]}-{PORTS[1]}" in rules_in(lab)
    daemon_in(lab, kernel_path="userspace")
    assert rules_in(lab) == before


# ---- the privileged process alone, as a daemon that was taken over would talk to it ----


class Captive:
    """The privileged process without a daemon around it, in the lab's namespace."""

    def __init__(self, lab: NetLab, path: KernelPath) -> None:
        self.folder = lab.folder / "captive"
        self.folder.mkdir(mode=0o700)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        command = [str(Path(proxy_command()[0]).parent / "python"), "-I", "-m", "mediaproxy.privileged"]
        their_life, self.life = os.pipe()
        with theirs:
            self.process = subprocess.Popen(
                lab["proxy"].command(*command, str(theirs.fileno()), str(their_life)),
                pass_fds=(theirs.fileno(), their_life),
            )
        os.close(their_life)
        self.bugs: list[str] = []
        self.channel = Channel(ours, self.bugs.append)
        relays = (RelayRange(RELAY, *PORTS),)
        try:
            started, fds = start(self.channel, PrivilegedSettings("captive", path, str(self.folder), relays, 128))
        except OffloadError:
            self.channel.close()
            os.close(self.life)
            self.process.wait(TIMEOUT)
            raise
        self.candidates = started.candidates
        self.datapath: RemoteDatapath | None = None
        if started.backend:
            self.datapath = RemoteDatapath(self.channel, started, FlowStatsMemory(fds[0], started.slots))
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        if self.datapath is not None:
            if not self.datapath.has_failed:
                self.datapath.remove_all()
            self.datapath.close()
        self.channel.close()
        os.close(self.life)
        assert self.process.wait(TIMEOUT) == 0
        assert not self.folder.exists()
        assert self.bugs == []


@pytest.fixture(params=BACKENDS)
def captive(lab: NetLab, request: pytest.FixtureRequest) -> Iterator[Captive]:
    captive = Captive(lab, KernelPath(request.param))
    try:
        if captive.datapath is None:
            pytest.skip("; ".join(f"{one.backend}: {one.reason}" for one in captive.candidates))
        yield captive
    finally:
        captive.close()


def flow(port: int = 30000, target: str = OUTSIDE, slot: int = 0, **more: Any) -> InstalledFlow:
    values: dict[str, Any] = {
        "local": Endpoint(RELAY, port),
        "source": Endpoint(OUTSIDE, 5000),
        "sender": Endpoint(RELAY, port + 2),
        "target": Endpoint(target, 6000),
        "strict": False,
    }
    return InstalledFlow(Flow(**(values | more)), Slot(slot, 1))


def refusal_of(captive: Captive, one: InstalledFlow) -> tuple[FlowReason, int] | None:
    assert captive.datapath is not None
    refusals = captive.datapath.apply([one], [])
    return (refusals[0].reason, refusals[0].errno) if refusals else None


def test_flow_is_set_listed_and_removed(captive: Captive) -> None:
    datapath = captive.datapath
    assert datapath is not None
    one = flow()
    datapath.seed(one.slot, None)
    assert datapath.apply([one], []) == []
    (found,) = datapath.installed()
    assert (found.flow.local, found.flow.source, found.flow.sender, found.flow.target, found.slot) == (
        one.flow.local, one.flow.source, one.flow.sender, one.flow.target, one.slot,
    )  # fmt: skip
    assert datapath.apply([], [one]) == []
    assert datapath.installed() == []


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (flow(local=Endpoint(OUTSIDE, 30000)), (FlowReason.REFUSED, 1)),
        (flow(local=Endpoint("127.0.0.1", 30000)), (FlowReason.REFUSED, 1)),
        (flow(port=22), (FlowReason.REFUSED, 1)),
        (flow(port=35000), (FlowReason.REFUSED, 1)),
        (flow(sender=Endpoint(OUTSIDE, 30002)), (FlowReason.REFUSED, 1)),
        (flow(sender=Endpoint(RELAY, 53)), (FlowReason.REFUSED, 1)),
        (flow(target="255.255.255.255"), (FlowReason.REFUSED, 22)),
        (flow(target="224.0.0.5"), (FlowReason.REFUSED, 22)),
        (flow(target="10.1.0.255"), (FlowReason.REFUSED, 13)),
        (flow(target="203.0.113.1"), (FlowReason.NO_ROUTE, 0)),
        (flow(target=RELAY), (FlowReason.LOCAL_PEER, 0)),
        (flow(target="127.0.0.1"), (FlowReason.LOCAL_PEER, 0)),
        (flow(slot=2**31), (FlowReason.REFUSED, 22)),
    ],
)
def test_flow_that_is_not_ours_to_have_is_refused(
    captive: Captive, one: InstalledFlow, reason: tuple[FlowReason, int]
) -> None:
    assert refusal_of(captive, one) == reason
    assert captive.datapath is not None
    assert captive.datapath.installed() == []


def test_relay_address_on_a_device_that_is_down_is_not_attached(captive: Captive, lab: NetLab) -> None:
    lab["proxy"].ip("link", "set", "eth0", "down")
    assert captive.datapath is not None
    captive.datapath.look()
    assert refusal_of(captive, flow()) == (FlowReason.NOT_ATTACHED, 0)


def test_random_bytes_are_refused_and_it_goes_on(captive: Captive) -> None:
    datapath = captive.datapath
    assert datapath is not None
    one = flow()
    datapath.seed(one.slot, None)
    assert datapath.apply([one], []) == []
    chance = random.Random(3)
    good = pack_record(FlowRecord(SET, flow(30004)))
    captive.socket.settimeout(TIMEOUT)
    for number in range(400):
        data = chance.randbytes(chance.randrange(1, 700))
        if number % 2:  # a frame as it should be, but for what is in it
            record = bytearray(good)
            for _ in range(chance.randrange(1, 9)):
                record[chance.randrange(len(record))] = chance.randrange(256)
            data = pack_frame(Frame(Kind.APPLY, number, bytes(record)))
        if HEAD.unpack_from(data.ljust(HEAD.size, b"\0"))[0] == Kind.REMOVE_ALL and number % 2 == 0:
            continue
        captive.socket.send(data)
        while HEAD.unpack_from(captive.socket.recv(MAX_FRAME))[0] in {Kind.EVENT, Kind.TRACEBACK, Kind.TAKEN_OUT}:
            pass
    left = {found.flow.local for found in datapath.installed()}
    assert one.flow.local in left
    assert all(endpoint.address == RELAY and PORTS[0] <= endpoint.port <= PORTS[1] for endpoint in left)


def test_moved_route_moves_the_flow(captive: Captive, lab: NetLab) -> None:
    """A target behind a route that vanishes is the sockets' until the route is back."""
    proxy = lab["proxy"]
    proxy.ip("route", "add", "203.0.113.0/24", "via", OUTSIDE)
    datapath = captive.datapath
    assert datapath is not None
    one = flow(target="203.0.113.1")

    def is_installed(wanted: bool) -> Callable[[], bool]:
        return lambda: bool(datapath.installed()) is wanted

    datapath.seed(one.slot, None)
    wait_until(lambda: datapath.apply([one], []) == [], TIMEOUT, "route known")
    proxy.ip("route", "del", "203.0.113.0/24")
    wait_until(is_installed(False), TIMEOUT, "flow gone")
    proxy.ip("route", "add", "203.0.113.0/24", "via", OUTSIDE)
    wait_until(is_installed(True), TIMEOUT, "flow back")


def test_daemon_hears_of_a_flow_whose_route_vanishes_and_of_its_return(captive: Captive, lab: NetLab) -> None:
    proxy = lab["proxy"]
    proxy.ip("route", "add", "203.0.113.0/24", "via", OUTSIDE)
    datapath = captive.datapath
    assert datapath is not None
    one = flow(target="203.0.113.1")
    datapath.seed(one.slot, None)
    wait_until(lambda: datapath.apply([one], []) == [], TIMEOUT, "route known")

    def told(kind: DatapathEventKind) -> Callable[[], list[DatapathEvent]]:
        return lambda: [event for event in datapath.take_events() if event.kind is kind]

    proxy.ip("route", "del", "203.0.113.0/24")
    (event,) = wait_until(told(DatapathEventKind.TAKEN_OUT), TIMEOUT, "flow taken out")
    assert [(refusal.flow.slot, refusal.reason) for refusal in event.flows] == [(one.slot, FlowReason.NO_ROUTE)]
    assert datapath.installed() == []
    assert datapath.apply([], [one]) == []
    datapath.take_events()
    proxy.ip("route", "add", "203.0.113.0/24", "via", OUTSIDE)
    wait_until(told(DatapathEventKind.WAYS_BACK), TIMEOUT, "way back")
    assert datapath.installed() == []
    assert datapath.apply([one], []) == []


def test_new_device_is_watched(captive: Captive, lab: NetLab) -> None:
    proxy, agent = lab["proxy"], lab["agent"]
    lab.cable(proxy, "eth1", agent, "eth1")
    lab.address(proxy, "eth1", "10.2.0.1/24")
    datapath = captive.datapath
    assert datapath is not None
    one = flow(target="10.2.0.9")
    datapath.seed(one.slot, None)
    wait_until(lambda: datapath.apply([one], []) == [], TIMEOUT, "way out by the new device")


def test_only_the_first_frame_may_be_settings(lab: NetLab) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [str(Path(proxy_command()[0]).parent / "python"), "-I", "-m", "mediaproxy.privileged"]
    with theirs:
        process = subprocess.Popen(
            lab["proxy"].command(*command, str(theirs.fileno()), "0"), pass_fds=(theirs.fileno(),)
        )
    with ours:
        ours.send(pack_frame(Frame(Kind.DUMP, 1)))
        assert process.wait(TIMEOUT) == 1
