"""From the sources to ``Settings``: defaults, then file, environment and command line, each over the one before."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mediaproxy.config.address_kinds import check_port_range
from mediaproxy.config.kinds import Integer, OptionalInteger, Seconds
from mediaproxy.config.options import OPTION_BY_NAME, OPTIONS, Option, Settings
from mediaproxy.config.rtpengine import FOREIGN_BY_NAME, Status
from mediaproxy.config.sources import (
    Given,
    Origin,
    Reading,
    find_default_file,
    read_command_line,
    read_environment,
    read_file,
)
from mediaproxy.errors import ConfigError
from mediaproxy.privileged.settings import KernelPath

_NO_FILE: Final = "none"


class ConfigProblemsError(ConfigError):
    """The settings cannot be used; ``problems`` are all that is wrong with them, at least one."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        first = problems[0]
        super().__init__(first.source, first.key, first.reason)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Usable settings.

    Attributes:
        sources: for each option's name where its value comes from, for people.
        warnings: what was accepted but has no effect, one line each.
        file: the configuration file that was read, if any.
    """

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...]
    file: Path | None


def load_configuration(arguments: Sequence[str], environment: Mapping[str, str]) -> Configuration:
    """Read all sources and put the settings together.

    Args:
        arguments: the command line, options only.
        environment: only ``MEDIAPROXY_*`` is looked at.
    Raises:
        ConfigProblemsError: anything cannot be used; names every problem with its source and key.
    """
    command_line = read_command_line(arguments)
    variables = read_environment(environment)
    early = _Values()
    for reading in (variables, command_line):
        early.take_all([given for given in reading.given if given.key in {"config-file", "config-section"}])
    path = early.values.get("config-file")
    if path is None and "config-file" not in early.values:
        path = find_default_file()
    elif str(path) == _NO_FILE:
        path = None
    file = Reading() if path is None else read_file(path, early.values.get("config-section", "rtpengine"))

    values = _Values()
    for reading in (file, variables, command_line):
        values.problems += reading.problems
        values.warnings += reading.warnings
        values.take_all(reading.given)
    return values.finish(path)


def load_file(path: Path, section: str = "rtpengine", *, strict: bool = True) -> Configuration:
    """Put the settings of one file together, without environment and command line.

    Args:
        strict: options that we refuse are problems; else they are warnings, for translating a file.
    Raises:
        ConfigProblemsError: see ``load_configuration``.
    """
    reading = read_file(path, section)
    values = _Values(strict=strict)
    values.problems += reading.problems
    values.warnings += reading.warnings
    values.take_all(reading.given)
    return values.finish(path)


class _Values:
    """Collects parsed values in rising order of precedence."""

    def __init__(self, *, strict: bool = True) -> None:
        self._strict = strict
        self.values: dict[str, Any] = {}  # each kind has its own type
        self.sources: dict[str, str] = {}
        self.problems: list[ConfigError] = []
        self.warnings: list[str] = []

    def take_all(self, given: Sequence[Given]) -> None:
        """Take what one source gave: it replaces what sources before it gave."""
        taken: dict[str, list[Any]] = {}
        for each in given:
            option = OPTION_BY_NAME.get(each.key)
            if option is None:
                self._take_foreign(each)
                continue
            if each.origin is Origin.FILE and not option.in_files:
                self.problems.append(ConfigError(each.source, each.spelling, "cannot be set in a file"))
                continue
            values = self._parse(option, each)
            if values is None:
                continue
            if option.repeated:
                taken.setdefault(option.name, []).extend(values)
                self.values[option.name] = tuple(taken[option.name])
            else:
                self.values[option.name] = values[-1]
            self.sources[option.name] = each.place

    def _take_foreign(self, given: Given) -> None:
        option = FOREIGN_BY_NAME[given.key]
        if option.is_moot(_as_text(given.value)):
            return
        if option.status is Status.REFUSED and self._strict:
            self.problems.append(ConfigError(given.source, given.spelling, option.reason))
        else:
            self.warnings.append(f"{given.source}: {given.spelling}: {option.reason}")

    def _parse(self, option: Option, given: Given) -> list[Any] | None:
        """The values given; ``None`` after a problem."""
        if option.repeated and isinstance(given.value, list):
            parts: list[object] = given.value
        elif option.repeated and isinstance(given.value, str):
            parts = [part for part in re.split("[;,]", given.value) if part.strip()]
            if not parts and given.origin is Origin.COMMAND_LINE:
                # More likely a shell variable without a value than the wish for the default.
                reason = f"is empty; leave it out for the default, or give {option.kind.expects}"
                self.problems.append(ConfigError(given.source, given.spelling, reason))
                return None
        else:
            parts = [given.value]
        values = []
        good = True
        for part in parts:
            try:
                if given.origin is Origin.FILE and isinstance(part, str):
                    values.append(option.kind.parse(_without_trailing_words(option, part)))
                elif isinstance(part, str):
                    values.append(option.kind.parse(part))
                else:
                    values.append(option.kind.parse_toml(part))
            except ValueError as error:
                shown = repr(part) if isinstance(part, str) else _as_text(part)
                self.problems.append(
                    ConfigError(given.source, given.spelling, f"{shown} {error}; expected {option.kind.expects}")
                )
                good = False
        return values if good else None

    def finish(self, path: Path | None) -> Configuration:
        """Fill in the defaults and check what concerns several options.

        Raises:
            ConfigProblemsError: anything was wrong, here or before.
        """
        for option in OPTIONS:
            if option.name not in self.values or (option.repeated and not self.values[option.name]):
                self.values[option.name] = option.default
                self.sources[option.name] = "default"
        self.values["config-file"] = path
        if (self.values["table"] or 0) < 0 and self.sources["kernel-path"] == "default":
            self.values["kernel-path"] = KernelPath.USERSPACE
            self.sources["kernel-path"] = f"{self.sources['table']}, table"
        try:
            check_port_range(self.values["port-min"], self.values["port-max"])
        except ValueError as error:
            guilty = max(("port-min", "port-max"), key=lambda name: self.sources[name] != "default")
            self.problems.append(ConfigError(self.sources[guilty], guilty, f"together with the other end it {error}"))
        if self.problems:
            raise ConfigProblemsError(self.problems)
        for name in sorted({spec.name for spec in self.values["interface"] if ":" in spec.name}):
            self.warnings.append(
                f"interface: {name}: taking the members of BASE:SUFFIX in turn is not implemented yet; "
                "`direction` must name each in full"
            )
        settings = Settings(**{option.field: self.values[option.name] for option in OPTIONS})
        return Configuration(settings, self.sources, tuple(self.warnings), path)


def _without_trailing_words(option: Option, text: str) -> str:
    """rtpengine's INI reader takes the number and ignores what follows a space: ``timeout = 60 # seconds``."""
    if isinstance(option.kind, Integer | OptionalInteger | Seconds) and (words := text.split()):
        return words[0]
    return text


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
