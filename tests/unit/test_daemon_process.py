"""The installed program as a process: start, signals, background, and what it says when it can't."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import wait_until

PROGRAM = Path(sys.executable).with_name("mediaproxy")
TIMEOUT = 30.0
# These daemons stand on this host itself, whose kernel is none of their business.
ENVIRONMENT = {"PATH": os.environ["PATH"], "MEDIAPROXY_CONFIG_FILE": "none", "MEDIAPROXY_KERNEL_PATH": "userspace"}

RTPENGINE_COMMAND_LINE = (
    "--config-file=none --foreground --log-stderr --log-level=6 --table=-1 --interface=external/127.0.0.2 "
    "--interface=internal/127.0.0.3 --interface=other/127.0.0.4 --listen-ng=127.0.0.1:{ng} "
    "--listen-cli=127.0.0.1:{cli} --port-min=30000 --port-max=34999 --delete-delay=0 --timeout=60 --num-threads=2 "
    "--pidfile={folder}/x.pid --recording-dir={folder} --recording-method=pcap --recording-format=eth"
)

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n"


def free_port() -> int:
    """A UDP port that nobody has just now, and that the kernel gives to nobody of its own accord."""
    while True:
        port = 20000 + secrets.randbelow(10000)  # not `random`: Hypothesis seeds that, and runs side by side would meet
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def ask(port: int, **request: Any) -> dict[str, Any] | None:
    """One ng request in JSON; ``None`` if nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.settimeout(2.0)
        cookie = f"{os.getpid()}-{client.getsockname()[1]}".encode()
        try:
            client.send(cookie + b" " + json.dumps({key.replace("_", "-"): v for key, v in request.items()}).encode())
            reply = client.recv(65536)
        except OSError:
            return None
    answer: dict[str, Any] = json.loads(reply.removeprefix(cookie + b" "))
    return answer


def is_up(port: int) -> bool:
    return ask(port, command="ping") == {"result": "pong"}


class Running:
    """A daemon in the foreground, ended at the end of the test."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.process = process
        self.log = log

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def wait_log(self, pattern: str) -> str:
        """Wait for a log line."""

        def found() -> str | None:
            match = re.search(pattern, self.log.read_text())
            return match[0] if match else None

        return wait_until(found, TIMEOUT, pattern)


@contextlib.contextmanager
def running(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Running]:
    """Start the daemon with ``--listen-ng`` on a free port and wait until it answers."""
    port = free_port()
    with running_at(port, folder, [f"--listen-ng=127.0.0.1:{port}", *options], environment) as daemon:
        yield daemon


@contextlib.contextmanager
def running_at(
    port: int, folder: Path, options: Sequence[str], environment: dict[str, str] | None = None
) -> Iterator[Running]:
    log = folder / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(PROGRAM), "run", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**ENVIRONMENT, **(environment or {})},
            cwd=folder,
        )
    try:
        wait_until(lambda: process.poll() is not None or is_up(port), TIMEOUT, "answer to a ping")
        assert process.poll() is None, log.read_text()
        yield Running(port, process, log)
    finally:
        process.kill()
        process.wait(TIMEOUT)


def start(*options: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program until it ends, or has gone to the background."""
    return subprocess.run(
        [str(PROGRAM), "run", *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
    )


def test_rtpengines_long_command_line_starts_us(tmp_path: Path) -> None:
    port = free_port()
    options = RTPENGINE_COMMAND_LINE.format(ng=port, cli=free_port(), folder=tmp_path).split()
    with running_at(port, tmp_path, options) as daemon:
        assert (tmp_path / "x.pid").read_text() == f"{daemon.process.pid}\n"
        text = daemon.log.read_text()
        for option in ("--listen-cli", "--recording-dir", "--recording-method", "--recording-format"):
            assert f"warning command line: {option}: " in text
        assert "name=external address=127.0.0.2" in text
        assert "name=other address=127.0.0.4" in text
        threads = [Path(path, "comm").read_text() for path in Path(f"/proc/{daemon.process.pid}/task").iterdir()]
        assert sum(name.startswith("mpo-relay") for name in threads) == 2
        reply = ask(port, command="offer", call_id="c1", from_tag="a", sdp=SDP, direction=["internal", "external"])
        assert reply is not None
        assert "c=IN IP4 127.0.0.2\r\n" in reply["sdp"]
        relay_port = int(re.search(r"m=audio (\d+)", reply["sdp"])[1])  # type: ignore[index]  # asserted above
        assert 30000 <= relay_port <= 34999
        assert daemon.end() == 0
    assert not (tmp_path / "x.pid").exists()


def test_options_before_they_are_parsed_survive_the_command_tree(tmp_path: Path) -> None:
    port = free_port()
    options = ["-i", "127.0.0.2", "-n", f"127.0.0.1:{port}", "-t", "-1", "-fE", "-L7", "-m", "30000", "-M", "30999"]
    with running_at(port, tmp_path, options) as daemon:
        assert "name=default address=127.0.0.2 advertised=127.0.0.2 ports=30000-30999" in daemon.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_polite_signal_ends_cleanly_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "--pidfile=x.pid", "-f") as daemon:
        assert ask(daemon.port, command="offer", call_id="c1", from_tag="a", sdp=SDP)
        assert daemon.end(number) == 0
        text = daemon.log.read_text()
        assert f"notice stopping signal={number.name}\n" in text
        assert "[c1] info call closed reason=shutdown" in text
        assert text.endswith("notice stopped\n")
        assert "Traceback" not in text
    assert not (tmp_path / "x.pid").exists()


