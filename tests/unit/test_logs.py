"""Log lines: their form, what is left out by level, and where they go."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mediaproxy.logs import (
    FileDestination,
    LogFormat,
    Logger,
    LogLevel,
    LogSink,
    StderrDestination,
    SyslogDestination,
    make_logger,
    open_destination,
    take_library_logs,
)
from tests.support.log_lines import Lines


class Unprintable:
    def __str__(self) -> str:
        raise AssertionError("was formatted")


def make(form: LogFormat = LogFormat.HUMAN, level: LogLevel = LogLevel.INFO) -> tuple[Logger, Lines, LogSink]:
    lines = Lines()
    sink = LogSink(lines, level, form, timestamps=False)
    return make_logger(sink), lines, sink


def test_human_line_has_the_call_id_first() -> None:
    logger, lines, _ = make()
    logger.info("answer", medias=2, call_id="c1@host", to_tag="t 1")
    assert lines.lines == ['[c1@host] info answer medias=2 to_tag="t 1"']


def test_line_without_a_call_says_so() -> None:
    logger, lines, _ = make()
    logger.notice("started")
    assert lines.lines == ["[-] notice started"]


def test_parsable_line_has_rtpengines_prefix() -> None:
    logger, lines, _ = make(LogFormat.PARSABLE)
    logger.warning("x", call_id='a"b')
    logger.warning("y")
    assert lines.lines == ['[ID="a\\"b"] warning x', "warning y"]


def test_json_line_has_the_call_id_as_first_key() -> None:
    logger, lines, _ = make(LogFormat.JSON)
    logger.error("x", n=1, call_id="c\udcff", what=Path("/a"))
    assert list(json.loads(lines.lines[0]).items()) == [
        ("call_id", "c\\udcff"),
        ("level", "error"),
        ("event", "x"),
        ("n", 1),
        ("what", "/a"),
    ]


def test_time_is_utc_with_milliseconds_and_can_be_left_out() -> None:
    lines = Lines()
    make_logger(LogSink(lines)).info("x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[-\] info x", lines.lines[0])


@pytest.mark.parametrize("form", LogFormat)
def test_peer_cannot_forge_a_line(form: LogFormat) -> None:
    logger, lines, _ = make(form)
    logger.info("x", call_id="a\n[b] info forged\r\x1b[2J", fact='v" k="w\n\udc80')
    assert len(lines.lines) == 1
    assert lines.lines[0].isprintable()
    lines.lines[0].encode()


def test_call_id_stays_within_its_brackets() -> None:
    logger, lines, _ = make()
    logger.info("x", call_id="a] error [b")
    assert lines.lines == ["[a\\x5d\\x20error\\x20\\x5bb] info x"]


@pytest.mark.parametrize("form", LogFormat)
def test_long_facts_are_cut_but_no_traceback(form: LogFormat) -> None:
    logger, lines, _ = make(form)
    logger.info("x", call_id="c" * 60_000, what="w" * 60_000)
    assert 512 < len(lines.lines[0]) < 700
    assert lines.lines[0].count("\N{HORIZONTAL ELLIPSIS}") == 2
    logger.error("x", traceback="t" * 5000)
    assert "t" * 5000 in lines.lines[1]


@pytest.mark.parametrize(
    ("character", "escaped"),
    [("\n", "\\n"), ("\x1b", "\\x1b"), ("\x85", "\\x85"), ("\u2028", "\\u2028"), ("\U000e0001", "\\U000e0001")],
)
def test_unprintable_characters_are_written_as_python_does(character: str, escaped: str) -> None:
    logger, lines, _ = make()
    logger.info("x", fact=character)
    assert lines.lines == [f'[-] info x fact="{escaped}"']


def test_traceback_is_indented() -> None:
    logger, lines, _ = make()
    logger.error("x", traceback="Traceback\n  File\n")
    assert lines.lines == ["[-] error x\n  | Traceback\n  |   File"]


def test_level_that_is_off_formats_nothing() -> None:
    logger, lines, sink = make(level=LogLevel.NOTICE)
    logger.info("x", fact=Unprintable())
    assert lines.lines == []
    assert not logger.is_enabled(LogLevel.INFO)
    assert sink.change_level(+1) is LogLevel.INFO
    logger.info("x", fact=1)
    assert lines.lines == ["[-] info x fact=1"]


def test_level_stays_within_the_levels() -> None:
    _, _, sink = make(level=LogLevel.DEBUG)
    assert sink.change_level(+1) is LogLevel.DEBUG
    for _ in range(9):
        sink.change_level(-1)
    assert sink.threshold is LogLevel.EMERGENCY


def test_every_method_has_its_level() -> None:
    logger, lines, _ = make(level=LogLevel.DEBUG)
    for name in ("critical", "error", "warning", "notice", "info", "debug"):
        getattr(logger, name)("x")
    assert [line.split()[1] for line in lines.lines] == ["critical", "error", "warning", "notice", "info", "debug"]


def test_context_of_a_logger_is_in_each_of_its_lines() -> None:
    lines = Lines()
    logger = make_logger(LogSink(lines, timestamps=False), instance="edge")
    logger.info("x", a=1)
    assert lines.lines == ["[-] info x instance=edge a=1"]


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("_root_logger")
def test_library_logs_arrive_with_their_traceback() -> None:
    logger, lines, _ = make()
    take_library_logs(logger)
    try:
        raise KeyError("k")
    except KeyError:
        logging.getLogger("asyncio").exception("two\nlines")
    logging.getLogger("asyncio").debug("not this")
    (line,) = lines.lines
    assert line.startswith("[-] error two\\nlines library=asyncio\n  | Traceback")


def test_file_is_opened_anew_after_rotation(tmp_path: Path) -> None:
    path = tmp_path / "m.log"
    destination = FileDestination(path)
    destination.write(LogLevel.INFO, "one\udcff")
    path.rename(tmp_path / "m.log.1")
    destination.write(LogLevel.INFO, "two")
    destination.reopen()
    destination.write(LogLevel.INFO, "three")
    destination.close()
    assert (tmp_path / "m.log.1").read_text() == "one\\udcff\ntwo\n"
    assert path.read_text() == "three\n"


def test_file_that_cannot_be_opened_anew_stays(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    destination = FileDestination(folder / "m.log")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError) as raised:
        destination.reopen()
    assert raised.value.filename == str(folder / "m.log")
    destination.write(LogLevel.INFO, "kept")
    destination.close()
    assert (tmp_path / "moved" / "m.log").read_text() == "kept\n"


def test_syslog_gets_priority_and_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        destination = SyslogDestination(path)
        destination.write(LogLevel.INFO, "[c1] info answer")
        assert daemon.recv(1000) == f"<30>mediaproxy[{os.getpid()}]: [c1] info answer".encode()
    os.unlink(path)
    assert not destination.write(LogLevel.INFO, "lost")  # the syslog daemon is away: no error
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        assert destination.write(LogLevel.ERROR, "back")  # connects anew by itself
        assert daemon.recv(1000).startswith(b"<27>")
    destination.close()


def test_syslog_that_is_busy_loses_lines_and_stays_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        destination = SyslogDestination(path)

        def reopen() -> None:
            raise AssertionError("was connected anew")

        monkeypatch.setattr(destination, "reopen", reopen)
        sent = 0
        while destination.write(LogLevel.INFO, "x"):  # nobody reads
            sent += 1
        assert sent > 0
        daemon.recv(1000)
        assert destination.write(LogLevel.INFO, "x")
        destination.close()


@pytest.mark.parametrize("form", LogFormat)
def test_unread_pipe_loses_lines_and_says_how_many(form: LogFormat) -> None:
    read_end, write_end = os.pipe()
    try:
        logger = make_logger(LogSink(StderrDestination(write_end), form=form, timestamps=False))
        for number in range(2000):  # more than the 64 KiB of a pipe; a write that waits would hang here
            logger.info("x" * 100, n=number)
        os.set_blocking(read_end, False)
        text = ""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(read_end, 65536):
                text += part.decode()
        taken = text.count("\n")
        assert 0 < taken < 2000
        logger.info("back")
        after = os.read(read_end, 65536).decode().splitlines()
        assert f"{2000 - taken} log lines lost" in after[0]
        assert "back" in after[1]
    finally:
        os.close(read_end)
        os.close(write_end)


def test_line_after_one_that_was_cut_begins_a_line() -> None:
    read_end, write_end = os.pipe()
    try:
        destination = StderrDestination(write_end)
        assert not destination.write(LogLevel.INFO, "x" * 200_000)
        assert set(os.read(read_end, 200_000)) == {ord("x")}
        assert destination.write(LogLevel.INFO, "next")
        assert os.read(read_end, 65536) == b"\nnext\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_fifo_without_a_reader_is_an_error_and_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        FileDestination(tmp_path / "fifo")


def test_destination_is_chosen_by_the_settings(tmp_path: Path) -> None:
    file = open_destination(tmp_path / "m.log", to_stderr=True)
    assert isinstance(file, FileDestination)
    file.close()
    assert isinstance(open_destination(None, to_stderr=True), StderrDestination)
    with pytest.raises(OSError, match="No such file"):
        SyslogDestination(str(tmp_path / "nobody"))


def test_stderr_destination_writes_to_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    StderrDestination().write(LogLevel.INFO, "x\udc80")
    assert capfd.readouterr().err == "x\\udc80\n"


@pytest.mark.parametrize("kind", ["plain", "symbolic link", "hard link"])
def test_log_is_given_away_only_where_it_cannot_be_somebody_elses_file(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "m.log", tmp_path / "shadow"
    other.touch()
    if kind == "symbolic link":
        path.symlink_to(other)
    elif kind == "hard link":
        path.hardlink_to(other)
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _fd, uid, gid: given.append((uid, gid)))
    destination = FileDestination(path)
    destination.give_to(7, 8)
    destination.close()
    assert given == ([(7, 8)] if kind == "plain" else [])
