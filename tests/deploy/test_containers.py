"""The files of deploy/containers: linted, and run without a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.client.reach import has_unfinished_run
from tests.deploy.tools import DEPLOY, tool
from tests.orchestrator.conftest import Host
from tests.orchestrator.conftest import host as host
from tests.orchestrator.conftest import terminal as terminal
from tests.orchestrator.terminal import Terminal
from tests.waiting import eventually

pytestmark = pytest.mark.slow
FILES = DEPLOY / "containers"


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.engine"])
def test_hadolint_knows_no_fault(name: str) -> None:
    done = subprocess.run(
        [tool("hadolint"), FILES / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


# Two starts, a stop, and some twenty commands: on a busy machine more than a minute.
@pytest.mark.timeout(300)
def test_a_killed_container_starts_again_and_a_stop_ends_all(
    host: Host, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.configure(demo={})
    engines = tmp_path / "envs"
    engines.mkdir()
    environment = terminal.environment | {"ENGINES_DIR": str(engines)}
    log = tmp_path / "log"

    def run() -> subprocess.Popen[bytes]:
        command = [FILES / "entrypoint.sh", "start", "--foreground"]
        with log.open("ab") as out:
            return subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    def passes(check: str) -> bool:
        command = [sys.executable, FILES / check]
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    def is_live() -> bool:
        return passes("is-live.py")

    assert not is_live()
    assert not passes("is-ready.py")
    container = run()
    eventually(is_live, 60)
    eventually(lambda: passes("is-ready.py"), 60)
    assert (terminal.state / "envs").resolve() == engines

    # As a container ends: all at once, and the state stays as it was.
    container.send_signal(signal.SIGSTOP)
    for process in host.processes():
        os.kill(process.pid, signal.SIGKILL)
    container.kill()
    container.wait()
    assert has_unfinished_run()

    said = len(log.read_text())
    container = run()
    # A stop in the middle of a start would be an interruption.
    eventually(lambda: "Ctrl-C stops everything" in log.read_text()[said:], 60)
    assert is_live()
    container.terminate()
    assert container.wait(40) == 0, log.read_text()
    assert host.processes() == []
