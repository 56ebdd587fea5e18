"""The option table and effective settings as text: the manual, ``config show`` and ``config import``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mediaproxy.config.address_kinds import InterfaceSpec
from mediaproxy.config.kinds import toml_string
from mediaproxy.config.load import Configuration, load_file
from mediaproxy.config.options import OPTIONS, Option
from mediaproxy.config.rtpengine import FOREIGN_OPTIONS, Status

_WIDTH: Final = 100


def write_help() -> str:
    """The options as ``mediaproxy run --help`` prints them."""
    lines = ["Options (those of rtpengine that are not listed are accepted or refused by name):", ""]
    for option in OPTIONS:
        short = f"-{option.short}, " if option.short else "    "
        value = "" if option.is_switch else f"={option.kind.metavar}"
        lines.append(f"  {short}--{option.name}{value}")
        text = option.help.replace("`", "")
        lines += textwrap.wrap(
            f"{text} [{_default_text(option)}]", _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10
        )
    return "\n".join(lines) + "\n"


def _default_text(option: Option) -> str:
    text = _text_of(option, option.default)
    return f"default: {text}" if text else "no default"


def _text_of(option: Option, value: Any) -> str:  # each kind has its own type
    if option.repeated:
        return ";".join(option.kind.write(each) for each in value)
    return option.kind.write(value)


def write_toml(option: Option, value: Any) -> str:  # each kind has its own type
    """One ``key = value`` line (several for interfaces) that reading gives the same value for."""
    if not option.repeated:
        return f"{option.name} = {option.kind.write_toml(value)}"
    if option.name == "interface" and value:
        return "\n".join(_interface_table(spec) for spec in value)
    return f"{option.name} = [{', '.join(option.kind.write_toml(each) for each in value)}]"


def _interface_table(spec: InterfaceSpec) -> str:
    lines = ["[[interface]]", f"name = {toml_string(spec.name)}", f"address = {toml_string(spec.host)}"]
    if spec.advertised is not None:
        lines.append(f"advertised = {toml_string(spec.advertised)}")
    if spec.port_min is not None:
        lines += [f"port-min = {spec.port_min}", f"port-max = {spec.port_max}"]
    return "\n".join(lines) + "\n"


def _in_toml_order(options: Iterable[Option]) -> list[Option]:
    """Tables last: after the first of them a key would belong to it."""
    return sorted(options, key=lambda option: option.name == "interface")


def show_settings(configuration: Configuration) -> str:
    """All effective settings as TOML, each with where it comes from."""
    lines = []
    for option in _in_toml_order(OPTIONS):
        value = getattr(configuration.settings, option.field)
        source = configuration.sources[option.name]
        if not option.in_files:
            lines.append(f"# {option.name}: {_text_of(option, value) or 'none'}  ({source})")
        elif option.name == "interface" and value:
            lines += ["", f"# {source}", write_toml(option, value)]
        else:
            lines.append(f"{write_toml(option, value)}  # {source}")
    return "\n".join(lines).rstrip() + "\n"


def import_ini(path: Path, section: str = "rtpengine") -> tuple[str, tuple[str, ...]]:
    """Translate a configuration file of rtpengine.

    Returns:
        The same settings in our format, and what of it could not be taken over.
    Raises:
        ConfigProblemsError: a value cannot be understood.
    """
    configuration = load_file(path, section, strict=False)
    lines = [f"# From {path}, section [{section}]."]
    tables: list[str] = []
    for option in _in_toml_order(option for option in OPTIONS if option.in_files):
        if configuration.sources[option.name] == "default":
            continue
        text = write_toml(option, getattr(configuration.settings, option.field))
        (tables if text.startswith("[[") else lines).append(text)
    lines += [f"# Not taken over, line {warning.removeprefix(f'{path}:')}" for warning in configuration.warnings]
    lines += [f"\n{table}" for table in tables]
    return "\n".join(lines).rstrip() + "\n", configuration.warnings


def write_manual() -> str:
    """docs/configuration.md."""
    parts = [_MANUAL_HEAD]
    for option in OPTIONS:
        parts.append(_manual_entry(option))
    parts.append(_MANUAL_FOREIGN)
    for status in Status:
        parts.append(f"### {status.value.capitalize()}\n\n| option | why |\n|---|---|\n" + _foreign_rows(status))
    return "\n".join(parts)


def _manual_entry(option: Option) -> str:
    spellings = [f"`--{option.name}`"] + ([f"`-{option.short}`"] if option.short else [])
    rows = [
        ("command line", ", ".join(spellings) + (", several times" if option.repeated else "")),
        ("file", f"`{option.name}`" if option.in_files else "no"),
        ("environment", f"`{option.environment_variable}`"),
        ("value", option.kind.expects.replace("|", "\\|")),
        ("default", f"`{_text_of(option, option.default)}`" if _text_of(option, option.default) else "none"),
        ("rtpengine has it", "yes" if option.rtpengine else "no"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"### {option.name}\n\n{option.help}\n\n| | |\n|---|---|\n{table}\n"


def _foreign_rows(status: Status) -> str:
    reasons: dict[str, list[str]] = {}
    for option in FOREIGN_OPTIONS:
        if option.status is status:
            short = f"`-{option.short}` " if option.short else ""
            reasons.setdefault(option.reason, []).append(f"{short}`--{option.name}`")
    return "".join(f"| {', '.join(names)} | {reason} |\n" for reason, names in reasons.items())


_MANUAL_HEAD: Final = """\
# Configuration

<!-- Written by `python -m mediaproxy.config.document`; a test compares. Edit mediaproxy/config/options.py instead. -->

Nothing has to be configured: `mediaproxy run` takes ng requests on 127.0.0.1:2223, relays media on the address of the
default route, and says so. What is configured comes from four places, each over the one before:

1. the defaults below;
2. a file: `--config-file`, else `/etc/mediaproxy/mediaproxy.toml`, else `/etc/rtpengine/rtpengine.conf`;
3. environment variables `MEDIAPROXY_...` (several values separated by `;`);
4. the command line of `mediaproxy run`.

A list that is given in one place replaces the list of the place before. A file that has an `[rtpengine]` section and
does not end with `.toml` is read as rtpengine's INI format; any other is TOML:

```toml
listen-ng = ["127.0.0.1:2223", "[::1]:2223"]
delete-delay = 0

[[interface]]
name = "external"
address = "10.0.0.5"         # or a device such as "eth0", or "any"
advertised = "192.0.2.5"     # what SDP shows
port-min = 30000
port-max = 32767

[[interface]]
name = "internal"
address = "10.1.0.5"
```

`mediaproxy config check` names every mistake with file, key and reason, and `mediaproxy config show` prints what is in
effect and where it comes from; both take the options of `run`, so they judge just what a start would use.
`mediaproxy config import FILE` translates a configuration of rtpengine.

## Options
"""

_MANUAL_FOREIGN: Final = """\
## Options of rtpengine that we do not implement

On the command line and in its INI file. A switch set to `false` and an empty value are never warned of or refused. A
key that rtpengine does not know either is an error on the command line and in TOML; in its INI file it is ignored with
a warning, as rtpengine does.
"""


def main() -> None:
    """Write docs/configuration.md anew."""
    path = Path(__file__).parents[2] / "docs" / "configuration.md"
    path.write_text(re.sub(r"\n{3,}", "\n\n", write_manual()))


if __name__ == "__main__":
    main()