def test_hangup_keeps_calls_and_opens_the_log_anew(tmp_path: Path) -> None:
    log = tmp_path / "m.log"
    with running(tmp_path, "-i", "127.0.0.2", "-f", f"--log-file={log}") as daemon:
        assert ask(daemon.port, command="offer", call_id="c1", from_tag="a", sdp=SDP)
        log.rename(tmp_path / "m.log.1")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(log.exists, TIMEOUT, "new log file")
        assert ask(daemon.port, command="list") == {"calls": ["c1"], "result": "ok"}
        assert daemon.end() == 0
    assert "[c1] info call created" in (tmp_path / "m.log.1").read_text()
    assert "[c1] info call closed" in log.read_text()


def test_hangup_that_cannot_open_the_log_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with running(tmp_path, "-i", "127.0.0.2", "-f", f"--log-file={folder}/m.log") as daemon:
        folder.rename(tmp_path / "moved")
        daemon.process.send_signal(signal.SIGHUP)
        log = tmp_path / "moved" / "m.log"
        wait_until(lambda: "SIGHUP" in log.read_text(), TIMEOUT, "log line")
        assert is_up(daemon.port)
        (line,) = (line for line in log.read_text().splitlines() if "SIGHUP" in line)
        assert "warning SIGHUP: the log cannot be opened anew" in line
        assert f'file={folder}/m.log reason="No such file or directory"' in line


def test_second_instance_with_the_same_pidfile_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f", "-p", "x.pid") as daemon:
        second = start("-i", "127.0.0.2", "-n", f"127.0.0.1:{free_port()}", "-p", "x.pid", "-L3", cwd=tmp_path)
        assert second.returncode == 1
        assert second.stderr == (
            f"mediaproxy: pidfile {tmp_path}/x.pid belongs to running process {daemon.process.pid}; "
            "give each instance its own\n"
        )
        assert (tmp_path / "x.pid").read_text() == f"{daemon.process.pid}\n"


@pytest.mark.parametrize("background", [False, True])
def test_start_without_enough_descriptors_says_so_and_ends(tmp_path: Path, background: bool) -> None:
    options = ["-p", "x.pid", f"--log-file={tmp_path}/x.log"] if background else ["-f"]
    script = f'ulimit -n 9; exec {PROGRAM} run -i 127.0.0.2 -n 127.0.0.1:{free_port()} "$@"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *options],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mediaproxy: ")
    assert "Too many open files" in last
    assert not (tmp_path / "x.pid").exists()


