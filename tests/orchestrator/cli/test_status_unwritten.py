"""`ew status` beside a supervisor that has written no status, as the disk is full."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from contract.paths import make_run_dir
from contract.supervision.control import socket_path
from orchestrator.cli.operate.status import status
from orchestrator.errors import UserError


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))


def test_it_is_not_said_that_nothing_runs(tmp_path: Path) -> None:
    make_run_dir()
    with closing(socket.socket(socket.AF_UNIX)) as supervisor:
        supervisor.bind(str(socket_path()))
        supervisor.listen()
        with pytest.raises(UserError, match="ew runs, but its status was not written yet") as found:
            status(as_json=False, watch=False)
    assert f"df -h {tmp_path / 'state'}" in found.value.hint


def test_where_there_is_no_supervisor_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    status(as_json=False, watch=False)
    assert "nothing runs" in capsys.readouterr().out
