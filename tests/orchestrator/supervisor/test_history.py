"""The last hour on disk."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from contract.supervision import history
from contract.supervision.history import history_path, read_history
from contract.supervision.status import GpuStatus, RunStatus
from orchestrator.supervisor.reporting import history_writer
from orchestrator.supervisor.reporting.history_writer import HistoryWriter


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(history_writer, "SAMPLE_EVERY_S", 0.0)


def status(at_unix_s: float, used_mib: int = 0) -> RunStatus:
    gpu = GpuStatus(0, "GPU-a", "card", 1000, used_mib, 1000 - used_mib)
    return RunStatus(at_unix_s, gpus=[gpu])


def test_the_file_stays_small_and_has_the_last_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "MOST_SAMPLES", 5)
    writer, now = HistoryWriter(), time.time()
    for number in range(23):
        writer.note(status(now - 23 + number, number))
        assert len(history_path().read_bytes().splitlines()) <= 10
    used = [each.gpus["GPU-a"].used_mib for each in read_history()]
    assert used[-5:] == [18, 19, 20, 21, 22]
    assert history_path().stat().st_mode & 0o077 == 0


def test_a_new_supervisor_goes_on_with_it() -> None:
    now = time.time()
    HistoryWriter().note(status(now - 2, 1))
    HistoryWriter().note(status(now - 1, 2))
    assert [each.gpus["GPU-a"].used_mib for each in read_history()] == [1, 2]


def test_what_is_older_than_an_hour_or_damaged_is_left_out() -> None:
    writer, now = HistoryWriter(), time.time()
    writer.note(status(now - history.KEPT_S - 60, 1))
    with history_path().open("ab") as file:
        file.write(b'{"at_unix_s": 17\n\xff\n')
    writer.note(status(now, 2))
    assert [each.gpus["GPU-a"].used_mib for each in read_history()] == [2]


def test_a_sample_comes_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_writer, "SAMPLE_EVERY_S", 3600.0)
    writer = HistoryWriter()
    for _ in range(3):
        writer.note(status(time.time()))
    assert len(read_history()) == 1
