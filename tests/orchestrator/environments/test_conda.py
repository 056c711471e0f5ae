"""Environments made with conda; the program is a stand-in, see stand_in_conda.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.installation import PYTHON_VERSION, Installation
from tests.waiting import eventually

STAND_IN = Path(__file__).with_name("stand_in_conda.py")


class WithConda(Installation):
    """Where conda, or one of its family, is on the PATH."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.conda_home = directory / "conda home"
        (self.conda_home / "envs").mkdir(parents=True)
        (directory / "bin").mkdir()
        self.environment["CONDA_HOME"] = str(self.conda_home)
        self.install("conda")

    def install(self, name: str) -> None:
        program = self.directory / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
        program.chmod(0o755)

    def uninstall(self, name: str) -> None:
        (self.directory / "bin" / name).unlink()

    def calls(self) -> str:
        return (self.conda_home / "calls").read_text()


@pytest.fixture
def ew(tmp_path: Path) -> WithConda:
    installation = WithConda(tmp_path)
    installation.declare()
    return installation


def test_conda_makes_the_environment_where_it_is_installed(ew: WithConda) -> None:
    ew.run("setup", "--engine", "tiny")
    python = ew.conda_home / "envs/ew-tiny/bin/python"
    subprocess.run([python, "-c", "import tiny"], check=True)
    assert ew.stamp("ew-tiny")["manager"] == "conda"
    assert f"create --yes --quiet --name ew-tiny python={PYTHON_VERSION}" in ew.calls()
    assert "conda" in ew.run("env", "list")
    assert "there already" in ew.run("setup", "--engine", "tiny")


def test_micromamba_is_told_a_channel(ew: WithConda) -> None:
    ew.install("micromamba")
    ew.run("setup", "--engine", "tiny", "--manager", "micromamba")
    assert "--channel conda-forge" in ew.calls()


def test_uv_can_be_asked_for_instead(ew: WithConda) -> None:
    ew.run("setup", "--engine", "tiny", "--manager", "uv")
    assert ew.stamp("ew-tiny")["manager"] == "uv"
    assert not (ew.conda_home / "calls").exists()


def test_a_manager_that_is_not_installed_is_named(ew: WithConda) -> None:
    ew.uninstall("conda")
    assert "`conda` is not on the PATH" in ew.fail(
        "setup", "--engine", "tiny", "--manager", "conda"
    )


def test_an_environment_that_ew_did_not_make_is_not_touched(ew: WithConda) -> None:
    theirs = ew.conda_home / "envs/ew-tiny"
    theirs.mkdir()
    (theirs / "precious").touch()
    assert "that ew did not make" in ew.fail("setup", "--engine", "tiny")
    assert (theirs / "precious").exists()


def test_a_killed_setup_is_made_anew(ew: WithConda) -> None:
    (ew.conda_home / "stop").touch()
    process = ew.start("setup", "--engine", "tiny")
    half_made = ew.conda_home / "envs/ew-tiny/half made"
    eventually(half_made.exists, 30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (ew.conda_home / "stop").unlink()
    ew.run("setup", "--engine", "tiny")
    assert not half_made.exists()


def test_what_conda_says_when_it_fails_is_passed_on(ew: WithConda) -> None:
    (ew.conda_home / "fail").touch()
    said = ew.fail("setup", "--engine", "tiny")
    assert "PackagesNotFoundError" in said
    assert "--manager uv" in said


def test_conda_removes_what_it_made(ew: WithConda) -> None:
    ew.run("setup", "--engine", "tiny")
    ew.uninstall("conda")
    assert "is not on the PATH any more" in ew.fail("env", "remove", "ew-tiny")
    ew.install("conda")
    ew.run("env", "remove", "ew-tiny")
    assert not (ew.conda_home / "envs/ew-tiny").exists()
    assert "no environments" in ew.run("env", "list")
