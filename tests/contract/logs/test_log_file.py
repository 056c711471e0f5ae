"""Logs that grow, and are rotated, while they are read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from contract.logs.file import LogFile, logs_of
from contract.logs.line import LogLine, merged, parse
from contract.logs.rotation import aside, open_privately, rotate
from orchestrator.protocol.diagnosis import read_tail
from orchestrator.system.process import Command, detach, open_log

DAY = "2026-01-31T"


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\ntwo\nthree\n")
    log = LogFile(path)
    assert texts(log.last(2)) == ["two", "three"]
    assert log.new_lines() == []
    with path.open("a") as file:
        file.write("four\nfi")
    assert texts(log.new_lines()) == ["four"]
    with path.open("a") as file:
        file.write("ve\n")
    assert texts(log.new_lines()) == ["five"]


def test_the_last_lines_of_a_long_log_are_found_over_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    lines = [f"{number} {'x' * (number % 200)}" for number in range(5000)]
    aside(path).write_text("\n".join(lines[:3000]) + "\n")
    path.write_text("\n".join(lines[3000:]) + "\nhalf a li")
    assert texts(LogFile(path).last(None)) == [*lines, "half a li"]
    assert texts(LogFile(path).last(2500)) == [*lines[-2499:], "half a li"]
    assert LogFile(path).last(0) == []


def test_a_log_that_was_begun_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a long first line\n")
    log = LogFile(path)
    log.last(1)
    path.write_text("new\n")
    assert texts(log.new_lines()) == ["new"]


def test_a_model_has_the_logs_of_its_workers_and_not_those_of_its_namesakes(
    tmp_path: Path,
) -> None:
    for name in ("m-0", "m-1", "m-2b-0", "gateway", "valkey"):
        (tmp_path / f"{name}.log").touch()
    aside(tmp_path / "m-0.log").touch()
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
    assert aside(path).stat().st_size == 51 * 1024 * 1024


def test_what_was_rotated_since_the_start_has_no_old_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("after the rotation\n")
    assert read_tail(path, start=10_000) == ["after the rotation"]


def test_a_follower_misses_nothing_of_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("one\n")
    log = LogFile(path)
    log.last(1)
    with open_privately(path) as writer:
        writer.write(b"two\nthr")
        writer.flush()
        assert rotate(path, beyond_bytes=1)
        writer.write(b"ee\nfour\n")
    assert texts(log.new_lines()) == ["two", "three", "four"]
    assert texts(LogFile(path).last(None)) == ["one", "two", "thr", "ee", "four"]


WRITER = """
import sys, time
for number in range(3000):
    sys.stdout.write(f"{number}\\n"); sys.stdout.flush(); time.sleep(0.0002)
"""


def test_a_child_writes_on_while_its_log_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.touch()
    follower = LogFile(path)
    seen: list[str] = []
    with open_privately(path) as log:
        child = subprocess.Popen([sys.executable, "-c", WRITER], stdout=log)
    rotations = 0
    while child.poll() is None:
        seen += texts(follower.new_lines())
        rotations += rotate(path, beyond_bytes=2000)
        time.sleep(0.005)
    seen += texts(follower.new_lines())
    assert rotations > 1
    # Copying and cutting cannot be one step; what falls between is rare, and nothing else is lost,
    # told twice or torn.
    numbers = [int(line) for line in seen]
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 3000 - 3 * rotations
    assert numbers[-1] == 2999


@pytest.mark.parametrize("mode", [None, 0o644])
def test_logs_are_for_their_owner_alone(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "x.log"
    if mode is not None:
        path.touch(mode)
    pid = detach(Command([sys.executable, "-c", "print('x' * 99)"], {}, tmp_path), path)
    os.waitpid(pid, 0)
    rotate(path, beyond_bytes=1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert aside(path).stat().st_mode & 0o777 == 0o600


def test_lines_say_what_they_are() -> None:
    ours = parse("m-0", f"{DAY}12:00:00.123+01:00 WARNING m-0-ab workers.job_consumer: lost: a")
    assert ours.as_json() == {
        "time": f"{DAY}12:00:00.123+01:00",
        "unit": "m-0",
        "process": "m-0-ab",
        "level": "WARNING",
        "message": "workers.job_consumer: lost: a",
    }
    valkey = parse("valkey", f"12:M {DAY}12:00:00.123+00:00 # Memory is short")
    assert (valkey.process, valkey.level, valkey.message) == (
        "valkey",
        "WARNING",
        "Memory is short",
    )
    engine = parse("m-0", "(EngineCore pid=7) INFO 01-31 12:00:00 [core.py:1] loading")
    assert (engine.time, engine.level, engine.message) == (None, "INFO", engine.text)
    assert parse("m-0", "INFORMAL").level is None


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_logs_are_merged_by_time_whatever_the_zone(tmp_path: Path) -> None:
    worker = write(
        tmp_path / "m-0.log",
        "before any time",
        f"{DAY}12:00:01.000+00:00 INFO m-0 a: second",
        "an engine's line",
        "and another",
        f"{DAY}12:00:03.000+00:00 INFO m-0 a: fourth",
    )
    gateway = write(
        tmp_path / "gateway.log",
        f"{DAY}13:00:00.000+01:00 INFO gateway a: first",
        f"{DAY}07:00:02.000-05:00 INFO gateway a: third",
    )
    lines = merged([LogFile(path).last(None) for path in (worker, gateway)])
    assert [line.message.removeprefix("a: ") for line in lines] == [
        "first",
        "before any time",
        "second",
        "an engine's line",
        "and another",
        "third",
        "fourth",
    ]


def test_since_leaves_out_what_is_older_and_what_belongs_to_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m-0.log",
        f"{DAY}12:00:01.000+00:00 INFO m-0 a: old",
        "    of the old one",
        f"{DAY}12:00:03.000+00:00 INFO m-0 a: new",
        "    of the new one",
    )
    since = datetime.fromisoformat(f"{DAY}12:00:02.000+00:00").timestamp()
    lines = LogFile(path).last(None, since)
    assert [line.message for line in lines] == ["a: new", "    of the new one"]


def test_a_log_without_any_time_stands_where_it_was_last_written(tmp_path: Path) -> None:
    path = write(tmp_path / "setup-x.log", "Resolved 3 packages")
    assert LogFile(path).last(None, time.time() - 60)
    assert not LogFile(path).last(None, time.time() + 60)


def test_a_clock_that_was_set_back_changes_no_order(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m-0.log",
        f"{DAY}12:00:05.000+00:00 INFO m-0 a: one",
        f"{DAY}11:00:00.000+00:00 INFO m-0 a: two",
    )
    assert [line.message for line in merged([LogFile(path).last(None)])] == ["a: one", "a: two"]
