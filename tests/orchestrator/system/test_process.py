"""Child processes: which one is meant, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from contract.process.process_table import boot_id, read_entry, read_table, tree
from orchestrator.system.process import Command, Process, adopt, spawn
from orchestrator.system.reaper import Reaper
from tests.orchestrator.conftest import Host, is_alive
from tests.waiting import eventually


@pytest.fixture
def sleeper(host: Host) -> Iterator[Process]:
    command = Command(["sleep", "60"], dict(os.environ), Path("/"))
    process = spawn(command, host.directory / "sleeper.log", Reaper())
    yield process
    process.kill()
    process.close()


def test_a_child_leads_a_session_of_its_own(sleeper: Process) -> None:
    entry = read_entry(sleeper.pid)
    assert entry is not None
    assert entry.session == sleeper.pid


def test_exactly_this_process_is_adopted_and_no_other(sleeper: Process) -> None:
    identity = sleeper.identity
    assert identity.is_running()
    for other in (
        replace(identity, start_ticks=identity.start_ticks + 1),
        replace(identity, boot_id="of another boot"),
        replace(identity, pid=os.getpid()),
    ):
        assert not other.is_running()
        assert adopt(other, time.monotonic()) is None
    adopted = adopt(identity, time.monotonic() - 10)
    assert adopted is not None
    assert 9 < time.monotonic() - adopted.started < 12
    adopted.close()


def test_a_program_that_does_not_exist_is_an_error(host: Host) -> None:
    command = Command(["/nowhere/program"], {}, Path("/"))
    with pytest.raises(FileNotFoundError):
        spawn(command, host.directory / "x.log", Reaper())


def test_exit_codes_and_signals_are_told_apart(host: Host) -> None:
    reaper = Reaper()
    for script, expected in (("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM)):
        command = Command(["sh", "-c", script], dict(os.environ), Path("/"))
        process = spawn(command, host.directory / "x.log", reaper)
        assert eventually(lambda p=process: reaper.exit_code(p.pid)) == expected
        process.close()
    assert reaper.exit_code(1) is None


def test_orphans_come_to_the_reaper_and_leave_no_zombies(host: Host) -> None:
    reaper = Reaper()
    noted = host.directory / "orphan"
    command = Command(["sh", "-c", f"sleep 60 & echo $! > {noted}"], dict(os.environ), Path("/"))
    process = spawn(command, host.directory / "x.log", Reaper())
    assert eventually(lambda: not is_alive(process.pid))
    orphan = int(noted.read_text())
    entry = read_entry(orphan)
    assert entry is not None
    assert entry.parent == os.getpid()
    os.kill(orphan, signal.SIGKILL)

    def gone() -> bool:
        reaper.collect()
        return read_entry(orphan) is None and read_entry(process.pid) is None

    eventually(gone)
    process.close()


def test_killing_ends_also_those_in_other_sessions(host: Host) -> None:
    script = "setsid sleep 60 & sleep 60"
    command = Command(["sh", "-c", script], dict(os.environ), Path("/"))
    process = spawn(command, host.directory / "x.log", Reaper())
    family = eventually(
        lambda: len(found := tree(read_table(), [process.pid])) == 3 and [e.pid for e in found]
    )
    process.kill()
    eventually(lambda: not any(map(is_alive, family)))
    assert process.sweep() == []
    process.close()


def test_a_process_without_the_mark_is_never_swept(host: Host, sleeper: Process) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        sleeper.kill()
        eventually(lambda: not is_alive(sleeper.pid))
        assert stranger.poll() is None
        stranger.kill()


def test_a_name_full_of_parentheses_is_read_right(host: Host) -> None:
    program = host.directory / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        entry = eventually(
            lambda: (found := read_entry(child.pid)) and found.program == "a) b (c" and found
        )
        assert entry.parent == os.getpid()
        child.kill()


def test_the_boot_has_a_name() -> None:
    assert len(boot_id()) == 36
