"""Log lines: one event, its Call-ID first, then facts; to stderr, a file or syslog.

structlog carries the facts; what is ours is the eight levels of syslog, which can be changed while we run, and the
forms of a line. A level that is switched off costs one comparison: nothing is formatted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog

_SYSLOG_SOCKET: Final = "/dev/log"
_SYSLOG_DAEMON_FACILITY: Final = 3  # RFC 5424, section 6.2.1
_SYSLOG_MAX: Final = 8192
"""Longest datagram that syslog daemons take by default (rsyslog)."""
_FACT_MAX: Final = 256
"""Characters of a fact that are logged: peers choose some of them, and a Call-ID can be 60 KB long."""


class LogLevel(IntEnum):
    """The levels of syslog (RFC 5424, section 6.2.1); a smaller number is more severe."""

    EMERGENCY = 0
    ALERT = 1
    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


_LABELS: Final = tuple(level.name.lower() for level in LogLevel)


class LogFormat(Enum):
    """The forms of a line."""

    HUMAN = "human"
    PARSABLE = "parsable"
    JSON = "json"


class Destination(Protocol):
    """Where lines go. Writing neither raises nor waits: what can't be logged must not end or delay calls."""

    def write(self, level: LogLevel, line: str, /) -> bool:
        """Write a line; whether all of it was taken."""

    def reopen(self) -> None:
        """Open it anew.

        Raises:
            OSError: it cannot be opened; the old one stays in use. ``filename`` names it.
        """

    def close(self) -> None: ...


class _Stream:
    """A file descriptor to write lines to; its other end may be read slowly, or not at all.

    It may be shared with other processes, so it is not made non-blocking: it is asked first.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._in_line = False

    def write(self, line: str) -> bool:
        """Write as much of a line as is taken now; whether that was all."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._in_line:
            data = b"\n" + data  # a line was cut: this one must not become its end
        try:
            for start in range(0, len(data), select.PIPE_BUF):  # a writable pipe takes that much without waiting
                part = data[start : start + select.PIPE_BUF]
                if not self._poll.poll(0):
                    return False
                written = os.write(self.fd, part)
                self._in_line = written < len(part) or not part.endswith(b"\n")
                if written < len(part):
                    return False
        except OSError:
            return False
        return True


class FileDestination:
    """A file, opened anew by ``reopen`` so that it can be rotated.

    Raises:
        OSError: from the constructor: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = self._open()

    def _open(self) -> _Stream:
        # Without O_NONBLOCK to open a FIFO would wait for a reader.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        return _Stream(os.open(str(self._path), flags, 0o640))

    def write(self, _level: LogLevel, line: str, /) -> bool:
        return self._stream.write(line)

    def reopen(self) -> None:
        stream = self._open()  # first: if it can't be opened, the old one stays
        os.close(self._stream.fd)
        self._stream = stream

    def give_to(self, uid: int, gid: int) -> None:
        """Make it the file of the user that opens it anew later.

        Only a plain file with no other name: in a folder of that user's, any other could be somebody else's file.

        Raises:
            OSError: not allowed.
        """
        here, there = os.fstat(self._stream.fd), os.lstat(self._path)
        if stat.S_ISREG(there.st_mode) and there.st_nlink == 1 and os.path.samestat(here, there):
            os.fchown(self._stream.fd, uid, gid)

    def close(self) -> None:
        os.close(self._stream.fd)


class StderrDestination:
    """File descriptor 2, whatever Python thinks of ``sys.stderr``."""

    def __init__(self, fd: int = 2) -> None:
        self._stream = _Stream(fd)

    def write(self, _level: LogLevel, line: str, /) -> bool:
        return self._stream.write(line)

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


class SyslogDestination:
    """The syslog socket of this host (RFC 3164 form, as local syslog daemons expect it).

    Raises:
        OSError: from the constructor: nobody listens there.
    """

    def __init__(self, path: str = _SYSLOG_SOCKET) -> None:
        self._path = path
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            error.filename = self._path
            raise
        return connection

    def write(self, level: LogLevel, line: str, /) -> bool:
        text = f"<{_SYSLOG_DAEMON_FACILITY * 8 + level}>mediaproxy[{os.getpid()}]: {line}"
        data = text.encode("utf-8", "backslashreplace")[:_SYSLOG_MAX]
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE}:
                return False  # it is there, and busy
            with contextlib.suppress(OSError):
                self.reopen()  # the daemon was restarted
                self._socket.send(data)
                return True
            return False
        return True

    def reopen(self) -> None:
        connection = self._connect()
        self._socket.close()
        self._socket = connection

    def close(self) -> None:
        self._socket.close()


class LogSink:
    """The end of all loggers: holds the level, which may change while we run, and the destination."""

    def __init__(
        self,
        destination: Destination,
        level: LogLevel = LogLevel.INFO,
        form: LogFormat = LogFormat.HUMAN,
        *,
        timestamps: bool = True,
    ) -> None:
        self.destination = destination
        self.threshold = level
        self._form = form
        self._timestamps = timestamps
        self._lost = 0
        self._second = -1
        self._second_text = ""

    def reopen(self) -> None:
        """Open the destination anew, after log rotation.

        Raises:
            OSError: see ``Destination.reopen``.
        """
        self.destination.reopen()

    def change_level(self, step: int) -> LogLevel:
        """Log more (+1) or less (-1); stays within the levels."""
        self.threshold = LogLevel(min(max(self.threshold + step, LogLevel.EMERGENCY), LogLevel.DEBUG))
        return self.threshold

    def emit(self, level: LogLevel, event: str, facts: Mapping[str, object]) -> None:
        """Write one line. ``facts["call_id"]`` comes first, whatever its place.

        A line that the destination does not take is lost; how many were is said before the next one that it takes.
        """
        write = self._json if self._form is LogFormat.JSON else self._text
        if self._lost:
            notice = write(LogLevel.WARNING, f"{self._lost} log lines lost", {})
            if not self.destination.write(LogLevel.WARNING, notice):
                self._lost += 1
                return
            self._lost = 0
        if not self.destination.write(level, write(level, event, facts)):
            self._lost += 1

    def _text(self, level: LogLevel, event: str, facts: Mapping[str, object]) -> str:
        parts = [self._time()] if self._timestamps else []
        call_id = facts.get("call_id")
        if self._form is LogFormat.PARSABLE:
            parts.append("" if call_id is None else f'[ID="{_escape(_cut(str(call_id)))}"]')
        else:
            parts.append("[-]" if call_id is None else f"[{_escape_word(_cut(str(call_id)))}]")
        parts.append(_LABELS[level])
        parts.append(event if event.isprintable() else _escape(event))
        trace = None
        for key, value in facts.items():
            if key == "call_id":
                continue
            if key == "traceback":
                trace = str(value)
                continue
            text = _cut(value if type(value) is str else str(value))
            if not text.isprintable() or not text or " " in text or '"' in text:
                text = f'"{_escape(text)}"'
            parts.append(f"{key}={text}")
        line = " ".join(part for part in parts if part)
        # Indented, so that no line of a traceback can be taken for a log line.
        return line if trace is None else "\n  | ".join([line, *trace.rstrip().splitlines()])

    def _json(self, level: LogLevel, event: str, facts: Mapping[str, object]) -> str:
        record: dict[str, object] = {}
        if "call_id" in facts:
            record["call_id"] = _json_value(facts["call_id"])
        if self._timestamps:
            record["time"] = self._time()
        record["level"] = _LABELS[level]
        record["event"] = event
        for key, value in facts.items():
            if key != "call_id":
                record[key] = _json_text(str(value)) if key == "traceback" else _json_value(value)
        return msgspec.json.encode(record).decode()

    def _time(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"


def _escape(text: str) -> str:
    """One line, whatever a peer put into it: anything that isn't printable, and quotes, become escapes."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        f"\\{character}" if character in '"\\' else character if character.isprintable() else _escape_one(character)
        for character in text
    )


