"""A copy of the project with engines of its own, of a few tiny wheels, driven by `./ew`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tiny_wheels import make_wheel

ROOT = Path(__file__).resolve().parents[2]
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: The packages that the proof imports beside the engine.
WORKER_NEEDS = ("hiredis", "msgspec", "pydantic_settings", "redis", "uvloop")
#: An engine that cannot be imported before the file is there.
GATED = """
import pathlib, time
pathlib.Path({reached!r}).touch()
while not pathlib.Path({gate!r}).exists():
    time.sleep(0.02)
"""


class Installation:
    """Its command runs with the real .venv; its state, its engines and its wheels are its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "project"
        self.state = self.root / ".ew"
        self.wheels = directory / "wheels"
        self.gate = directory / "gate"
        self.reached = directory / "reached"
        for name in ("orchestrator", "contract", "scripts"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        (self.root / "deploy/engines").mkdir(parents=True)
        own = [f"deploy/engines/{name}" for name in ("worker.in", "mock.json", "openai.json")]
        for name in ("ew", "deploy/ew.lock", *own):
            shutil.copy(ROOT / name, self.root / name)
        (self.root / ".venv").symlink_to(ROOT / ".venv")
        self.write_config({})
        for name in WORKER_NEEDS:
            make_wheel(self.wheels, name, "99.0")
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EW_", "PIP_", "UV_"))
        } | {
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "HOME": str(directory / "home"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }

    def write_config(self, models: dict[str, Any]) -> None:
        (self.root / "deploy/config.json").write_text(json.dumps({"models": models}))

    def declare(
        self,
        engine: str = "tiny",
        versions: tuple[str, ...] = ("1.0",),
        *,
        module: str = "",
        device: str = "cpu",
        **release: Any,
    ) -> None:
        """Declare an engine, with a lock for each version. `module` is its library's code."""
        releases = {version: self._release(engine, version, module) for version in versions}
        declaration = {
            "engine": engine,
            "summary": "a tiny engine",
            "device": device,
            "library": engine,
            "distribution": engine,
            "default_version": versions[0],
            "versions": {version: each | release for version, each in releases.items()},
        }
        path = self.root / f"deploy/engines/{engine}.json"
        path.write_text(json.dumps(declaration))

    def declare_gated(self) -> None:
        """An engine whose proof does not end before `open_gate`."""
        self.declare(module=GATED.format(reached=str(self.reached), gate=str(self.gate)))

    def open_gate(self) -> None:
        self.gate.touch()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "ew"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        """Return a command that must succeed. Returns what it said, wherever."""
        code, said = self.outcome(*arguments)
        assert code == 0, said
        return said

    def fail(self, *arguments: str) -> str:
        """Return a command that must fail with something for the user to mend."""
        code, said = self.outcome(*arguments)
        assert code == 1, said
        return said

    def outcome(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=100)
        return process.returncode, stdout + stderr

    def env(self, name: str) -> Path:
        return self.state / "envs" / name

    def stamp(self, name: str) -> dict[str, Any]:
        stamp: dict[str, Any] = json.loads((self.env(name) / "ew-env.json").read_text())
        return stamp

    def _release(self, engine: str, version: str, module: str) -> dict[str, Any]:
        files = {f"{engine}.py": module} if module else None
        lock = make_wheel(self.wheels, engine, version, files)
        lock += "".join(make_wheel(self.wheels, name, "99.0") for name in WORKER_NEEDS)
        name = f"{engine}-{version}.lock"
        (self.root / "deploy/engines" / name).write_text(lock)
        return {
            "pythons": [PYTHON_VERSION],
            "machines": ["x86_64", "aarch64"],
            "requirements": [f"{engine}=={version}"],
            "lock": name,
        }
