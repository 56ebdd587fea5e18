"""Settings as text: what is shown can be read again, and the manual is that of this table."""

from __future__ import annotations

import re
from pathlib import Path

from mediaproxy.config import load_configuration
from mediaproxy.config.document import import_ini, show_settings, write_help, write_manual
from mediaproxy.config.options import OPTIONS
from mediaproxy.config.rtpengine import FOREIGN_OPTIONS

MANUAL = Path(__file__).parents[3] / "docs" / "configuration.md"

EVERYTHING = [
    "--config-file=none",
    "-i",
    "pub/10.0.0.1!192.0.2.1@30000-30999",
    "-i",
    "eth0",
    "-n",
    "[::1]:2223",
    "-n",
    "2224",
    "--allow=10.0.0.0/8",
    "-m",
    "30002",
    "-M",
    "39999",
    "--port-quarantine=0.5",
    "-o",
    "1",
    "-s",
    "2",
    "-a",
    "2000000",
    "--offer-timeout=4",
    "-d",
    "0",
    "--max-sessions=0",
    "--tos=184",
    "--endpoint-learning=off",
    "--source-lock=rtpengine",
    "--sip-source",
    "--media-deny=192.0.2.0/24",
    "--media-allow=0.0.0.0/0",
    "--num-threads=3",
    "--instance=edge",
    "--kernel-path=nft",
    "--table=3",
    "--no-fallback",
    "--nft-form=fast",
    "--nft-owner",
    "--firewall=manage",
    "--run-dir=/run/m",
    "--user=nobody",
    "--group=7",
    "-p",
    '/run/a "b".pid',
    "-f",
    "-L7",
    "-E",
    "--log-file=/var/log/x.log",
    "--log-format=json",
    "--no-log-timestamps",
]


def test_shown_settings_read_again_are_the_same(tmp_path: Path) -> None:
    first = load_configuration(EVERYTHING, {})
    for option in OPTIONS:
        if option.in_files:  # else the round trip would prove nothing for it
            assert getattr(first.settings, option.field) != option.default, option.name
    path = tmp_path / "shown.toml"
    path.write_text(show_settings(first))
    second = load_configuration([f"--config-file={path}"], {})
    for option in OPTIONS:
        if option.in_files:
            assert getattr(second.settings, option.field) == getattr(first.settings, option.field), option.name


def test_shown_defaults_read_again_are_the_same(tmp_path: Path) -> None:
    first = load_configuration(["--config-file=none"], {})
    path = tmp_path / "shown.toml"
    path.write_text(show_settings(first))
    second = load_configuration([f"--config-file={path}"], {})
    for option in OPTIONS:
        if option.in_files:
            assert getattr(second.settings, option.field) == getattr(first.settings, option.field), option.name


def test_shown_settings_name_their_source() -> None:
    text = show_settings(load_configuration(["--config-file=none", "-o", "5"], {"MEDIAPROXY_TOS": "7"}))
    assert "timeout = 5  # command line" in text
    assert "tos = 7  # environment variable MEDIAPROXY_TOS" in text
    assert "delete-delay = 30  # default" in text


def test_imported_ini_means_the_same(tmp_path: Path) -> None:
    ini = tmp_path / "rtpengine.conf"
    ini.write_text(
        "[rtpengine]\ninterface = pub/10.0.0.1!192.0.2.1;priv/10.1.0.1\nlisten-ng = 127.0.0.1:2223\ntimeout = 30\n"
        "tos = 184\nredis = 127.0.0.1:6379/1\nrecording-dir = /tmp\n"
    )
    text, not_taken = import_ini(ini)
    toml = tmp_path / "mediaproxy.toml"
    toml.write_text(text)
    imported = load_configuration([f"--config-file={toml}"], {}).settings
    assert [str(spec) for spec in imported.interface] == ["pub/10.0.0.1!192.0.2.1", "priv/10.1.0.1"]
    assert (imported.timeout, imported.tos) == (30, 184)
    assert [warning.split(": ")[1] for warning in not_taken] == ["redis", "recording-dir"]
    assert text.count("# Not taken over") == 2
    assert "delete-delay" not in text  # only what the file said


def test_help_and_manual_name_every_option() -> None:
    help_text, manual = write_help(), write_manual()
    for option in OPTIONS:
        assert f"--{option.name}" in help_text
        assert f"`--{option.name}`" in manual
        assert f"`{option.environment_variable}`" in manual
    for foreign in FOREIGN_OPTIONS:
        assert f"`--{foreign.name}`" in manual


def test_manual_in_docs_is_that_of_the_table() -> None:
    expected = re.sub(r"\n{3,}", "\n\n", write_manual())
    assert MANUAL.read_text() == expected, "write it anew: .venv/bin/python -m mediaproxy.config.document"
