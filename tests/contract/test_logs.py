"""No secret reaches a log, whoever wrote the line."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from contract.keys import make_key
from contract.logs import configure_logging


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
