"""ew as an installed package: a wheel, in an environment of its own, with a project elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.paths import ROOT
from orchestrator.config.project import make_project
from orchestrator.packages.pip_settings import uv_settings

pytestmark = pytest.mark.timeout(600)

UV = Path(sys.executable).with_name("uv")
#: On a machine that others use too, what takes a second has been seen to take half a minute.
PATIENCE_S = 300


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files of this clone, as `uv tool install` and `pip install` build it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [UV, "build", "--quiet", "--wheel", "--out-dir", directory, ROOT]
    environment = {**os.environ, **uv_settings().variables}
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S)
    (built,) = directory.glob("*.whl")
    return built


class Installed:
    """ew in an environment of its own. Its dependencies are those of .venv: to install them is
    pip's work. Commands run in the project, with a HOME that is empty."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.env = directory / "env"
        self.project = directory / "project"
        self.project.mkdir()
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, self.env], check=True)
        (self.site_packages,) = self.env.glob("lib/python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            self.names = archive.namelist()
        install = [UV, "pip", "install", "--quiet", "--python", self.env / "bin/python"]
        subprocess.run([*install, "--no-deps", "--no-index", wheel], check=True, timeout=PATIENCE_S)
        (own,) = (Path(sys.executable).parents[1]).glob("lib/python*/site-packages")
        (self.site_packages / "dependencies.pth").write_text(f"{own}\n")
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(directory / "home"),
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.env / "bin/ew", *arguments],
            env=self.environment,
            cwd=options.pop("cwd", self.project),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def done(self, *arguments: str, **options: Any) -> str:
        """Run a command that must succeed. Returns what it printed."""
        done = self.run(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self, directory: Path) -> None:
        """Make a project with one model of the scripted engine."""
        (directory / "deploy").mkdir(parents=True)
        configuration = {
            "models": {"m": {"engine": "mock", "model_path": "none"}},
            "gateway": {"port": 0, "processes": 1},
        }
        (directory / "deploy/config.json").write_text(json.dumps(configuration))

    def files(self) -> set[Path]:
        return set(self.site_packages.rglob("*"))


@pytest.fixture
def ew(tmp_path: Path, wheel: Path) -> Iterator[Installed]:
    installed = Installed(tmp_path, wheel)
    yield installed
    if (installed.project / ".ew").exists():
        installed.run("stop", "--now")


def test_the_wheel_brings_one_folder_and_what_a_clone_needs_to_run(ew: Installed) -> None:
    assert {name.partition("/")[0] for name in ew.names} == {"_ew", "ew-0.1.0.dist-info"}
    locks = {f"_ew/root/deploy/engines/{path.name}" for path in ROOT.glob("deploy/engines/*")}
    scripts = {"_ew/root/scripts/prove_engine.py", "_ew/root/scripts/convert_trt.py"}
    scripts_lua = {f"_ew/root/{path.relative_to(ROOT)}" for path in ROOT.rglob("contract/**/*.lua")}
    assert locks | scripts | scripts_lua <= set(ew.names)
    assert not [name for name in ew.names if "__pycache__" in name or "/tests/" in name]


def test_the_command_speaks_of_itself_as_it_is_called(ew: Installed) -> None:
    shown = ew.done("--help")
    assert "quickstart" in shown
    assert "ew 0.1.0" in ew.done("--version")
    assert "./ew" not in shown + ew.done("chat", "--help") + ew.run("stauts").stderr
    ew.configure(ew.project)
    ew.environment["EW_MODELS__V"] = '{"engine": "cpu-vllm", "model_path": "some/repository"}'
    said = {}
    for command in ("doctor", "doctor --json", "status", "config reference"):
        done = ew.run(*command.split())
        said[command] = done.stdout
        assert "./ew" not in done.stdout + done.stderr
    assert "`ew setup --engine cpu-vllm" in said["doctor"]
    assert "`ew setup --engine cpu-vllm" in said["doctor --json"]
    assert "`ew start`" in said["status"]
    assert "`ew config check`" in said["config reference"]


def test_outside_of_a_project_it_says_so_and_leaves_nothing_behind(ew: Installed) -> None:
    for command in (["status"], ["start"], ["keys", "list"]):
        refused = ew.run(*command)
        assert refused.returncode == 1
        assert f"{ew.project} is no project of ew" in refused.stderr
        assert "`ew quickstart` makes one here" in refused.stderr
    assert "Usage" in ew.done("status", "--help")
    assert list(ew.project.iterdir()) == []


def test_the_project_is_the_current_directory_or_the_one_that_is_named(
    ew: Installed, tmp_path: Path
) -> None:
    ew.configure(ew.project)
    other = tmp_path / "other"
    ew.configure(other)
    assert f"{ew.project}/deploy/config.json is good" in ew.run("config", "check").stderr
    named = ew.run("--project", "../other", "config", "check")
    assert f"{other}/deploy/config.json is good" in named.stderr.replace("project/../", "")
    ew.environment["EW_HOME"] = str(other)
    assert f"{other}/deploy/config.json is good" in ew.run("config", "check").stderr


def test_it_serves_and_keeps_all_that_it_writes_in_the_project(ew: Installed) -> None:
    ew.configure(ew.project)
    before = ew.files()
    key = ew.done("keys", "add", "--name", "me").strip()
    ew.done("start")
    url = json.loads(ew.done("status", "--json"))["gateway"]["url"]
    body = {"model": "m", "prompt": "hello", "max_tokens": 3}
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=30)
    assert answer.json()["usage"]["completion_tokens"] == 3
    ew.done("stop")
    assert ew.files() == before
    assert {path.name for path in ew.project.iterdir()} == {".ew", "deploy", "logs"}


def test_a_new_project_begins_with_the_demo_model(ew: Installed) -> None:
    """Up to the engine's environment, which has no index to come from here."""
    ew.environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    assert f"{ew.project} is a project of ew now" in ew.run("quickstart").stderr
    assert "`demo`" in ew.run("config", "check").stderr
    assert (ew.project / "deploy/demo-model/model.safetensors").stat().st_size > 10**6


def test_what_a_project_has_already_stays(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/config.json").write_text("mine")
    make_project(tmp_path)
    assert (tmp_path / "deploy/config.json").read_text() == "mine"
    assert (tmp_path / "deploy/demo-model/config.json").is_file()
