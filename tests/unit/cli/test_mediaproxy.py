"""The ``mediaproxy`` command without a daemon: help, version, ``config check|show|import``."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mediaproxy.cli import mediaproxy as command
from mediaproxy.cli.mediaproxy import app
from mediaproxy.config import Configuration

PROGRAM = Path(sys.executable).with_name("mediaproxy")


def invoke(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"MEDIAPROXY_CONFIG_FILE": "none", **environment})


@pytest.mark.parametrize("arguments", [["--version"], ["-v"], ["run", "--version"], ["run", "-v"]])
def test_version_is_printed(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert result.output == f"mediaproxy {importlib.metadata.version('mediaproxy')}\n"


@pytest.mark.parametrize(
    "arguments", [["run", "--help"], ["run", "-h"], ["run", "--foo", "--help"], ["config", "check", "-h"]]
)
def test_help_lists_the_options(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "-i, --interface=" in result.output


def test_no_command_prints_help() -> None:
    assert "run" in invoke().output
    assert "check" in invoke("config").output


def test_run_hands_the_configuration_over_and_returns_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Configuration] = []

    def run_daemon(configuration: Configuration, environment: object) -> int:
        seen.append(configuration)
        return 7

    monkeypatch.setattr(command, "run_daemon", run_daemon)
    result = invoke("run", "-t", "-1", "-fE", "-i", "a/127.0.0.1", "--interface", "b/127.0.0.2", "-L7", "--timeout=5")
    assert result.exit_code == 7
    settings = seen[0].settings
    assert [spec.name for spec in settings.interface] == ["a", "b"]
    assert (settings.foreground, settings.log_stderr, settings.timeout, settings.log_level) == (True, True, 5, 7)


@pytest.mark.parametrize("subcommand", [["run"], ["config", "check"], ["config", "show"]])
def test_mistakes_are_named_on_stderr_with_status_1(subcommand: list[str]) -> None:
    result = invoke(*subcommand, "--timeout=x", "--prot-min=5")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "mediaproxy: command line: --prot-min: is not an option; did you mean port-min?",
        "mediaproxy: command line: --timeout: 'x' is not a number; expected a number of seconds, 0 or more, such as 60",
    ]


def test_check_names_file_key_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('timeout = "x"\ninterface = ["nosuchdevice0"]\n')
    result = invoke("config", "check", f"--config-file={path}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mediaproxy: {path}: timeout: 'x' is not a number")
    path.write_text('interface = ["nosuchdevice0"]\n')
    result = invoke("config", "check", f"--config-file={path}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mediaproxy: {path}: interface: default/nosuchdevice0: ")


def test_check_of_a_good_file_says_so_and_what_has_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "rtpengine.conf"
    path.write_text("[rtpengine]\ninterface = 127.0.0.1\nrecording-dir = /tmp\nport-max = 32767\n")
    result = invoke("config", "check", "--config-file", str(path))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"warning: {path}:3: recording-dir: recording is not implemented yet: nothing is recorded"
    assert lines[-1] == f"{path}: ok"


@pytest.mark.parametrize(("options", "word"), [([], "note"), (["--port-max=40000"], "warning")])
def test_check_warns_of_shared_ports_only_if_somebody_chose_them(
    monkeypatch: pytest.MonkeyPatch, options: list[str], word: str
) -> None:
    monkeypatch.setattr(command, "port_range_warning", lambda _: "ports are shared")
    result = invoke("config", "check", "-i", "127.0.0.1", *options)
    assert result.exit_code == 0
    assert f"{word}: ports are shared" in result.stdout.splitlines()


def test_show_prints_settings_with_their_sources() -> None:
    result = invoke("config", "show", "--timeout=5", MEDIAPROXY_TOS="184")
    assert result.exit_code == 0
    assert "timeout = 5  # command line\n" in result.stdout
    assert "tos = 184  # environment variable MEDIAPROXY_TOS\n" in result.stdout


def test_import_prints_toml_and_what_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "rtpengine.conf"
    path.write_text("[x]\ntimeout = 9\nredis = 127.0.0.1:6379/1\n")
    result = invoke("config", "import", str(path), "--section=x")
    assert result.exit_code == 0
    assert "timeout = 9\n" in result.stdout
    assert result.stderr.startswith(f"not taken over: {path}:3: redis: ")


def test_import_of_nonsense_fails(tmp_path: Path) -> None:
    path = tmp_path / "rtpengine.conf"
    path.write_text("[rtpengine]\ntimeout = soon\n")
    result = invoke("config", "import", str(path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"mediaproxy: {path}:2: timeout: 'soon' is not a number")


@pytest.mark.parametrize("program", [[str(PROGRAM)], [sys.executable, "-m", "mediaproxy"]])
def test_installed_program_works_from_any_folder(tmp_path: Path, program: list[str]) -> None:
    done = subprocess.run(
        [*program, "config", "show", "--config-file=none"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "listen-ng" in done.stdout