def test_unread_log_pipe_does_not_stop_the_daemon(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [str(PROGRAM), "run", "-i", "127.0.0.2", "-n", f"127.0.0.1:{port}", "-f"],
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    try:
        wait_until(lambda: is_up(port), TIMEOUT, "answer to a ping")
        for number in range(500):  # several lines each: more than 64 KiB
            assert ask(port, command="offer", call_id=f"{number}-{'x' * 200}", from_tag="a", sdp=SDP) is not None
        assert is_up(port)
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.communicate()


def test_log_level_changes_by_signal(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f", "--log-level=notice") as daemon:
        assert ask(daemon.port, command="offer", call_id="c1", from_tag="a", sdp=SDP)
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.wait_log("log level changed level=info")
        assert ask(daemon.port, command="offer", call_id="c2", from_tag="a", sdp=SDP)
        daemon.wait_log(r"\[c2\] info call created")
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_log("log level changed level=notice")
        assert "[c1] info" not in daemon.log.read_text()


def test_json_log_is_json_in_every_line(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f", "--log-format=json") as daemon:
        assert ask(daemon.port, command="offer", call_id="c1", from_tag="a", sdp=SDP)
        assert daemon.end() == 0
        records = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert [next(iter(record)) for record in records if "call_id" in record] == ["call_id"] * 3
    assert {"ready", "call created", "call closed"} <= {record["event"] for record in records}


def test_second_instance_on_the_same_port_says_so_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f") as daemon:
        second = start("-i", "127.0.0.2", "-n", f"127.0.0.1:{daemon.port}", "-f", "-L3", cwd=tmp_path)
        assert second.returncode == 1
        assert second.stderr.splitlines() == [
            f"mediaproxy: cannot listen on 127.0.0.1:{daemon.port}: Address already in use"
        ]
        assert is_up(daemon.port)


def test_descriptor_limit_is_raised_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f") as daemon:
        limits = Path(f"/proc/{daemon.process.pid}/limits").read_text()
        soft, hard = re.search(r"Max open files +(\S+) +(\S+)", limits).groups()  # type: ignore[union-attr]
        assert soft == hard


@contextlib.contextmanager
def ended_at_the_end(pidfile: Path) -> Iterator[int]:
    """The process that wrote a pidfile; it is ended and waited for."""
    pid = int(pidfile.read_text())
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), TIMEOUT, "end of the process in the background")


def test_with_a_pidfile_we_go_to_the_background_once_we_serve(tmp_path: Path) -> None:
    port = free_port()
    started = start("-i", "127.0.0.2", "-n", f"127.0.0.1:{port}", "--pidfile=x.pid", "--log-file=x.log", cwd=tmp_path)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    pidfile = tmp_path / "x.pid"
    with ended_at_the_end(pidfile) as pid:
        assert is_up(port)  # at once: the start was not over before
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        parent, session, terminal = int(stat[1]), int(stat[3]), int(stat[4])
        assert parent != os.getpid()
        assert session not in {pid, os.getsid(0)}  # a session of its own, which it does not lead
        assert terminal == 0
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
        assert [Path(f"/proc/{pid}/fd/{fd}").readlink() for fd in (0, 1, 2)] == [Path("/dev/null")] * 3
    assert not pidfile.exists()
    assert (tmp_path / "x.log").read_text().endswith("notice stopped\n")


def test_background_start_that_fails_reports_it_to_the_caller(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2", "-f") as daemon:
        started = start(
            "-i", "127.0.0.2", "-n", f"127.0.0.1:{daemon.port}", "-p", "y.pid", "--log-file=y.log", cwd=tmp_path
        )
        assert started.returncode == 1
        assert started.stderr == f"mediaproxy: cannot listen on 127.0.0.1:{daemon.port}: Address already in use\n"
        assert not (tmp_path / "y.pid").exists()


def test_pidfile_that_cannot_be_written_fails_the_start(tmp_path: Path) -> None:
    started = start(
        "-i", "127.0.0.2", "-n", f"127.0.0.1:{free_port()}", "-p", "no/x.pid", "--log-file=x.log", cwd=tmp_path
    )
    assert started.returncode == 1
    assert started.stderr == f"mediaproxy: pidfile {tmp_path}/no/x.pid cannot be written: No such file or directory\n"


def test_log_file_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    started = start("-i", "127.0.0.2", "--log-file=no/x.log", "-f", cwd=tmp_path)
    assert started.returncode == 1
    assert started.stderr == f"mediaproxy: log-file {tmp_path}/no/x.log cannot be opened: No such file or directory\n"


def test_service_manager_keeps_us_in_the_foreground_and_hears_from_us(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(TIMEOUT)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with running(tmp_path, "-i", "127.0.0.2", "-p", "x.pid", environment=environment) as daemon:
            assert manager.recv(200) == f"READY=1\nMAINPID={daemon.process.pid}".encode()
            assert daemon.end() == 0
            assert manager.recv(200) == b"STOPPING=1"


def test_without_pidfile_we_stay_in_the_foreground(tmp_path: Path) -> None:
    with running(tmp_path, "-i", "127.0.0.2") as daemon:
        assert daemon.process.poll() is None
        assert "notice ready" in daemon.log.read_text()


def test_mistakes_are_all_named_and_nothing_starts(tmp_path: Path) -> None:
    started = start("--tiemout=5", "-L", "9", "--redis=127.0.0.1:6379/1", "-f", cwd=tmp_path, MEDIAPROXY_TOS="x")
    assert started.returncode == 1
    assert [line.split(": ")[1:3] for line in started.stderr.splitlines()] == [
        ["environment", "MEDIAPROXY_TOS"],
        ["command line", "--tiemout"],
        ["command line", "-L"],
        ["command line", "--redis"],
    ]


def test_unknown_device_is_named_and_nothing_starts(tmp_path: Path) -> None:
    started = start("--interface=nosuchdevice0", "-f", cwd=tmp_path)
    assert started.returncode == 1
    assert "interface: default/nosuchdevice0: 'nosuchdevice0' is neither a device" in started.stderr
    assert len(started.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_nothing_configured_serves_on_the_defaults_and_says_what_it_chose(tmp_path: Path) -> None:
    script = (
        "ip link set lo up && ip link add d0 type veth peer name d0p && ip addr add 192.0.2.1/24 dev d0 && "
        f"ip link set d0 up && ip route add default via 192.0.2.254 && exec {PROGRAM} run"
    )
    log = tmp_path / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-ec", script],
            stderr=output,
            env=ENVIRONMENT,
        )
    try:
        wait_until(lambda: "notice ready" in log.read_text(), TIMEOUT, "start")
        text = log.read_text()
        assert "none configured, media uses the default route's address 192.0.2.1" in text
        assert "name=default address=192.0.2.1 advertised=192.0.2.1 ports=30000-40000" in text
        assert "listen_ng=127.0.0.1:2223" in text
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.wait(TIMEOUT)
