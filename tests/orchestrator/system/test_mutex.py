"""The mutex that makes one supervisor."""

from __future__ import annotations

from pathlib import Path

from orchestrator.system.mutex import Mutex


def test_only_one_holds_it_and_the_file_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "mutex"
    first, second = Mutex(path), Mutex(path)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert not path.exists()
    assert second.acquire()
    second.release()


def test_a_mutex_whose_file_was_removed_and_made_anew_is_not_shared(tmp_path: Path) -> None:
    path = tmp_path / "mutex"
    first, second, third = Mutex(path), Mutex(path), Mutex(path)
    assert first.acquire()
    path.unlink()
    assert second.acquire()
    assert not third.acquire()
    second.release()
    first.release()


def test_a_mutex_whose_file_was_deleted_is_held_again_unless_another_has_it(tmp_path: Path) -> None:
    first, second = Mutex(tmp_path / "m"), Mutex(tmp_path / "m")
    assert not first.is_held
    assert first.acquire()
    assert first.is_held
    (tmp_path / "m").rename(tmp_path / "n")
    assert not first.is_held
    assert not first.was_deleted
    (tmp_path / "n").unlink()
    assert first.was_deleted
    assert second.acquire()
    assert not first.renew()
    second.release()
    assert first.renew()
    assert first.is_held
    assert not second.acquire()
    first.release()
