"""Engine environments: made, found, used, outdated and removed, by the real command and uv."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orchestrator.installation import Installation
from tests.tiny_wheels import make_wheel
from tests.waiting import eventually


@pytest.fixture
def ew(tmp_path: Path) -> Installation:
    installation = Installation(tmp_path)
    installation.declare()
    return installation


def version_in(environment: Path) -> str:
    """Return the version of the tiny engine that the environment's Python imports."""
    command = [environment / "bin/python", "-c", "import tiny; print(tiny.VERSION)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_is_made_proven_and_listed(ew: Installation) -> None:
    said = ew.run("setup", "--engine", "tiny")
    assert "ew-tiny is ready" in said
    assert version_in(ew.env("ew-tiny")) == "1.0"
    assert ew.stamp("ew-tiny")["versions"]["tiny"] == "1.0"
    assert ew.stamp("ew-tiny")["device"] == "cpu"
    assert "ew-tiny" in ew.run("env", "list")


def test_what_is_there_already_is_left_alone(ew: Installation) -> None:
    ew.run("setup", "--engine", "tiny")
    before = ew.stamp("ew-tiny")
    assert "there already" in ew.run("setup", "--engine", "tiny")
    assert ew.stamp("ew-tiny") == before


def test_a_dry_run_shows_the_commands_and_does_nothing(ew: Installation) -> None:
    said = ew.run("setup", "--engine", "tiny", "--dry-run")
    assert "uv venv" in said
    assert "--require-hashes" in said
    assert not ew.env("ew-tiny").exists()


def test_versions_live_side_by_side(ew: Installation) -> None:
    ew.declare(versions=("1.0", "2.0"))
    ew.run("setup", "--engine", "tiny")
    ew.run("setup", "--engine", "tiny@2.0")
    assert version_in(ew.env("ew-tiny")) == "1.0"
    assert version_in(ew.env("ew-tiny-2.0")) == "2.0"


def test_a_version_that_is_not_declared_is_named(ew: Installation) -> None:
    said = ew.fail("setup", "--engine", "tiny", "--version", "7")
    assert "`1.0`" in said


def test_a_changed_lock_makes_the_environment_outdated_and_then_anew(ew: Installation) -> None:
    ew.run("setup", "--engine", "tiny")
    ew.declare(versions=("1.0",), module='VERSION = "1.0, built again"')
    assert "outdated" in ew.run("env", "list")
    ew.run("setup", "--engine", "tiny")
    assert version_in(ew.env("ew-tiny")) == "1.0, built again"
    assert "outdated" not in ew.run("env", "list")


def test_a_killed_setup_leaves_nothing_that_is_used(ew: Installation) -> None:
    ew.declare_gated()
    process = ew.start("setup", "--engine", "tiny")
    eventually(ew.reached.exists, 30)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "`ew-tiny` is unfinished" in ew.run("env", "list")
    (ew.env("ew-tiny") / "left over").touch()
    ew.open_gate()
    ew.run("setup", "--engine", "tiny")
    assert not (ew.env("ew-tiny") / "left over").exists()


def test_of_two_setups_at_once_the_second_waits_and_finds_it_made(ew: Installation) -> None:
    ew.declare_gated()
    first = ew.start("setup", "--engine", "tiny")
    eventually(ew.reached.exists, 30)
    second = ew.start("setup", "--engine", "tiny")
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    ew.open_gate()
    assert "installing" in first.communicate(timeout=60)[1]
    assert "installing" not in second.communicate(timeout=60)[1]
    assert (first.returncode, second.returncode) == (0, 0)


def test_an_engine_that_cannot_be_imported_is_not_ready(ew: Installation) -> None:
    ew.declare(module="raise ImportError('libtiny.so.7: cannot open shared object file')")
    said = ew.fail("setup", "--engine", "tiny")
    assert "tiny was installed, but does not work here" in said
    assert "libtiny.so.7" in said
    assert "`ew-tiny` is unfinished" in ew.run("env", "list")


def test_an_engine_without_its_device_is_not_ready(ew: Installation) -> None:
    torch = make_wheel(
        ew.wheels, "torch", "1.0", {"torch/__init__.py": "", "torch/cuda.py": "device_count = int"}
    )
    ew.declare("tiny", device="cuda", module="import torch.cuda")
    lock = ew.root / "deploy/engines/tiny-1.0.lock"
    lock.write_text(lock.read_text() + torch)
    assert "NVIDIA driver" in ew.fail("setup", "--engine", "tiny")
    assert "sees no cuda device" in ew.fail("setup", "--engine", "tiny", "--force")


def test_everything_that_is_missing_is_said_at_once(ew: Installation) -> None:
    ew.declare(machines=["s390x"], disk_gib=10**9, glibc="9.99")
    said = ew.fail("setup", "--engine", "tiny")
    for missing in ("needs Linux on s390x", "glibc >= 9.99", "make room"):
        assert missing in said
    assert not ew.env("ew-tiny").exists()


def test_warnings_of_the_declaration_are_said(ew: Installation) -> None:
    ew.declare(warnings=[{"warning": "it has a hole", "advice": "stand back"}])
    said = ew.run("setup", "--engine", "tiny")
    assert "it has a hole" in said
    assert "stand back" in said


def test_a_forged_wheel_is_refused(ew: Installation) -> None:
    make_wheel(ew.wheels, "tiny", "1.0", {"tiny.py": "VERSION = 'forged'"})
    for options in ([], ["--wheelhouse", str(ew.wheels)]):
        said = ew.fail("setup", "--engine", "tiny", *options)
        assert "a file came for tiny==1.0 that is not the one in deploy/engines/tiny-1.0.l" in said
        assert f"look for a build of your own in {ew.wheels}" in said
        assert "network" not in said


def test_without_a_network_it_says_what_to_do(ew: Installation) -> None:
    del ew.environment["PIP_NO_INDEX"], ew.environment["PIP_FIND_LINKS"]
    ew.environment["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    said = ew.fail("setup", "--engine", "tiny")
    for word in ("package index", "127.0.0.1:9", "PIP_INDEX_URL", "--wheelhouse"):
        assert word in said
    said = ew.fail("setup", "--engine", "tiny", "--force")
    assert "deploy/engines/tiny-1.0.lock" in said


def test_a_folder_of_wheels_takes_the_place_of_a_network(ew: Installation) -> None:
    del ew.environment["PIP_NO_INDEX"], ew.environment["PIP_FIND_LINKS"]
    ew.environment["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    ew.run("setup", "--engine", "tiny", "--wheelhouse", str(ew.wheels))
    assert version_in(ew.env("ew-tiny")) == "1.0"


def test_a_folder_that_lacks_a_wheel_says_how_to_fill_it(ew: Installation, tmp_path: Path) -> None:
    said = ew.fail("setup", "--engine", "tiny", "--wheelhouse", str(tmp_path))
    assert "no version of tiny==1.0" in said or "tiny was not found" in said
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    download = (
        f"{python} -m pip download --no-deps --require-hashes -r deploy/engines/tiny-1.0.lock"
    )
    assert f"{download} -d {tmp_path}`, where there is a network" in said


def test_a_release_without_a_lock_is_resolved(ew: Installation) -> None:
    ew.declare(lock="", why_no_lock="its wheels change")
    assert "not locked: its wheels change" in ew.run("setup", "--engine", "tiny", "--dry-run")
    ew.run("setup", "--engine", "tiny")
    assert version_in(ew.env("ew-tiny")) == "1.0"


def test_a_name_that_belongs_to_another_engine_is_refused(ew: Installation) -> None:
    ew.declare("other")
    ew.run("setup", "--engine", "tiny", "--env", "mine")
    assert "is an environment for tiny" in ew.fail("setup", "--engine", "other", "--env", "mine")


@pytest.mark.parametrize("name", ["../outside", ".hidden", "a/b", ""])
def test_a_name_that_is_a_path_is_refused(ew: Installation, name: str) -> None:
    assert ew.outcome("env", "remove", name)[0] == 1


def test_removing_waits_for_nobody_who_runs_in_it(ew: Installation) -> None:
    ew.run("setup", "--engine", "tiny")
    python = ew.env("ew-tiny") / "bin/python"
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        assert str(user.pid) in ew.fail("env", "remove", "ew-tiny")
        user.communicate(b"\n")
    ew.run("env", "remove", "ew-tiny")
    assert not ew.env("ew-tiny").exists()
    assert "no environment `ew-tiny`" in ew.fail("env", "remove", "ew-tiny")


def test_the_list_says_which_models_use_an_environment(ew: Installation) -> None:
    ew.run("setup", "--engine", "tiny", "--env", "pinned")
    ew.write_config({"m": {"engine": "tiny", "model_path": ".", "env": "pinned"}})
    (line,) = [line for line in ew.run("setup", "--list").splitlines() if "pinned" in line]
    assert line.rstrip().endswith(" m")
