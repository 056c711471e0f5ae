"""Starts and stops that are asked for at once: a stop ends what was asked for before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.paths import run_dir
from contract.supervision.control import Finished
from orchestrator.client import connect
from orchestrator.client.shutdown import shut_down
from orchestrator.errors import UserError
from orchestrator.protocol.control import Answer, Control, Request, Start, Stop
from orchestrator.protocol.start_turn import StartTurn, stop_starts

REQUEST = Start(workers=[])


class SlowSupervisor(Control):
    """It says nothing to the request at first."""

    def ask(self, request: Request, *, tick_s: float = 0.2) -> Iterator[Answer | None]:
        yield None
        yield Finished([])


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))


def test_a_start_that_prepares_is_given_up_when_something_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(connect, "spawn_supervisor", lambda: pytest.fail("it started something"))
    with StartTurn() as turn:
        assert not shut_down(Stop())
        with pytest.raises(UserError, match="stopped before it had begun"):
            next(connect.ask_supervisor(REQUEST, turn))


def test_a_stop_waits_until_the_supervisor_has_heard_of_a_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "connect_or_spawn", SlowSupervisor)
    with StartTurn() as turn:
        answers = connect.ask_supervisor(REQUEST, turn)
        assert next(answers) is None
        assert not stop_starts(within_s=0)
        assert next(answers) == Finished([])
        assert stop_starts(within_s=0)
        answers.close()


def test_a_start_after_a_stop_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "connect_or_spawn", SlowSupervisor)
    with StartTurn():
        stop_starts()
        with StartTurn() as turn:
            assert list(connect.ask_supervisor(REQUEST, turn)) == [None, Finished([])]


def test_the_stop_of_one_model_gives_up_no_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connect, "connect_or_spawn", SlowSupervisor)
    with StartTurn() as turn:
        assert not shut_down(Stop(models=["other"]))
        assert list(connect.ask_supervisor(REQUEST, turn)) == [None, Finished([])]


def test_a_start_leaves_nothing_and_what_a_killed_one_left_goes_with_the_next_stop():
    with StartTurn():
        assert list(run_dir().iterdir())
    assert list(run_dir().iterdir()) == []
    StartTurn().__enter__()
    assert stop_starts(within_s=0)
    assert list(run_dir().iterdir()) == []


def test_a_stop_makes_nothing_where_nothing_was_started():
    assert stop_starts(within_s=0)
    assert not run_dir().exists()
