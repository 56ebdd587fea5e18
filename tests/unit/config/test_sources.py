"""The four sources: what each gives, and what it complains about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediaproxy.config.options import OPTIONS
from mediaproxy.config.sources import Reading, read_command_line, read_environment, read_file, read_ini, read_toml


def pairs(reading: Reading) -> list[tuple[str, object]]:
    return [(given.key, given.value) for given in reading.given]


def problems(reading: Reading) -> list[str]:
    return [str(problem) for problem in reading.problems]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["--timeout=60"], [("timeout", "60")]),
        (["--timeout", "60"], [("timeout", "60")]),
        (["-o", "60"], [("timeout", "60")]),
        (["-o60"], [("timeout", "60")]),
        (["-o=60"], [("timeout", "60")]),
        (["-t", "-1"], [("table", "-1")]),
        (["-t-1"], [("table", "-1")]),
        (["--table=-1"], [("table", "-1")]),
        (["--table", "-1"], [("table", "-1")]),
        (["-fE"], [("foreground", "true"), ("log-stderr", "true")]),
        (["-fEi", "eth0"], [("foreground", "true"), ("log-stderr", "true"), ("interface", "eth0")]),
        (["-i", "a", "-i", "b"], [("interface", "a"), ("interface", "b")]),
        (["--foreground=false"], [("foreground", "false")]),
        (["--port_min=4"], [("port-min", "4")]),
        (["-L", "7", "-T184"], [("log-level", "7"), ("tos", "184")]),
        (["--config-file=none"], [("config-file", "none")]),
        (["--interface="], [("interface", "")]),
    ],
)
def test_command_line_is_read_as_getopt_does(arguments: list[str], given: list[tuple[str, object]]) -> None:
    reading = read_command_line(arguments)
    assert pairs(reading) == given
    assert problems(reading) == []


def test_command_line_with_several_mistakes_names_all() -> None:
    reading = read_command_line(["--prot-min=5", "-Z", "stray", "--xyzzy", "--", "--timeout"])
    assert problems(reading) == [
        "command line: --prot-min: is not an option; did you mean port-min?",
        "command line: -Z: is not an option",
        "command line: stray: is no option, and nothing but options is expected",
        "command line: --xyzzy: is not an option",
        "command line: --: is no option, and nothing but options is expected",
        "command line: --timeout: needs a value",
    ]


def test_environment_reads_every_option_and_warns_of_strangers() -> None:
    environment = {option.environment_variable: "x" for option in OPTIONS} | {"MEDIAPROXY_PORT": "tcp://", "PATH": "/"}
    reading = read_environment(environment)
    assert sorted(key for key, _ in pairs(reading)) == sorted(option.name for option in OPTIONS)
    assert reading.warnings == ["environment: MEDIAPROXY_PORT is not an option and ignored"]
    assert "environment variable MEDIAPROXY_TIMEOUT" in {given.place for given in reading.given}


def test_toml_reads_keys_with_hyphens_or_underscores() -> None:
    reading = read_toml('port-min = 5\nport_max = 9\ntimeout = "7"\n[[interface]]\naddress = "eth0"\n', "f.toml")
    assert pairs(reading) == [
        ("port-min", 5),
        ("port-max", 9),
        ("timeout", "7"),
        ("interface", [{"address": "eth0"}]),
    ]


def test_toml_with_an_unknown_key_names_file_and_key() -> None:
    assert problems(read_toml("tiemout = 5\n", "f.toml")) == [
        "f.toml: tiemout: is not an option; did you mean timeout?"
    ]


def test_toml_that_is_none_names_file_and_line() -> None:
    (problem,) = problems(read_toml("a = 1\nb = = 2\n", "f.toml"))
    assert problem.startswith("f.toml: is not TOML: ")
    assert "line 2" in problem


INI = """\
# a comment
[other]
timeout = 1
[rtpengine]
; another comment
interface = internal/10.0.0.1;external/10.0.0.2!192.0.2.2
  timeout=30
no-such-key = 4
foreground
timeout = 40

[more]
tos = 5
"""


def test_ini_reads_its_section_only_and_the_last_of_repeated_keys() -> None:
    reading = read_ini(INI, "r.conf", "rtpengine")
    assert pairs(reading) == [("interface", "internal/10.0.0.1;external/10.0.0.2!192.0.2.2"), ("timeout", "40")]
    assert [given.source for given in reading.given] == ["r.conf:6", "r.conf:10"]
    assert problems(reading) == ["r.conf:9: foreground: is neither a comment nor KEY = VALUE"]
    assert [warning.split(" ", 2)[:2] for warning in reading.warnings] == [
        ["r.conf:8:", "no-such-key"],
        ["r.conf:10:", "timeout"],
    ]


def test_ini_without_the_section_is_a_problem() -> None:
    assert problems(read_ini("[a]\nb = 1\n", "r.conf", "rtpengine")) == ["r.conf: has no section [rtpengine]"]


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("a.toml", "[rtpengine]\n", "problem"),  # TOML, where that is a table that nobody knows
        ("a.conf", "[rtpengine]\ntimeout = 5\n", "line"),
        ("a", "[rtpengine]\ntimeout = 5\n", "line"),
        ("a", "timeout = 5\n", "toml"),
        ("a.ini", "timeout = 5\n", "problem"),
    ],
)
def test_file_form_is_told_by_name_and_section(tmp_path: Path, name: str, text: str, source: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    reading = read_file(path, "rtpengine")
    if source == "problem":
        assert problems(reading)
    else:
        (given,) = reading.given
        assert given.value == ("5" if source == "line" else 5)
        assert given.source == (f"{path}:2" if source == "line" else str(path))


def test_file_that_is_absent_or_not_text_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    assert problems(read_file(path, "rtpengine")) == [f"{path}: cannot be read: No such file or directory"]
    path.write_bytes(b"a = \xff")
    assert problems(read_file(path, "rtpengine")) == [f"{path}: is not UTF-8 text (byte 4)"]
