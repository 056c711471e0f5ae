"""Only its user can have put anything into ew's state, whichever command came first."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from contract.keys import KeyFileError, read_keys
from contract.paths import make_private
from orchestrator.errors import UserError
from orchestrator.system.ownership import require_own_state
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import COMMAND, Result, Terminal

STRANGER = 65534


def modes(directory: Path) -> dict[str, int]:
    """Return what others may do with the directory and what is in it."""
    found = [directory, *directory.rglob("*")]
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.lstat().st_mode) & 0o077
        for path in found
        if not path.is_symlink()
    }


def run_open(terminal: Terminal, *arguments: str) -> Result:
    """Run a command with a umask that closes nothing, in a project whose state has no place of
    its own."""
    environment = {**terminal.environment, "EW_HOME": str(terminal.config.parent)}
    del environment["EW_STATE_DIR"]
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        umask=0,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("first", ["keys add", "start", "status", "keys list", "logs"])
def test_whatever_comes_first_others_see_nothing(
    first: str, host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    state = terminal.config.parent / ".ew"
    try:
        run_open(terminal, *first.split())
        assert run_open(terminal, "start").code == 0
        assert run_open(terminal, "keys", "add").code == 0
        assert {name: mode for name, mode in modes(state).items() if mode} == {}
        logs = terminal.config.parent / "logs"
        assert {name: mode for name, mode in modes(logs).items() if mode} == {}
    finally:
        run_open(terminal, "stop", "--now")


def test_a_state_that_was_open_is_closed(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    state = terminal.config.parent / ".ew"
    state.mkdir()
    state.chmod(0o775)
    assert run_open(terminal, "status").code == 0
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_place_that_was_chosen_is_left_as_it_is_but_not_trusted(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={})
    make_private(terminal.state)
    terminal.state.chmod(0o755)
    assert terminal.run("status").code == 0
    assert stat.S_IMODE(terminal.state.stat().st_mode) == 0o755
    terminal.state.chmod(0o775)
    said = terminal.run("status")
    assert (said.code, said.out) == (1, "")
    assert f"error: {terminal.state} can be changed by others (775)" in said.err
    assert f"`chmod go-w {terminal.state}`" in said.err


@pytest.mark.parametrize("name", ["", "envs", "run", "keys.json"])
def test_what_is_somebody_elses_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "state" / name
    make_private(path)
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    require_own_state()
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(UserError, match="belongs to") as caught:
        require_own_state()
    assert str(path) in caught.value.message
    assert "EW_STATE_DIR" in caught.value.hint


def test_a_key_file_of_somebody_else_opens_nothing(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    keys = tmp_path / "keys.json"
    keys.write_text("[]")
    keys.chmod(0o600)
    assert read_keys(keys) == {}
    os.chown(keys, STRANGER, STRANGER)
    with pytest.raises(KeyFileError, match="belongs to another user"):
        read_keys(keys)
