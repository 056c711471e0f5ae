"""A supervisor whose run directory is deleted is found again, and what it runs is not touched."""

from __future__ import annotations

import shutil

import pytest

from contract.messages import State
from contract.paths import logs_dir, run_dir
from orchestrator.cli.operate.logs import logs
from orchestrator.client.reach import has_unfinished_run, is_running
from orchestrator.errors import UserError
from orchestrator.system.mutex import Mutex
from orchestrator.system.valkey import socket_path
from tests.orchestrator.conftest import Host
from tests.waiting import eventually


def test_a_deleted_run_directory_is_made_again(host: Host, model: str) -> None:
    host.start(host.worker(model))
    supervisor, worker = host.supervisor_pid(), host.find_worker(f"{model}-0").pid
    shutil.rmtree(run_dir())
    assert not is_running()
    eventually(lambda: is_running() and has_unfinished_run() and socket_path().exists(), 20)
    assert host.supervisor_pid() == supervisor
    assert not Mutex(run_dir() / "supervisor.mutex").acquire()
    # Else all that runs would be ended here, as left over.
    host.start(host.worker(model))
    assert host.find_worker(f"{model}-0").pid == worker
    eventually(lambda: getattr(host.status().redis, "state", None) is State.READY, 20)
    shutil.rmtree(logs_dir())
    with pytest.raises(UserError, match="were deleted while ew runs"):
        logs([])
    host.stop()
    assert host.processes() == []
