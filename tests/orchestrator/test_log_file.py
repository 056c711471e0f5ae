"""Logs that grow while they are read."""

from __future__ import annotations

from pathlib import Path

from orchestrator.log_file import LogFile, logs_of
from orchestrator.process import open_log


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\nthree\n")
    log = LogFile(path)
    assert log.last(2) == ["two", "three"]
    assert log.new_lines() == []
    with path.open("a") as file:
        file.write("four\nfi")
    assert log.new_lines() == ["four"]
    with path.open("a") as file:
        file.write("ve\n")
    assert log.new_lines() == ["five"]


def test_a_log_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a long first line\n")
    log = LogFile(path)
    log.last(1)
    path.write_text("new\n")
    assert log.new_lines() == ["new"]


def test_a_model_has_the_logs_of_its_workers_and_not_those_of_its_namesakes(
    tmp_path: Path,
) -> None:
    for name in ("m-0", "m-1", "m-2b-0", "gateway", "valkey"):
        (tmp_path / f"{name}.log").touch()
    assert [path.stem for path in logs_of(tmp_path, "m")] == ["m-0", "m-1"]
    assert [path.stem for path in logs_of(tmp_path, "gateway")] == ["gateway"]
    assert len(logs_of(tmp_path, None)) == 5


def test_a_log_grown_large_is_put_aside_before_a_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert open_log(path) == 0
    path.write_text("small\n")
    assert open_log(path) == 6
    with path.open("ab") as file:
        file.truncate(51 * 1024 * 1024)
    assert open_log(path) == 0
    assert not path.exists()
    assert path.with_suffix(".log.1").stat().st_size == 51 * 1024 * 1024
