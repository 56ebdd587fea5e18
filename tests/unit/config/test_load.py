"""Precedence, the checks across options, and what becomes of rtpengine's options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mediaproxy.config import ConfigProblemsError, Configuration, SourceLock, load_configuration
from mediaproxy.config import load as load_module
from mediaproxy.config.address_kinds import InterfaceSpec, ListenSpec
from mediaproxy.config.options import OPTION_BY_NAME, OPTION_BY_SHORT, OPTIONS, Settings
from mediaproxy.config.rtpengine import FOREIGN_BY_NAME, FOREIGN_BY_SHORT, FOREIGN_OPTIONS, Status
from mediaproxy.logs import LogLevel
from mediaproxy.privileged.settings import FirewallMode, KernelPath


def load(*arguments: str, **environment: str) -> Configuration:
    return load_configuration(["--config-file=none", *arguments], environment)


def problems(*arguments: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigProblemsError) as caught:
        load(*arguments, **environment)
    return [str(problem) for problem in caught.value.problems]


def test_nothing_configured_yields_the_defaults() -> None:
    configuration = load()
    assert configuration.warnings == ()
    assert configuration.file is None
    for option in OPTIONS:
        if option.name != "config-file":
            assert getattr(configuration.settings, option.field) == option.default, option.name
            assert configuration.sources[option.name] == "default"


def test_settings_have_just_the_fields_of_the_table() -> None:
    assert set(Settings.__dataclass_fields__) == {option.field for option in OPTIONS}


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("timeout = 1\nsilent-timeout = 1\noffer-timeout = 1\nlisten-ng = ['1.1.1.1:1', '1.1.1.1:2']\n")
    configuration = load_configuration(
        [f"--config-file={path}", "--timeout=3"],
        {"MEDIAPROXY_TIMEOUT": "2", "MEDIAPROXY_SILENT_TIMEOUT": "2", "MEDIAPROXY_LISTEN_NG": "2.2.2.2:2"},
    )
    settings = configuration.settings
    assert (settings.timeout, settings.silent_timeout, settings.offer_timeout) == (3, 2, 1)
    assert settings.listen_ng == (ListenSpec("2.2.2.2", 2),)  # a list is replaced, not added to
    assert configuration.file == path
    assert {name: configuration.sources[name] for name in ("timeout", "silent-timeout", "offer-timeout", "tos")} == {
        "timeout": "command line",
        "silent-timeout": "environment variable MEDIAPROXY_SILENT_TIMEOUT",
        "offer-timeout": str(path),
        "tos": "default",
    }


def test_repeated_option_takes_all_of_one_source_and_splits_lists() -> None:
    settings = load("-i", "a/192.0.2.1", "-i", "b/192.0.2.2;c/192.0.2.3", "--allow=10.0.0.0/8,192.0.2.9").settings
    assert [spec.name for spec in settings.interface] == ["a", "b", "c"]
    assert [str(network) for network in settings.allow] == ["10.0.0.0/8", "192.0.2.9/32"]


def test_single_option_given_twice_takes_the_last() -> None:
    assert load("--timeout=1", "--timeout=2").settings.timeout == 2


def test_configuration_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("timeout = 9\n")
    assert load_configuration([], {"MEDIAPROXY_CONFIG_FILE": str(path)}).settings.timeout == 9


@pytest.mark.parametrize("ours_exists", [True, False])
def test_default_file_is_ours_else_rtpengines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours_exists: bool
) -> None:
    ours, theirs = tmp_path / "mediaproxy.toml", tmp_path / "rtpengine.conf"
    if ours_exists:
        ours.write_text("timeout = 1\n")
    theirs.write_text("[rtpengine]\ntimeout = 2\n")
    monkeypatch.setattr("mediaproxy.config.sources.DEFAULT_TOML", ours)
    monkeypatch.setattr("mediaproxy.config.sources.DEFAULT_INI", theirs)
    configuration = load_configuration([], {})
    assert configuration.settings.timeout == (1 if ours_exists else 2)
    assert configuration.file == (ours if ours_exists else theirs)


def test_no_default_file_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mediaproxy.config.sources.DEFAULT_TOML", tmp_path / "a")
    monkeypatch.setattr("mediaproxy.config.sources.DEFAULT_INI", tmp_path / "b")
    assert load_configuration([], {}).file is None


RTPENGINE_COMMAND_LINE = (
    "--config-file=none --foreground --log-stderr --log-level=6 --table=-1 --interface=external/192.0.2.1 "
    "--interface=internal/192.0.2.2 --listen-ng=127.0.0.1:2223 --listen-cli=127.0.0.1:2224 --port-min=30000 "
    "--port-max=34999 --delete-delay=0 --timeout=60 --num-threads=2 --pidfile=/run/x.pid "
    "--recording-dir=/tmp --recording-method=pcap --recording-format=eth"
)


def test_rtpengines_long_command_line_is_understood() -> None:
    configuration = load_configuration(
        [*RTPENGINE_COMMAND_LINE.split()],
        {},
    )
    settings = configuration.settings
    assert settings.interface == (InterfaceSpec("external", "192.0.2.1"), InterfaceSpec("internal", "192.0.2.2"))
    assert (settings.port_min, settings.port_max, settings.delete_delay, settings.num_threads) == (30000, 34999, 0, 2)
    assert settings.foreground
    assert settings.log_stderr
    assert settings.log_level is LogLevel.INFO
    assert settings.pidfile == Path("/run/x.pid")
    assert [warning.split(": ")[1] for warning in configuration.warnings] == [
        "--listen-cli",
        "--recording-dir",
        "--recording-method",
        "--recording-format",
    ]


def test_rtpengines_short_forms_mean_the_same() -> None:
    arguments = "-f -E -L 6 -t -1 -i external/192.0.2.1 -n 127.0.0.1:2223 -m 30000 -M 34999 -d 0 -o 60 -s 61 -a 62 -T 5"
    settings = load(*arguments.split(), "-p", "/run/x.pid").settings
    assert (
        settings
        == load(
            "--foreground",
            "--table=-1",
            "--log-stderr",
            "--log-level=6",
            "--interface=external/192.0.2.1",
            "--listen-ng=127.0.0.1:2223",
            "--port-min=30000",
            "--port-max=34999",
            "--delete-delay=0",
            "--timeout=60",
            "--silent-timeout=61",
            "--final-timeout=62",
            "--tos=5",
            "--pidfile=/run/x.pid",
        ).settings
    )


def test_debians_rtpengine_conf_starts_us(tmp_path: Path) -> None:
    path = tmp_path / "rtpengine.conf"
    path.write_text(
        "[rtpengine]\n\ntable = 0\n# no-fallback = false\ninterface = any\n\nlisten-ng = localhost:2223\n"
        "listen-http = localhost:2225\nlisten-cli = localhost:2224\ntimeout = 60\ntos = 184\nport-min = 30000 # low\n"
        "port-max = 40000\nrecording-dir = /var/spool/rtpengine\nrecording-method = proc\n[rtpengine-testing]\n"
        "table = -1\ninterface = 192.0.2.1\n"
    )
    configuration = load_configuration([f"--config-file={path}"], {})
    assert configuration.settings.interface == (InterfaceSpec("default", "any"),)
    assert configuration.settings.listen_ng == (ListenSpec("localhost", 2223),)
    assert configuration.settings.tos == 184
    assert len(configuration.warnings) == 4
    testing = load_configuration([f"--config-file={path}", "--config-section=rtpengine-testing"], {})
    assert testing.settings.interface == (InterfaceSpec("default", "192.0.2.1"),)


def test_refused_options_are_named_with_the_reason_and_all_at_once() -> None:
    lines = problems("-r", "127.0.0.1:6379/1", "-N", "2223", "--listen-udp=22222")
    assert [line.split(": ", 2)[1] for line in lines] == ["-r", "-N", "--listen-udp"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-fallback=false",),
        ("--iptables-chain=",),
        ("--redis=",),
        ("--table=-1",),
        ("--recording-dir=",),
        ("--poller-per-thread=no",),
    ],
)
def test_foreign_option_that_asks_for_nothing_is_silent(arguments: tuple[str, ...]) -> None:
    assert load(*arguments).warnings == ()


def test_secrets_in_foreign_options_are_not_repeated() -> None:
    text = "\n".join(problems("--redis=topsecret@127.0.0.1:6379/1")) + str(load("--mysql-pass=topsecret").warnings)
    assert "topsecret" not in text


@pytest.mark.parametrize("foreign", FOREIGN_OPTIONS, ids=lambda option: option.name)
def test_every_foreign_option_is_accepted_with_a_warning_or_refused_by_name(foreign: object) -> None:
    option = FOREIGN_BY_NAME[foreign.name]  # type: ignore[attr-defined]  # parametrize loses the type
    argument = f"--{option.name}=value" if option.takes_value else f"--{option.name}"
    if option.status is Status.REFUSED:
        assert problems(argument) == [f"command line: --{option.name}: {option.reason}"]
    else:
        assert load(argument).warnings == (f"command line: --{option.name}: {option.reason}",)


def test_no_spelling_has_two_meanings() -> None:
    assert not OPTION_BY_NAME.keys() & FOREIGN_BY_NAME.keys()
    assert not OPTION_BY_SHORT.keys() & FOREIGN_BY_SHORT.keys()
    assert len(FOREIGN_BY_NAME) == len(FOREIGN_OPTIONS)


RTPENGINE_10_5 = Path(__file__).with_name("rtpengine_10_5_options.txt")


def test_every_option_of_rtpengine_10_5_is_classified_with_its_short_form() -> None:
    """The list: what ``rtpengine --help`` of Debian 12 (10.5.3.5) prints, and ``=`` at five where it forgets it."""
    spellings = RTPENGINE_10_5.read_text().split()
    assert len(spellings) > 120
    for spelling in spellings:
        parts = re.fullmatch(r"(?:-(\w),)?--([a-z0-9-]+)(=?)", spelling)
        assert parts is not None
        short, name, takes_value = parts.groups()
        if name in {"help", "version"}:  # handled by the command itself
            continue
        ours, foreign = OPTION_BY_NAME.get(name), FOREIGN_BY_NAME.get(name)
        assert ours is not None or foreign is not None, name
        if ours is not None:
            assert (ours.short, ours.rtpengine, not ours.is_switch) == (short or "", True, bool(takes_value)), name
        elif foreign is not None:
            assert (foreign.short, foreign.takes_value) == (short or "", bool(takes_value)), name


def test_bad_value_names_source_key_value_reason_and_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('port-min = "abc"\nlog-level = 9\ninterface = ["10.0.0.1!eth0", "10.0.0.2"]\nfoo = 1\n')
    with pytest.raises(ConfigProblemsError) as caught:
        load_configuration([f"--config-file={path}", "--timeout=-3"], {"MEDIAPROXY_TOS": "300"})
    assert str(caught.value).splitlines() == [
        f"{path}: foo: is not an option",
        f"{path}: port-min: 'abc' is not a whole number; expected a whole number from 1 to 65535, such as 30000",
        f"{path}: log-level: 9 is no log level; expected a number from 0 to 7 or a name such as notice, info or debug",
        f"{path}: interface: '10.0.0.1!eth0' advertises 'eth0', which is no IP address; expected "
        "[NAME/]ADDR|DEVICE[!ADVERTISED][@MIN-MAX], such as pub/10.0.0.5!192.0.2.5 or eth0@30000-30999",
        "environment: MEDIAPROXY_TOS: '300' is out of range; expected a whole number from 0 "
        "to 255, such as 184, or -1 for off",
        "command line: --timeout: '-3' is no length of time; expected a number of seconds, 0 or more, such as 60",
    ]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [(("--port-min=50000",), "port-min"), (("--port-max=2000",), "port-max"), (("-m", "7", "-M", "8"), "port-min")],
)
def test_port_range_without_a_pair_is_refused(arguments: tuple[str, ...], key: str) -> None:
    (line,) = problems(*arguments)
    assert line.startswith(f"command line: {key}: ")
    assert "port range" in line


def test_file_cannot_name_another_file(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('config-file = "x"\n')
    with pytest.raises(ConfigProblemsError, match="config-file: cannot be set in a file"):
        load_configuration([f"--config-file={path}"], {})


def test_base_and_suffix_names_are_warned_of() -> None:
    (warning,) = load("-i", "pub:1/192.0.2.1").warnings
    assert "BASE:SUFFIX" in warning


def test_source_lock_takes_both_words() -> None:
    assert load("--source-lock=rtpengine").settings.source_lock is SourceLock.RTPENGINE
    assert load("--source-lock", "strict").settings.source_lock is SourceLock.STRICT


def test_load_file_that_is_not_strict_turns_refusals_into_warnings(tmp_path: Path) -> None:
    path = tmp_path / "r.conf"
    path.write_text("[rtpengine]\nredis = 127.0.0.1:6379/1\n")
    with pytest.raises(ConfigProblemsError, match="redis"):
        load_module.load_file(path)
    assert len(load_module.load_file(path, strict=False).warnings) == 1


@pytest.mark.parametrize(
    ("arguments", "spelling"),
    [(["--interface="], "--interface"), (["-i", ""], "-i"), (["--allow", " ; "], "--allow"), (["-n", ""], "-n")],
)
def test_empty_list_on_the_command_line_is_a_mistake(arguments: list[str], spelling: str) -> None:
    with pytest.raises(ConfigProblemsError, match=f"command line: {spelling}: is empty; leave it out"):
        load_configuration(["--config-file=none", *arguments], {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("timeout = true", "timeout: true is a boolean, which is not allowed here; expected a number"),
        ("timeout = [1]", r"timeout: \[1\] is a list, which is not allowed here; expected a number"),
        ('listen-ng = "[::1]"', r"listen-ng: '\[::1\]' has no port from 1 to 65535 after the brackets; expected"),
        ('timeout = "1_0"', "timeout: '1_0' is not a number"),
    ],
)
def test_problem_reads_as_a_sentence(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(f"{line}\n")
    with pytest.raises(ConfigProblemsError, match=expected):
        load_configuration([f"--config-file={path}"], {})


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((), KernelPath.AUTO),
        (("--table=0",), KernelPath.AUTO),
        (("--table=-1",), KernelPath.USERSPACE),
        (("-t", "-2"), KernelPath.USERSPACE),
        (("--table=-1", "--kernel-path=nft"), KernelPath.NFT),
    ],
)
def test_negative_table_means_user_space_unless_a_kernel_path_is_named(
    arguments: tuple[str, ...], path: KernelPath
) -> None:
    configuration = load(*arguments)
    assert configuration.settings.kernel_path is path
    assert configuration.warnings == ()


def test_table_that_is_no_number_is_a_mistake() -> None:
    (line,) = problems("--table=abc")
    assert "'abc' is not a whole number" in line


def test_kernel_path_may_be_demanded() -> None:
    settings = load("-F", "--kernel-path=tc", "--run-dir=/run/x", "--user=nobody", "--firewall=manage").settings
    assert settings.no_fallback
    assert (settings.run_dir, settings.user, settings.firewall) == (Path("/run/x"), "nobody", FirewallMode.MANAGE)
