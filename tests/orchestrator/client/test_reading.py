"""Commands that only show something change nothing: no process, no directory, no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.client.reach import is_running
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal

READING = [
    "status",
    "status --json",
    "models",
    "logs",
    "doctor",
    "estimate --on 1x80",
    "config check",
    "config schema",
    "config reference",
    "keys list",
    "env list",
    "setup --list",
    "stop",
    "chat demo",
    "load demo",
    "--version",
]


def tree(directory: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime_ns for path in (directory, *directory.rglob("*"))}


@pytest.mark.parametrize("command", READING)
def test_looking_makes_nothing(command: str, host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    before = tree(host.directory)
    terminal.run(*command.split())
    assert tree(host.directory) == before
    assert not is_running()
    assert host.processes() == []
