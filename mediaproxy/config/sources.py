"""The four places that settings come from, each read into a list of ``Given``; nothing is judged here.

The command line has a parser of its own, made from the option table, because it must take rtpengine's command lines as
they are: ``-t -1``, ``-L6``, ``-fE``, ``--table=-1``, some 170 options of which most are only known by name, and each
mistake reported, not only the first. Command-line libraries build commands from function signatures, one each.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from mediaproxy.config.options import ENVIRONMENT_PREFIX, OPTION_BY_NAME, OPTION_BY_SHORT, OPTIONS
from mediaproxy.config.rtpengine import FOREIGN_BY_NAME, FOREIGN_BY_SHORT
from mediaproxy.errors import ConfigError

DEFAULT_TOML: Final = Path("/etc/mediaproxy/mediaproxy.toml")
DEFAULT_INI: Final = Path("/etc/rtpengine/rtpengine.conf")


class Origin(IntEnum):
    """Where a value comes from; a greater one overrides."""

    DEFAULT = 0
    FILE = 1
    ENVIRONMENT = 2
    COMMAND_LINE = 3


@dataclass(frozen=True, slots=True)
class Given:
    """One value as the user gave it.

    Attributes:
        key: canonical long name of an option, ours or rtpengine's.
        spelling: as the user wrote the name.
        value: text, or what TOML made of it.
        source: for people: the file (and line), ``environment`` or ``command line``.
    """

    key: str
    spelling: str
    value: object
    origin: Origin
    source: str

    @property
    def place(self) -> str:
        """The source, and the variable where that says more."""
        return f"{self.source} variable {self.spelling}" if self.origin is Origin.ENVIRONMENT else self.source


@dataclass(slots=True)
class Reading:
    """What one source gave."""

    given: list[Given] = field(default_factory=list)
    problems: list[ConfigError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def canonical_name(name: str) -> str:
    """The name of an option with hyphens."""
    return name.strip().replace("_", "-")


def is_known(name: str) -> bool:
    """Whether an option of this canonical name exists, ours or rtpengine's."""
    return name in OPTION_BY_NAME or name in FOREIGN_BY_NAME


def _takes_value(name: str) -> bool:
    option = OPTION_BY_NAME.get(name)
    return not option.is_switch if option is not None else FOREIGN_BY_NAME[name].takes_value


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, [*OPTION_BY_NAME, *FOREIGN_BY_NAME], n=1)
    return f"is not an option; did you mean {close[0]}?" if close else "is not an option"


def read_command_line(arguments: Sequence[str]) -> Reading:
    """Read options as getopt does: ``--name=value``, ``--name value``, ``-x value``, ``-xvalue``, ``-fE``."""
    reading = Reading()
    source = "command line"
    rest = list(arguments)

    def take(name: str, spelling: str, attached: str | None) -> None:
        if attached is None and _takes_value(name):
            if not rest:
                reading.problems.append(ConfigError(source, spelling, "needs a value"))
                return
            attached = rest.pop(0)
        value = "true" if attached is None else attached
        reading.given.append(Given(name, spelling, value, Origin.COMMAND_LINE, source))

    while rest:
        argument = rest.pop(0)
        if argument.startswith("--") and len(argument) > 2:
            spelling, equals, attached = argument.partition("=")
            name = canonical_name(spelling[2:])
            if is_known(name):
                take(name, spelling, attached if equals else None)
            else:
                reading.problems.append(ConfigError(source, spelling, _unknown(name)))
        elif argument.startswith("-") and argument not in {"-", "--"}:
            letters = argument[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                known = OPTION_BY_SHORT.get(letter) or FOREIGN_BY_SHORT.get(letter)
                if known is None:
                    reading.problems.append(ConfigError(source, f"-{letter}", "is not an option"))
                    break
                if not _takes_value(known.name):
                    take(known.name, f"-{letter}", None)
                    continue
                take(known.name, f"-{letter}", letters.removeprefix("=") if letters else None)
                break
        else:
            reading.problems.append(ConfigError(source, argument, "is no option, and nothing but options is expected"))
    return reading


def read_environment(environment: Mapping[str, str]) -> Reading:
    """Read ``MEDIAPROXY_*``. An unknown name is a warning: container platforms set such variables by themselves."""
    reading = Reading()
    by_variable = {option.environment_variable: option.name for option in OPTIONS}
    for variable in sorted(environment):
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = by_variable.get(variable)
        if name is None:
            reading.warnings.append(f"environment: {variable} is not an option and ignored")
            continue
        reading.given.append(Given(name, variable, environment[variable], Origin.ENVIRONMENT, "environment"))
    return reading


def find_default_file() -> Path | None:
    """Our configuration file, else rtpengine's; ``None`` if neither exists."""
    for path in (DEFAULT_TOML, DEFAULT_INI):
        if path.exists():
            return path
    return None


def read_file(path: Path, section: str) -> Reading:
    """Read a configuration file: INI if it has the section, unless its name ends with ``.toml``; else TOML.

    Args:
        section: the section of an INI file, usually ``rtpengine``.
    """
    reading = Reading()
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        reading.problems.append(ConfigError(str(path), "", f"cannot be read: {error.strerror}"))
        return reading
    except UnicodeDecodeError as error:
        reading.problems.append(ConfigError(str(path), "", f"is not UTF-8 text (byte {error.start})"))
        return reading
    has_section = re.search(rf"(?m)^[ \t]*\[{re.escape(section)}\]", text)
    if path.suffix != ".toml" and (has_section or path.suffix in {".conf", ".ini"}):
        return read_ini(text, str(path), section)
    return read_toml(text, str(path))


def read_toml(text: str, source: str) -> Reading:
    """Read our own format: the options as top-level keys, interfaces also as ``[[interface]]`` tables."""
    reading = Reading()
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reading.problems.append(ConfigError(source, "", f"is not TOML: {error}"))
        return reading
    for key, value in document.items():
        name = canonical_name(key)
        if not is_known(name):
            reading.problems.append(ConfigError(source, key, _unknown(name)))
        else:
            reading.given.append(Given(name, key, value, Origin.FILE, source))
    return reading


def read_ini(text: str, source: str, section: str) -> Reading:
    """Read rtpengine's format: ``key = value`` lines below ``[section]``; ``#`` and ``;`` begin comment lines.

    As there, the last of repeated keys counts, and an unknown key is ignored; we warn of both.
    """
    reading = Reading()
    current = None
    found = False
    seen: dict[str, int] = {}
    for number, raw_line in enumerate(text.splitlines(), 1):
        line = raw_line.strip()
        if not line or line[0] in "#;":
            continue
        if header := re.fullmatch(r"\[([^\[\]]*)\]", line):
            current = header[1].strip()
            found = found or current == section
            continue
        if current != section:
            continue
        where = f"{source}:{number}"
        key, equals, value = line.partition("=")
        name = canonical_name(key)
        if not equals:
            reading.problems.append(ConfigError(where, line, "is neither a comment nor KEY = VALUE"))
        elif not is_known(name):
            reading.warnings.append(f"{where}: {name} {_unknown(name)} (ignored, as rtpengine does)")
        else:
            if name in seen:
                reading.warnings.append(
                    f"{where}: {name} was given in line {seen[name]} already; the last one counts, as in rtpengine "
                    "(several values go into one line, separated by ';')"
                )
                reading.given = [given for given in reading.given if given.key != name]
            seen[name] = number
            reading.given.append(Given(name, name, value.strip(), Origin.FILE, where))
    if not found:
        reading.problems.append(ConfigError(source, "", f"has no section [{section}]"))
    return reading
