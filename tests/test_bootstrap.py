"""The shell file `ew` and the environment that it makes for itself.

Most tests run a copy of the project with locks of a few tiny wheels and a command line that
only says how it was called; the installers are real.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.packages.lock_file import read_lock
from tests.tiny_wheels import make_wheel
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[1]
#: On a machine that others use too, what takes a second has been seen to take half a minute.
PATIENCE_S = 300
UV = Path(sys.executable).with_name("uv")
#: Says how it was called, and which version of the package `alpha` it has.
_COMMAND_LINE = """
import json, os, sys
import alpha
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), "alpha": alpha.VERSION}))
"""
#: A uv that stops before its work, or after it, until the file `gate` exists.
_GATED_UV = """#!/bin/sh
wait_at() {{
    touch "{directory}/$1"
    while ! [ -e "{directory}/gate" ]; do sleep 0.02; done
}}
case "$1" in
    pip)
        echo run >> "{directory}/runs"
        [ "{where}" = before ] && wait_at reached
        "{uv}" "$@" || exit
        [ "{where}" = after ] && wait_at reached
        exit 0 ;;
    *) exec "{uv}" "$@" ;;
esac
"""


class Project:
    """A copy of the project, in a world of its own: HOME, PATH, and a folder of wheels."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "project"
        self.bin = directory / "bin"
        self.wheels = directory / "wheels"
        self.venv = self.root / ".venv"
        self.bin.mkdir()
        for name in ("orchestrator", "contract", "scripts"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        shutil.copy(ROOT / "ew", self.root)
        (self.root / "deploy").mkdir()
        (self.root / "orchestrator/__main__.py").write_text(_COMMAND_LINE)
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "HOME": str(directory / "home"),
            "EW_PYTHON": sys.executable,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "LANG": "C.UTF-8",
            # Wheels of the tests have one date and one size: cached bytecode would look current.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def lock(self, alpha: str = "1.0") -> None:
        """Make wheels and locks: `alpha` for the command line, `beta` for the tests as well."""
        entry = make_wheel(self.wheels, "alpha", alpha)
        (self.root / "deploy/ew.lock").write_text(entry)
        (self.root / "deploy/dev.lock").write_text(entry + make_wheel(self.wheels, "beta", "1.0"))

    def use_uv(self, where: str = "") -> None:
        """Put a uv on the PATH, one that stops `before` or `after` its work if that is asked."""
        program = self.bin / "uv"
        program.unlink(missing_ok=True)
        if where:
            text = _GATED_UV.format(directory=self.directory, uv=UV, where=where)
            program.write_text(text)
            program.chmod(0o755)
        else:
            program.symlink_to(UV)

    def use_indexes_of_this_host(self) -> None:
        for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
            del self.environment[name]
        reached_by = ("PIP_", "SSL_", "HTTP", "NO_PROXY", "http", "no_proxy", "REQUESTS_")
        self.environment |= {
            name: value for name, value in os.environ.items() if name.startswith(reached_by)
        }

    def open_gate(self) -> None:
        (self.directory / "gate").touch()

    def start(self, *arguments: str, command: str = "ew", **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / command), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Run `./ew`, which must succeed. Returns what its command line said."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, stderr
        answer: dict[str, Any] = json.loads(stdout)
        return answer

    def bootstrap(self, *arguments: str) -> None:
        process = self.start(*arguments, command="scripts/bootstrap")
        _, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, stderr

    def fail(self, *arguments: str, **options: Any) -> str:
        """Run `./ew`, which must fail with exit code 1. Returns what it said."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
        assert stdout == ""
        return stderr

    def has_reached_the_gate(self) -> bool:
        return (self.directory / "reached").exists()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.lock()
    project.use_uv()
    return project


def test_the_first_use_makes_the_environment(project: Project) -> None:
    assert project.run("status", "--json")["arguments"] == ["status", "--json"]


def test_it_works_through_links_and_keeps_the_users_directory(
    project: Project, tmp_path: Path
) -> None:
    (project.bin / "ew").symlink_to("../link")
    (tmp_path / "link").symlink_to(project.root / "ew")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    project.run()
    answer = subprocess.run(
        ["ew", "a b"], cwd=elsewhere, env=project.environment, capture_output=True, check=True
    )
    assert json.loads(answer.stdout) == {
        "arguments": ["a b"],
        "cwd": str(elsewhere),
        "alpha": "1.0",
    }


def test_a_folder_of_the_user_cannot_replace_a_module(project: Project, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    project.environment["PYTHONPATH"] = str(tmp_path)
    assert project.run(cwd=tmp_path)["alpha"] == "1.0"


def test_a_current_environment_is_left_alone(project: Project) -> None:
    project.run()
    (project.root / "scripts/bootstrap").write_text("#!/bin/sh\nexit 1\n")
    assert project.run()["alpha"] == "1.0"


def test_of_two_first_uses_at_once_one_works_and_one_waits(project: Project) -> None:
    project.use_uv("before")
    first = project.start()
    eventually(project.has_reached_the_gate)
    second = project.start()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    project.open_gate()
    for process in (first, second):
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, stderr
        assert json.loads(stdout)["alpha"] == "1.0"
    assert (project.directory / "runs").read_text() == "run\n"


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_half_way_it_is_made_anew(project: Project, where: str) -> None:
    project.use_uv(where)
    process = project.start()
    eventually(project.has_reached_the_gate)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for module in project.venv.glob("lib/*/site-packages/alpha.py"):
        module.unlink()  # It is a link to the file in uv's cache.
        module.write_text("a half-written fi")
    project.use_uv()
    assert project.run()["alpha"] == "1.0"


def test_an_installer_that_outlives_its_parent_is_waited_for(project: Project) -> None:
    project.use_uv("before")
    process = project.start()
    eventually(project.has_reached_the_gate)
    (bootstrap,) = _children(process.pid)
    os.kill(bootstrap, signal.SIGKILL)
    process.communicate()
    second = project.start()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    project.open_gate()
    stdout, stderr = second.communicate(timeout=PATIENCE_S)
    assert json.loads(stdout)["alpha"] == "1.0", stderr


def test_a_changed_lock_is_installed_into_the_same_environment(project: Project) -> None:
    project.run()
    (project.venv / "kept").touch()
    project.lock(alpha="2.0")
    assert project.run()["alpha"] == "2.0"
    assert (project.venv / "kept").exists()


def test_an_update_that_fails_leaves_what_is_there_for_the_next_try(project: Project) -> None:
    project.run()
    (project.venv / "kept").touch()
    project.lock(alpha="2.0")
    moved = project.wheels.rename(project.directory / "moved")
    project.fail()
    moved.rename(project.wheels)
    assert project.run()["alpha"] == "2.0"
    assert (project.venv / "kept").exists()


def test_a_wheel_with_another_hash_is_refused(project: Project) -> None:
    make_wheel(project.wheels, "alpha", "1.0", {"alpha.py": 'VERSION = "forged"\n'})
    said = project.fail()
    assert_explains_the_hash(project, said)
    assert not list(project.venv.glob("lib/*/site-packages/alpha.py"))


def test_also_pip_says_which_hash_is_wrong(project: Project) -> None:
    """Where there is no uv yet, pip fetches it."""
    _only_basic_tools(project)
    project.environment["EW_PYTHON"] = sys.executable
    entry = make_wheel(project.wheels, "uv", "9.9")
    make_wheel(project.wheels, "uv", "9.9", {"uv.py": 'VERSION = "forged"\n'})
    (project.root / "deploy/ew.lock").write_text(entry)
    said = project.fail()
    assert "a file came for uv==9.9 that is not the one in deploy/ew.lock" in said
    assert "network" not in said


def assert_explains_the_hash(project: Project, said: str) -> None:
    (forged,) = project.wheels.glob("alpha-1.0-*")
    got = hashlib.sha256(forged.read_bytes()).hexdigest()
    (pin,) = read_lock(project.root / "deploy/ew.lock").pins()
    (expected,) = pin.files
    assert "a file came for alpha==1.0 that is not the one in deploy/ew.lock" in said
    assert f"expected sha256:{expected}" in said
    assert f"got      sha256:{got}" in said
    assert str(project.wheels) in said
    assert "network" not in said


def test_an_environment_whose_python_is_gone_is_made_anew(project: Project) -> None:
    project.run()
    python = project.venv / "bin/python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert project.run()["alpha"] == "1.0"


def test_without_a_network_it_says_what_it_needed(project: Project) -> None:
    del project.environment["PIP_NO_INDEX"], project.environment["PIP_FIND_LINKS"]
    project.environment["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    project.environment["PIP_RETRIES"] = "0"
    said = project.fail()
    assert "the 1 packages of deploy/ew.lock" in said
    assert "127.0.0.1:9" in said
    for way_out in ("PIP_INDEX_URL", "PIP_FIND_LINKS", "pip download"):
        assert way_out in said


def test_the_test_tools_come_on_top(project: Project) -> None:
    project.run()
    project.bootstrap("dev")
    assert list(project.venv.glob("lib/*/site-packages/beta.py"))
    project.environment["PIP_FIND_LINKS"] = "/nonexistent"
    project.bootstrap("dev")


def _stand_in(project: Project, name: str, script: str) -> None:
    path = project.bin / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _only_basic_tools(project: Project) -> None:
    """A PATH without any Python or uv."""
    (project.bin / "uv").unlink()
    for name in ("sh", "cmp", "readlink", "head"):
        program = shutil.which(name)
        assert program is not None
        (project.bin / name).symlink_to(program)
    project.environment["PATH"] = str(project.bin)
    del project.environment["EW_PYTHON"]


def test_a_shim_that_fails_is_passed_over(project: Project) -> None:
    del project.environment["EW_PYTHON"]
    for name in ("python3.13", "python3.12", "python3.11"):
        _stand_in(project, name, "echo command not found >&2; exit 127")
    _stand_in(project, "python3", f'exec "{sys.executable}" "$@"')
    assert project.run()["alpha"] == "1.0"


def test_without_python_it_names_what_to_install(project: Project) -> None:
    _only_basic_tools(project)
    said = project.fail()
    assert "Python 3.11 to 3.14" in said
    assert "apt install python3" in said


def test_a_python_that_is_too_old_is_named(project: Project) -> None:
    _only_basic_tools(project)
    script = 'case "$1" in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac'
    _stand_in(project, "python3", script)
    assert "3.9.2" in project.fail()


def test_a_python_that_cannot_install_anything_is_named(project: Project) -> None:
    """As on a Debian with python3 alone."""
    _only_basic_tools(project)
    script = f'case "$*" in *"pip ensurepip") exit 1 ;; esac; exec "{sys.executable}" "$@"'
    _stand_in(project, "python3", script)
    said = project.fail()
    assert "neither pip nor" in said
    assert "apt install python3-venv" in said


def test_the_real_command_line_comes_from_an_index_without_uv(tmp_path: Path) -> None:
    project = Project(tmp_path)
    shutil.copytree(ROOT / "deploy", project.root / "deploy", dirs_exist_ok=True)
    shutil.copy(ROOT / "orchestrator/__main__.py", project.root / "orchestrator")
    project.use_indexes_of_this_host()
    process = project.start("--help")
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, stderr
    assert "quickstart" in stdout


def _python(version: str) -> str:
    """Return a Python of this version that the host has. Skips the test if there is none."""
    found = subprocess.run(
        [UV, "python", "find", "--system", "--no-project", "--no-python-downloads", version],
        capture_output=True,
        text=True,
        check=False,
    )
    places = [found.stdout.strip()] if found.returncode == 0 else []
    places += map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    if not places:
        pytest.skip(f"this host has no Python {version}")
    return places[0]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_the_locks_can_be_installed_for_each_python_of_this_host(
    tmp_path: Path, version: str
) -> None:
    project = Project(tmp_path)
    shutil.copytree(ROOT / "deploy", project.root / "deploy", dirs_exist_ok=True)
    shutil.copy(ROOT / "orchestrator/__main__.py", project.root / "orchestrator")
    project.use_uv()
    project.use_indexes_of_this_host()
    cache = subprocess.run([UV, "cache", "dir"], capture_output=True, text=True, check=True)
    project.environment |= {
        "EW_PYTHON": _python(version),
        "UV_CACHE_DIR": cache.stdout.strip(),
    }
    project.bootstrap("dev")
    process = project.start("config", "check")
    stderr = process.communicate(timeout=PATIENCE_S)[1]
    assert f"{project.root}/deploy/config.json is good" in stderr
    assert list(project.venv.glob(f"lib/python{version}/site-packages/pytest"))


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_everything_for_the_command_line_is_also_in_the_lock_for_the_tests() -> None:
    ew, dev = (
        {line for line in (ROOT / f"deploy/{name}.lock").read_text().splitlines() if "==" in line}
        for name in ("ew", "dev")
    )
    assert ew < dev
