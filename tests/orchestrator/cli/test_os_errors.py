"""Errors of the operating system are one line with the cure; a trace never hides it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from orchestrator import cli
from tests.orchestrator.conftest import Host, mount
from tests.orchestrator.terminal import COMMAND, Result, Terminal

READING = ["status", "models", "logs", "keys list", "config check", "stop"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "readonly"
    mount(directory, "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def assert_is_one_line_with_the_cure(said: Result, *words: str) -> None:
    assert (said.code, said.out) == (1, ""), said
    error, hint = said.err.splitlines()
    assert error.startswith("error: ")
    assert all(word in error for word in words), said
    assert hint.startswith("hint: ")
    assert "EW_STATE_DIR" in hint


def as_nobody(terminal: Terminal, *arguments: str) -> Result:
    """Run a command as a user without any rights: nothing stops root."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, with setpriv")
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *COMMAND]
    # Whatever is refused there is not what is tested here.
    reachable = subprocess.run(
        [*command, "--version"], cwd="/", env=terminal.environment, check=False
    )
    if reachable.returncode:
        pytest.skip("another user cannot run this Python")
    done = subprocess.run(
        [*command, *arguments],
        cwd="/",
        env=terminal.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", ["start", "keys add"])
def test_a_read_only_place(command: str, host: Host, terminal: Terminal, read_only: Path) -> None:
    terminal.configure(demo={})
    state = str(read_only / "state")
    said = terminal.run(*command.split(), EW_STATE_DIR=state)
    assert_is_one_line_with_the_cure(said, state, "read-only file system")


def test_reading_needs_no_writing(host: Host, terminal: Terminal, read_only: Path) -> None:
    terminal.configure(demo={})
    for command in READING:
        said = terminal.run(*command.split(), EW_STATE_DIR=str(read_only / "state"))
        assert "read-only" not in said.err
        assert "defect" not in said.err


@pytest.mark.parametrize("command", ["start", "keys add", "status", "logs"])
def test_a_file_in_place_of_the_directory(command: str, host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.state.write_text("")
    said = terminal.run(*command.split())
    terminal.state.unlink()
    assert_is_one_line_with_the_cure(said, str(terminal.state))


def test_a_full_disk(host: Host, terminal: Terminal, small_disk: Path) -> None:
    state = small_disk / "state"
    state.mkdir()
    (small_disk / "ballast").write_bytes(bytes(64 * 1024 - 4096 * 3))
    with (small_disk / "rest").open("wb") as rest:
        while True:
            try:
                os.write(rest.fileno(), bytes(4096))
            except OSError:
                break
    said = terminal.run("keys", "add", EW_STATE_DIR=str(state))
    assert_is_one_line_with_the_cure(said, "no space left on device")
    assert "df -h" in said.err
    assert not (state / "keys.json").exists()


def test_output_that_cannot_be_written_is_no_defect(host: Host, terminal: Terminal) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], env=terminal.environment, stdout=full, stderr=-1, check=False
        )
    assert done.returncode == 1
    said = done.stderr.decode()
    assert "no space left on device" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_the_state_of_another_user(host: Host, terminal: Terminal) -> None:
    terminal.configure(demo={})
    terminal.state.mkdir(mode=0o700)
    host.directory.chmod(0o755)
    for command in ("status", "keys list", "keys add", "stop"):
        said = as_nobody(terminal, *command.split())
        assert (said.code, said.out) == (1, ""), said
        assert f"{terminal.state}" in said.err
        assert "belongs to `root`" in said.err
        assert "EW_STATE_DIR" in said.err


def test_a_defect_whose_trace_cannot_be_kept_is_one_line_all_the_same(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(cli, "load_command", broken)
    state = Path(os.environ["EW_STATE_DIR"])
    state.write_text("")
    assert cli.main(["status"]) == 2
    state.unlink()
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: a defect of ew: ZeroDivisionError: oh"
    assert hint.startswith("hint: its trace could not be kept: ")


def test_a_directory_that_is_gone(host: Host, terminal: Terminal, tmp_path: Path) -> None:
    terminal.configure(demo={})
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {' '.join(COMMAND)} status"
    done = subprocess.run(
        ["sh", "-c", script],
        env=terminal.environment | {"EW_STATE_DIR": "relative", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cd" in done.stderr
    assert "Traceback" not in done.stderr
