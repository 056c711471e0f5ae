"""No secret reaches a log, in whatever line."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from contract.keys import make_key
from contract.process.flood import BURST, WINDOW_S
from contract.process.logs import configure_logging


@pytest.fixture(autouse=True)
def root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(capsys: pytest.CaptureFixture[str], *message: object) -> str:
    configure_logging("m-0")
    logging.getLogger("some.module").warning(*message)
    return capsys.readouterr().err


def test_a_line_says_when_how_grave_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(capsys, "job %s is lost", "a")
    assert line.endswith(" WARNING m-0 some.module: job a is lost\n")


def test_api_keys_are_blanked_but_for_their_id(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_key(), make_key()
    line = logged(capsys, "refused %s, and %r", first.text, {"authorization": second.text})
    for key in (first, second):
        assert key.text.split("_")[2] not in line
        assert f"ew_{key.record.id}_..." in line


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@host:6379/0",
        "redis://:hunter2@host",
        "rediss://user:p@hunter2@host/0",
        "redis://user:hunter2:x@host",
    ],
)
def test_passwords_in_urls_are_blanked(capsys: pytest.CaptureFixture[str], url: str) -> None:
    line = logged(capsys, "cannot connect to %s (timeout)", url)
    assert "hunter2" not in line
    assert "@host" in line
    assert line.endswith("(timeout)\n")


@pytest.mark.parametrize(
    "harmless", ["http://127.0.0.1:8080/v1", "unix:///run/v.sock", "mail a@b.c at 10:30"]
)
def test_what_is_no_secret_stays(capsys: pytest.CaptureFixture[str], harmless: str) -> None:
    assert harmless in logged(capsys, harmless)


def test_a_traceback_is_blanked_too(capsys: pytest.CaptureFixture[str]) -> None:
    key = make_key().text
    configure_logging("m-0")
    try:
        raise ValueError(f"bad key {key}")
    except ValueError:
        logging.getLogger("some.module").exception("failed")
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert key not in said


def test_the_level_comes_from_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_LOG_LEVEL", "error")
    assert logged(capsys, "quiet") == ""


def test_a_time_has_its_zone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        line = logged(capsys, "hello")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:30 WARNING", line)


def test_a_message_cannot_forge_a_line_nor_order_a_terminal_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forged = "upstream said x\r\n2026-01-01T00:00:00.000+00:00 ERROR m-0 a: b\x1b[2J\x9b1m\x07"
    line = logged(capsys, "%s", forged)
    assert line.count("\n") == 1
    assert r"x\r\n2026" in line
    assert r"\x1b[2J\x9b1m\x07" in line


def test_the_lines_of_a_traceback_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("m-0")
    try:
        raise ValueError("one\n2026-01-01T00:00:00.000+00:00 ERROR m-0 a: b\x1b[2J")
    except ValueError:
        logging.getLogger("some.module").exception("failed")
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("    ") for line in rest)
    assert r"\x1b" in rest[-1]


def flood(lines: int, level: int = logging.WARNING) -> None:
    for number in range(lines):
        logging.getLogger("some.module").log(level, "job %d is lost", number)


def test_a_flood_from_one_place_is_a_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endings = []
    now = time.monotonic()

    def timer(after_s: float, end: Callable[..., None], arguments: list[object]) -> threading.Timer:
        endings.append(partial(end, *arguments))
        return threading.Timer(0, lambda: None)

    monkeypatch.setattr("contract.process.flood.monotonic", lambda: now)
    monkeypatch.setattr("contract.process.flood.Timer", timer)
    configure_logging("m-0")
    flood(BURST + 500)
    logging.getLogger("some.module").warning("another place is heard")
    written = capsys.readouterr().err.splitlines()
    assert len(written) == BURST + 1
    assert written[-1].endswith("another place is heard")
    now += WINDOW_S
    endings.pop()()
    told = capsys.readouterr().err
    assert told.endswith(f"500 more lines like this: job {BURST + 499} is lost\n")
    flood(1)
    assert capsys.readouterr().err.endswith("job 0 is lost\n")
    assert not endings


def test_a_process_that_ends_tells_what_it_has_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("m-0")
    flood(BURST + 7)
    logging.getLogger().handlers[0].close()
    assert "7 more lines like this" in capsys.readouterr().err.splitlines()[-1]


def test_who_asks_for_everything_gets_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_LOG_LEVEL", "debug")
    configure_logging("m-0")
    flood(BURST + 7, logging.DEBUG)
    assert len(capsys.readouterr().err.splitlines()) == BURST + 7
