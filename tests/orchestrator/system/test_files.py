"""A file that replaces another is on the disk before it has the other's name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.config.key_file import KeyFile
from orchestrator.system.files import put_in_place, write_atomically


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls to the system: `sync NAME`, `replace NAME`."""
    calls = []
    sync, replace = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        calls.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def note_replace(scratch: Path, target: Path) -> Path:
        calls.append(f"replace {target.name}")
        return replace(scratch, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    return calls


def test_the_content_is_synced_before_the_name_and_then_the_folder(
    tmp_path: Path, done: list[str]
) -> None:
    write_atomically(tmp_path / "facts", b"new")
    scratch = f".facts.{os.getpid()}"
    assert done == [f"sync {scratch}", "replace facts", f"sync {tmp_path.name}"]
    assert (tmp_path / "facts").read_bytes() == b"new"
    done.clear()
    (tmp_path / "other").write_bytes(b"newer")
    put_in_place(tmp_path / "other", tmp_path / "facts")
    assert done == ["sync other", "replace facts", f"sync {tmp_path.name}"]


def test_a_new_key_outlives_a_power_cut(tmp_path: Path, done: list[str]) -> None:
    KeyFile(tmp_path / "keys.json").add("a")
    assert done[0].startswith("sync .keys.json.")
    assert done[1:] == ["replace keys.json", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "made/private", b"")
        write_atomically(tmp_path / "public", b"", mode=0o644)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("made", "made/private")]
    assert modes == [0o700, 0o600]
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644


def test_who_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "facts", b"old")

    def fail(descriptor: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        write_atomically(tmp_path / "facts", b"new")
    assert (tmp_path / "facts").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["facts"]
