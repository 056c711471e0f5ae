"""A backup of a running ew, and an ew that goes on with it elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import state_dir
from orchestrator.backup import append_only
from orchestrator.backup.archive import back_up
from orchestrator.backup.contents import LABEL, VALKEY
from orchestrator.backup.restoring import restore
from orchestrator.errors import UserError
from tests.orchestrator.conftest import Host
from tests.orchestrator.terminal import Terminal


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with something of everything, and its configuration."""
    directory = tmp_path / "state"
    monkeypatch.setenv("EW_STATE_DIR", str(directory))
    monkeypatch.setenv("EW_CONFIG", str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text('{"models": {}}')
    for name in ("keys.json", "files/f-1.jsonl", "batches/b-1/answers.jsonl", "envs/x/bin/python"):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    write_append_only(directory / VALKEY, 1)
    return directory


def write_append_only(directory: Path, number: int) -> None:
    """Write the files of an append-only file, and delete others, in Valkey's order."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"appendonly.aof.{number}.base.rdb", f"appendonly.aof.{number}.incr.aof"]
    for name in names:
        (directory / name).write_text(f"content of {name}")
    kinds = zip(names, "bi", strict=True)
    text = "".join(f"file {name} seq {number} type {kind}\n" for name, kind in kinds)
    (directory / "new").write_text(text)
    (directory / "new").rename(directory / append_only.MANIFEST)
    for path in directory.glob("appendonly.aof.*.*.*"):
        if path.name not in names:
            path.unlink()


def move_away(state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to another host: nothing is there, and no configuration."""
    elsewhere = state.parent / "elsewhere"
    monkeypatch.setenv("EW_STATE_DIR", str(elsewhere))
    monkeypatch.setenv("EW_CONFIG", str(state.parent / "its-config.json"))
    return elsewhere


def test_everything_is_there_again_and_private(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = state.parent / "ew.tar.gz"
    label = back_up(archive, external_redis=False)
    assert label.redis == "embedded"
    assert archive.stat().st_mode & 0o777 == 0o600
    elsewhere = move_away(state, monkeypatch)
    assert restore(archive) == (label, None)
    found = {str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*") if path.is_file()}
    assert found == {
        "keys.json",
        "files/f-1.jsonl",
        "batches/b-1/answers.jsonl",
        f"{VALKEY}/appendonly.aof.1.base.rdb",
        f"{VALKEY}/appendonly.aof.1.incr.aof",
        f"{VALKEY}/{append_only.MANIFEST}",
    }
    for name in found:
        assert (elsewhere / name).read_bytes() == (state / name).read_bytes()
        assert (elsewhere / name).stat().st_mode & 0o077 == 0
    assert (elsewhere / "valkey").stat().st_mode & 0o077 == 0
    assert (state.parent / "its-config.json").read_text() == '{"models": {}}'


def test_an_append_only_file_that_is_written_anew_meanwhile_is_of_one_time(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    names = append_only._names

    def named(manifest: bytes) -> list[str]:
        """Twice, Valkey writes others between the manifest and its files."""
        opened.append(len(opened))
        if len(opened) <= 2:
            write_append_only(state / VALKEY, 1 + len(opened))
        return names(manifest)

    monkeypatch.setattr(append_only, "_names", named)
    with append_only.held_open(state / VALKEY) as found:
        assert found is not None
        write_append_only(state / VALKEY, 9)
        assert found.manifest.count(b"seq 3") == 2
        texts = {name: file.read().decode() for name, file in found.files.items()}
    assert texts == {name: f"content of {name}" for name in texts}
    assert len(opened) == 3


def test_data_of_an_external_redis_is_not_in_it(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = state.parent / "ew.tar.gz"
    assert back_up(archive, external_redis=True).redis == "external"
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.startswith("valkey")]


def test_nothing_is_overwritten(state: Path) -> None:
    archive = state.parent / "ew.tar.gz"
    back_up(archive, external_redis=False)
    with pytest.raises(UserError, match="is there already"):
        back_up(archive, external_redis=False)
    shutil.rmtree(state / "valkey")
    shutil.rmtree(state / "files")
    before = (state / "keys.json").read_text()
    with pytest.raises(UserError, match="batches is there already"):
        restore(archive)
    assert not (state / "valkey").exists()
    assert (state / "keys.json").read_text() == before
    assert not list(state.glob("tmp*"))


def test_another_configuration_stays(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = state.parent / "ew.tar.gz"
    back_up(archive, external_redis=False)
    elsewhere = move_away(state, monkeypatch)
    (state.parent / "its-config.json").write_text("{}")
    assert restore(archive).config_aside == elsewhere / "config.json.restored"
    assert (state.parent / "its-config.json").read_text() == "{}"
    assert (elsewhere / "config.json.restored").read_text() == '{"models": {}}'


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-200])


def replace_by_text(archive: Path) -> None:
    archive.write_text("no archive at all")


def escape(archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        for name in (LABEL, "files/../../outside"):
            content = json.dumps({"ew": "", "made_unix_s": 0, "redis": "none"}).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "is no whole backup"),
        (replace_by_text, "is no whole backup"),
        (escape, "which no backup of ew has"),
        (Path.unlink, "cannot be restored"),
    ],
)
def test_what_is_no_backup_changes_nothing(
    state: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], message: str
) -> None:
    (state / "files" / "noise").write_bytes(os.urandom(4096))
    archive = state.parent / "ew.tar.gz"
    back_up(archive, external_redis=False)
    harm(archive)
    elsewhere = move_away(state, monkeypatch)
    with pytest.raises(UserError, match=message):
        restore(archive)
    assert list(elsewhere.iterdir()) == []
    assert not (state.parent / "outside").exists()


def test_an_ew_goes_on_elsewhere_with_its_keys_and_what_they_used(
    host: Host, terminal: Terminal
) -> None:
    terminal.configure(demo={"engine_args": {"default_tokens": 7}})
    assert terminal.run("quickstart").code == 0
    archive = host.directory / "ew.tar.gz"
    assert terminal.run("backup", str(archive)).code == 0
    used = json.loads(terminal.run("usage", "--json").out)["usage"]
    assert [each["completion_tokens"] for each in used] == [7]
    refused = terminal.run("restore", str(archive))
    assert "error: ew runs\nhint: " in refused.err
    assert terminal.run("stop").code == 0
    shutil.rmtree(state_dir())
    assert terminal.run("restore", str(archive)).code == 0
    assert terminal.run("start").code == 0
    assert json.loads(terminal.run("usage", "--json").out)["usage"] == used
    assert len(json.loads(terminal.run("keys", "list", "--json").out)) == 1
