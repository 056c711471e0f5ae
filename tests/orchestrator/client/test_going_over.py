"""ew is changed while it runs: commands of the new version meet a supervisor of the old one."""

from __future__ import annotations

import os
import select
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from contract.paths import run_dir
from orchestrator.cli.operate import going_over
from orchestrator.cli.operate.going_over import go_over
from orchestrator.client import connect
from orchestrator.client.connect import connect_or_spawn, spawn_supervisor
from orchestrator.errors import UserError
from orchestrator.supervisor.reporting.run_file import read_run
from orchestrator.system.process import Command
from orchestrator.system.version import version
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually

_OLDER = """
import sys
import orchestrator.system.version as ew
ew.release, ew._commit = lambda: "0.0.9", lambda: ""
from orchestrator.supervisor.daemon import main
sys.exit(main())
"""


def older_command(variables: dict[str, str]) -> Command:
    command = connect.supervisor_command()
    environment = command.environment | variables
    return Command([sys.executable, "-c", _OLDER], environment, command.cwd)


@pytest.fixture
def older(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose supervisor says that it is of ew 0.0.9; those after it are of today."""
    former = older_command({})
    with monkeypatch.context() as patch:
        patch.setattr(connect, "supervisor_command", lambda: former)
        connect_or_spawn().close()
    return host


def test_a_restart_goes_over_to_this_version(older: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    assert terminal.run("start").code == 0
    status = terminal.run("status")
    assert (
        f"what runs was started by ew 0.0.9; this is ew {version()} (`./ew restart`" in status.err
    )
    supervisor, worker = older.supervisor_pid(), older.find_worker("demo-0").pid
    valkey = older.status().redis
    restart = terminal.run("restart")
    assert restart.code == 0, restart
    assert f"the supervisor is of ew {version()} now; before, it was of ew 0.0.9" in restart.err
    assert older.supervisor_pid() != supervisor
    assert older.find_worker("demo-0").pid != worker
    after = older.status().redis
    assert valkey is not None and after is not None and after.pid == valkey.pid
    assert terminal.run("status").err == ""


def test_what_runs_goes_on_meanwhile_and_a_second_time_nothing_is_done(older: Host) -> None:
    older.start(older.worker("demo"))
    supervisor, worker = older.supervisor_pid(), older.find_worker("demo-0").pid
    assert go_over() == "ew 0.0.9"
    eventually(lambda: older.supervisor_pid() != supervisor)
    assert older.find_worker("demo-0").pid == worker
    assert go_over() == ""


def test_what_cannot_be_taken_over_is_left_as_it_is(older: Host, terminal: Terminal) -> None:
    older.start(older.worker("demo"))
    supervisor = older.supervisor_pid()
    file = run_dir() / "processes.json"
    file.write_bytes(file.read_bytes().replace(b'"spec"', b'"wanted"'))
    with pytest.raises(UserError, match="started by another version of ew") as refused:
        go_over()
    assert refused.value.hint == "`./ew stop`, then `./ew start`"
    assert f"cannot take that over: {refused.value.hint})" in terminal.run("status").err
    assert older.supervisor_pid() == supervisor


def test_a_run_file_of_before_there_was_a_version_is_read(host: Host) -> None:
    host.start(host.worker("demo"))
    file = run_dir() / "processes.json"
    fields = msgspec.json.decode(file.read_bytes())
    del fields["version"]
    file.write_bytes(msgspec.json.encode(fields))
    found = read_run()
    assert found is not None
    assert found.version == ""
    assert go_over() == "an earlier ew"


def test_a_foreground_start_goes_on_with_the_next_supervisor(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    start = terminal.spawn("start", "--foreground")
    start.expect("Ctrl-C stops everything")
    worker = host.find_worker("demo-0").pid
    host.kill_supervisor()
    start.expect("another goes on with what it ran")
    start.expect("Ctrl-C stops everything")
    assert host.find_worker("demo-0").pid == worker
    assert Path(f"/proc/{worker}").exists()
    start.sendintr()
    start.expect("valkey has stopped")
    assert start.wait() == 0
    assert host.processes() == []


def test_a_service_manager_starts_the_next_supervisor(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"NOTIFY_SOCKET": str(host.directory / "not-there")}
    command = older_command(told)
    with monkeypatch.context() as patch:
        patch.setattr(connect, "supervisor_command", lambda: command)
        host.start(host.worker("demo"))
    supervisor = os.pidfd_open(host.supervisor_pid())

    def manage() -> None:
        select.select([supervisor], [], [])
        spawn_supervisor()

    manager = threading.Thread(target=manage)
    manager.start()
    monkeypatch.setattr(going_over, "connect_or_spawn", lambda: pytest.fail("started by hand"))
    assert go_over() == "ew 0.0.9"
    manager.join()
    os.close(supervisor)
    run = read_run()
    assert run is not None
    assert run.version == version()
