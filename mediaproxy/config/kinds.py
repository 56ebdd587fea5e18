"""The kinds of values that options take: how each is read from text and from TOML, and how it is written."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Generic, TypeVar

from mediaproxy.logs import LogLevel

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

MAX_PORT: Final = 65535


class Kind(ABC, Generic[T]):
    """One kind of value.

    Attributes:
        metavar: how ``--help`` names the value.
        expects: what would be right, for error messages.
    """

    metavar: str
    expects: str

    @abstractmethod
    def parse(self, text: str) -> T:
        """Read the value from a command line, an environment variable or an INI file.

        Raises:
            ValueError: the text is not such a value; the message says why, for people.
        """

    @abstractmethod
    def write(self, value: T) -> str:
        """The text that ``parse`` reads."""

    def parse_toml(self, value: object) -> T:
        """Read the value from TOML: a string as ``parse`` would, or TOML's own type where it has one.

        Raises:
            ValueError: it is of another type, or ``parse`` refuses it.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"is {_toml_type(value)}, which is not allowed here")
        return self.parse(str(value))

    def write_toml(self, value: T) -> str:
        """The value as TOML."""
        return toml_string(self.write(value))


class Switch(Kind[bool]):
    """On or off; on the command line the bare option means on."""

    metavar = "true|false"
    expects = "true or false"

    _WORDS: Final = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)

    def parse(self, text: str) -> bool:
        try:
            return self._WORDS[text.strip().lower()]
        except KeyError:
            raise ValueError("is neither true nor false") from None

    def parse_toml(self, value: object) -> bool:
        return value if isinstance(value, bool) else super().parse_toml(value)

    def write(self, value: bool) -> str:
        return "true" if value else "false"

    def write_toml(self, value: bool) -> str:
        return self.write(value)


@dataclass(frozen=True)
class Integer(Kind[int]):
    """A whole number within bounds, both included."""

    minimum: int
    maximum: int
    example: int
    metavar: str = "INT"

    @property
    def expects(self) -> str:  # type: ignore[override]  # computed from the bounds
        return f"a whole number from {self.minimum} to {self.maximum}, such as {self.example}"

    def parse(self, text: str) -> int:
        try:
            _refuse_underscores(text)
            # rtpengine reads numbers of any base, e.g. --tos=0xb8.
            number = int(text.strip(), 0) if not re.fullmatch(r"\s*-?0\d+\s*", text) else int(text)
        except ValueError:
            raise ValueError("is not a whole number") from None
        if not self.minimum <= number <= self.maximum:
            raise ValueError("is out of range")
        return number

    def write(self, value: int) -> str:
        return str(value)

    def write_toml(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class OptionalInteger(Kind["int | None"]):
    """As ``Integer``, and ``-1`` switches the option off (``None``)."""

    inner: Integer

    @property
    def metavar(self) -> str:  # type: ignore[override]  # that of the number
        return self.inner.metavar

    @property
    def expects(self) -> str:  # type: ignore[override]  # that of the number
        return f"{self.inner.expects}, or -1 for off"

    def parse(self, text: str) -> int | None:
        return None if text.strip() == "-1" else self.inner.parse(text)

    def write(self, value: int | None) -> str:
        return "-1" if value is None else self.inner.write(value)

    def write_toml(self, value: int | None) -> str:
        return self.write(value)


class KernelTable(Kind["int | None"]):
    """rtpengine's number of a kernel table; empty means that none was given."""

    metavar = "INT"
    expects = "a whole number, such as -1 for user space"

    def parse(self, text: str) -> int | None:
        try:
            _refuse_underscores(text)
            return int(text) if text.strip() else None
        except ValueError:
            raise ValueError("is not a whole number") from None

    def write(self, value: int | None) -> str:
        return "" if value is None else str(value)


class Seconds(Kind[float]):
    """A length of time, 0 or more; fractions are allowed."""

    metavar = "SECS"
    expects = "a number of seconds, 0 or more, such as 60"

    def parse(self, text: str) -> float:
        try:
            _refuse_underscores(text)
            seconds = float(text)
        except ValueError:
            raise ValueError("is not a number") from None
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError("is no length of time")
        return seconds

    def write(self, value: float) -> str:
        return f"{value:g}" if value < 1e6 else str(int(value))

    def write_toml(self, value: float) -> str:
        return self.write(value)


@dataclass(frozen=True)
class Choice(Kind[E]):
    """One word of a closed set; the words are the values of an enum.

    Args:
        words: the enum.
        synonyms: further spellings.
    """

    words: type[E]
    synonyms: tuple[tuple[str, E], ...] = ()

    @property
    def metavar(self) -> str:  # type: ignore[override]  # computed from the words
        return "|".join(str(word.value) for word in self.words)

    @property
    def expects(self) -> str:  # type: ignore[override]  # computed from the words
        return "one of " + ", ".join(str(word.value) for word in self.words)

    def parse(self, text: str) -> E:
        wanted = text.strip().lower()
        for word in self.words:
            if wanted == word.value:
                return word
        for spelling, word in self.synonyms:
            if wanted == spelling:
                return word
        raise ValueError("is not one of the words")

    def write(self, value: E) -> str:
        return str(value.value)


_LEVEL_NAMES: Final = {level.name.lower(): level for level in LogLevel} | {
    "emerg": LogLevel.EMERGENCY,
    "crit": LogLevel.CRITICAL,
    "err": LogLevel.ERROR,
    "warn": LogLevel.WARNING,
}


class Level(Kind[LogLevel]):
    """A log level, by number or by name."""

    metavar = "0..7|NAME"
    expects = "a number from 0 to 7 or a name such as notice, info or debug"

    def parse(self, text: str) -> LogLevel:
        wanted = text.strip().lower()
        if wanted in _LEVEL_NAMES:
            return _LEVEL_NAMES[wanted]
        try:
            _refuse_underscores(wanted)
            return LogLevel(int(wanted))
        except ValueError:
            raise ValueError("is no log level") from None

    def write(self, value: LogLevel) -> str:
        return value.name.lower()


class FilePath(Kind["Path | None"]):
    """A path; empty means none."""

    metavar = "FILE"
    expects = "a path"

    def parse(self, text: str) -> Path | None:
        if "\0" in text:
            raise ValueError("has a NUL in it")
        return Path(text) if text.strip() else None

    def write(self, value: Path | None) -> str:
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Text(Kind[str]):
    """Free text of a given form."""

    pattern: str
    expects: str
    metavar: str = "STRING"

    def parse(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text.strip()):
            raise ValueError("has characters that are not allowed")
        return text.strip()

    def write(self, value: str) -> str:
        return value


def toml_string(text: str) -> str:
    """Quote a text as a TOML basic string."""
    escaped = "".join(
        f"\\{character}" if character in '\\"' else character if character.isprintable() else f"\\u{ord(character):04x}"
        for character in text
    )
    return f'"{escaped}"'


def _refuse_underscores(number: str) -> None:
    """Python reads ``1_0`` as 10, as nothing else in the neighbourhood does.

    Raises:
        ValueError: there is one.
    """
    if "_" in number:
        raise ValueError(number)


def _toml_type(value: object) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f"a {type(value).__name__}"
