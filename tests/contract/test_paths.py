"""Where things lie, and that what is private stays so."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import paths


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """With a path that is short enough for sockets, as pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ew-") as parent:
        monkeypatch.setenv("EW_STATE_DIR", f"{parent}/state")
        yield Path(parent, "state")


def test_everything_of_a_state_directory_lies_in_it(state: Path) -> None:
    assert paths.state_dir() == state
    assert paths.keys_path() == state / "keys.json"
    assert paths.logs_dir() == state / "logs"


def test_a_project_elsewhere_has_all_but_ews_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EW_STATE_DIR", raising=False)
    monkeypatch.delenv("EW_CONFIG", raising=False)
    monkeypatch.setenv("EW_HOME", "/srv/ew")
    project = Path("/srv/ew")
    assert paths.project_dir() == project
    assert paths.config_path() == project / "deploy" / "config.json"
    assert (paths.state_dir(), paths.logs_dir()) == (project / ".ew", project / "logs")
    assert (paths.ROOT / "contract" / "paths.py").is_file()


def test_without_a_variable_things_lie_in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EW_STATE_DIR", raising=False)
    monkeypatch.delenv("EW_CONFIG", raising=False)
    monkeypatch.delenv("EW_HOME", raising=False)
    assert paths.state_dir() == paths.ROOT / ".ew"
    assert paths.logs_dir() == paths.ROOT / "logs"
    assert paths.config_path() == paths.ROOT / "deploy" / "config.json"
    assert (paths.ROOT / "contract" / "paths.py").is_file()


def test_variables_say_where_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EW_STATE_DIR", "relative")
    monkeypatch.setenv("EW_CONFIG", "/etc/ew.json")
    assert paths.state_dir() == tmp_path / "relative"
    assert paths.config_path() == Path("/etc/ew.json")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_directory_for_sockets_is_private_whatever_the_umask(state: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert stat.S_IMODE(paths.make_run_dir().stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_directory_for_sockets_that_others_may_enter_is_closed(state: Path) -> None:
    (state / "run").mkdir(parents=True)
    (state / "run").chmod(0o755)
    assert stat.S_IMODE(paths.make_run_dir().stat().st_mode) == 0o700


def test_sockets_of_a_state_directory_with_a_long_path_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tempfile.mkdtemp(prefix="ew-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    found = []
    for name in ("x" * 100, "y" * 100):
        monkeypatch.setenv("EW_STATE_DIR", str(tmp_path / name))
        found.append(paths.make_run_dir())
    assert found[0] != found[1]
    assert {path.parent for path in found} == {Path(runtime)}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(found[0] / "valkey-12345678.sock"))
    shutil.rmtree(runtime)


def test_somebody_elses_directory_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.make_run_dir()
    monkeypatch.setattr(os, "getuid", lambda: (state / "run").stat().st_uid + 1)
    with pytest.raises(PermissionError, match="belongs to another user; set EW_STATE_DIR"):
        paths.make_run_dir()


def test_a_link_in_place_of_the_directory_is_refused(state: Path) -> None:
    elsewhere = state / "elsewhere"
    elsewhere.mkdir(parents=True)
    elsewhere.chmod(0o755)
    (state / "run").symlink_to(elsewhere)
    with pytest.raises(PermissionError):
        paths.make_run_dir()
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


def test_looking_for_the_directory_makes_nothing(state: Path) -> None:
    assert paths.run_dir() == state / "run"
    assert not state.exists()
