"""The version of a clone: what its code is, whatever its user has configured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from contract.release import release
from orchestrator.system import version as module


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with code and a configuration."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/config.json").write_text("{}")
    (tmp_path / "code.py").write_text("")
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "first")):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def test_a_change_of_the_code_is_another_version_and_one_of_the_configuration_is_not(
    clone: Path,
) -> None:
    told = module.version.__wrapped__
    before = told()
    assert before.startswith(f"{release()} (")
    assert "changed" not in before
    (clone / "deploy/config.json").write_text('{"models": {}}')
    (clone / "new.txt").write_text("")
    assert told() == before
    (clone / "code.py").write_text("print()")
    assert told() == before.removesuffix(")") + ", changed)"


def test_what_is_no_clone_has_the_release_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert module.version.__wrapped__() == release()