def _escape_word(text: str) -> str:
    """As ``_escape``, and nothing is left that could end the brackets around it."""
    text = _escape(text)
    if " " in text or "[" in text or "]" in text:
        return "".join(_escape_one(character) if character in " []" else character for character in text)
    return text


_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def _escape_one(character: str) -> str:
    """As Python writes it. Without a codec: the first use of one imports a file, and files may have run out."""
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cut(text: str) -> str:
    return text if len(text) <= _FACT_MAX else f"{text[:_FACT_MAX]}\N{HORIZONTAL ELLIPSIS}"


def _json_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _json_text(_cut(str(value)))


def _json_text(text: str) -> str:
    # Bytes that are no UTF-8 arrive as surrogates, which JSON can't carry.
    return text.encode("utf-8", "backslashreplace").decode()


class Logger(structlog.BoundLoggerBase):
    """What the rest of the shell logs with: one method a level, facts as keywords (``call_id`` among them)."""

    @property
    def _sink(self) -> LogSink:
        sink: LogSink = self._logger
        return sink

    def is_enabled(self, level: LogLevel) -> bool:
        """Whether lines of this level are written now."""
        return level <= self._sink.threshold

    def log(self, level: LogLevel, event: str, facts: Mapping[str, object]) -> None:
        """Write a line whose facts are a mapping already."""
        sink = self._sink
        if level <= sink.threshold:
            sink.emit(level, event, {**self._context, **facts} if self._context else facts)

    def critical(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.CRITICAL, event, facts)

    def error(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.ERROR, event, facts)

    def warning(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.WARNING, event, facts)

    def notice(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.NOTICE, event, facts)

    def info(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.INFO, event, facts)

    def debug(self, event: str, /, **facts: object) -> None:
        self.log(LogLevel.DEBUG, event, facts)


def make_logger(sink: LogSink, **context: object) -> Logger:
    """A logger that writes to ``sink``; ``context`` is added to each of its lines."""
    return Logger(sink, [], dict(context))


class _StandardLibraryHandler(logging.Handler):
    """Brings what libraries (asyncio above all) log to our sink."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._target = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = LogLevel.DEBUG
        for limit, ours in (
            (logging.CRITICAL, LogLevel.CRITICAL),
            (logging.ERROR, LogLevel.ERROR),
            (logging.WARNING, LogLevel.WARNING),
            (logging.INFO, LogLevel.INFO),
        ):
            if record.levelno >= limit:
                level = ours
                break
        facts: dict[str, object] = {"library": record.name}
        if record.exc_info:
            facts["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._target.log(level, record.getMessage(), facts)


def take_library_logs(logger: Logger) -> None:
    """Let the root logger of the standard library, and Python's warnings, write to ``logger``."""
    root = logging.getLogger()
    root.handlers = [_StandardLibraryHandler(logger)]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def open_destination(log_file: Path | None, *, to_stderr: bool) -> Destination:
    """The destination that the settings ask for: the file if given, stderr, else syslog.

    Raises:
        OSError: it cannot be opened.
    """
    if log_file is not None:
        return FileDestination(log_file)
    if to_stderr:
        return StderrDestination()
    return SyslogDestination()
