"""One build of ew, really started, with state of its own: supervisor, Valkey, gateway, workers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOPS_WITHIN_S = 60


class Build(NamedTuple):
    """A checkout of ew. Its label goes into records, and so names no directory of this host."""

    label: str
    path: Path


@contextmanager
def builds(against: str | None) -> Iterator[list[Build]]:
    """This checkout, and the one to compare it with: a directory, or a commit of this repository,
    which is checked out for as long as it is needed."""
    found = [Build("this", ROOT)]
    if against is None:
        yield found
    elif Path(against).is_dir():
        path = Path(against).resolve()
        yield [*found, Build(_commit(path, "HEAD") or path.name, path)]
    else:
        commit = _commit(ROOT, against)
        if commit is None:
            raise SystemExit(f"--against {against}: neither a directory nor a commit of this clone")
        with tempfile.TemporaryDirectory(prefix="ew-bench-") as directory:
            path = Path(directory, "checkout")
            _git("worktree", "add", "--quiet", "--detach", str(path), commit)
            try:
                _share_environments(path)
                yield [*found, Build(commit, path)]
            finally:
                _git("worktree", "remove", "--force", str(path))


def _git(*words: str) -> None:
    subprocess.run(["git", "-C", ROOT, *words], check=True)


def _commit(directory: Path, name: str) -> str | None:
    """Its short form; None if there is no such commit."""
    command = ["git", "-C", directory, "rev-parse", "--short", "--verify", "--quiet"]
    done = subprocess.run([*command, f"{name}^{{commit}}"], capture_output=True, text=True)
    return done.stdout.strip() or None


def _share_environments(checkout: Path) -> None:
    """Where both are locked the same, none has to be made."""
    lock = Path("deploy", "ew.lock")
    if (checkout / lock).read_bytes() == (ROOT / lock).read_bytes():
        (checkout / ".venv").symlink_to(ROOT / ".venv")


class Cpu(NamedTuple):
    """CPU seconds that the processes of each kind have used."""

    gateway: float
    valkey: float
    worker: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(self, before, strict=True)))


class Stand:
    """A started ew, which uses the engine environments that it is given, by their names. `cpu`
    leaves the supervisor out, and an engine's own processes."""

    def __init__(
        self,
        build: Build,
        config: dict[str, Any],
        environments: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        self.build = build
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="ew-bench-"))
        config.setdefault("gateway", {}).update(port=self.port)
        config["gateway"].setdefault("processes", 1)
        path = self.directory / "config.json"
        path.write_text(json.dumps(config))
        for name, environment in environments.items():
            link = self.directory / "state" / "envs" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(environment)
        inherited = {name: value for name, value in os.environ.items() if _is_inherited(name)}
        self.environment = {
            **inherited,
            "EW_STATE_DIR": str(self.directory / "state"),
            "EW_CONFIG": str(path),
        }
        self.key = ""

    def __enter__(self) -> Stand:
        try:
            self.start()
            self.key = self.ew("keys", "add", "bench").split()[-1]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.ew("stop", "--now")
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start all models, and wait until they serve. Raises `SystemExit` if they do not."""
        self.ew("start")

    def ew(self, *words: str) -> str:
        """Run a command of ew. Answers what it prints. Raises `SystemExit` if it fails."""
        command = [self.build.path / "ew", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{self.build.label}: ew {' '.join(words)}: {done.stderr}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "state/status.json").read_bytes())
        return found

    def pids(self, kind: str) -> list[int]:
        """The processes of `gateway`, `valkey` or `worker`."""
        status = self.status()
        if kind == "valkey":
            return [status["redis"]["pid"]]
        if kind == "worker":
            found = [each["pid"] for model in status["models"] for each in model["workers"]]
            return [pid for pid in found if pid is not None]
        return _with_children(status["gateway"]["pid"])

    def cpu(self) -> Cpu:
        return Cpu(*(sum(map(_cpu_s, self.pids(kind))) for kind in Cpu._fields))

    def private_bytes(self, kind: str) -> int:
        """Memory that a kind of process has written to and shares with no other."""
        return sum(map(_private_bytes, self.pids(kind)))


def _is_inherited(variable: str) -> bool:
    """Without byte code on the disk, Python takes twice as long to import ew; and variables of ew
    would change what the configuration says."""
    if variable.startswith("EW_"):
        return variable == "EW_PYTHON"
    return variable != "PYTHONDONTWRITEBYTECODE"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def tree_cpu_s(pid: int) -> tuple[float, float]:
    """CPU seconds that a process and its living children have used, and apart from them those that
    vLLM computes the model in."""
    used = {False: 0.0, True: 0.0}
    for each in _with_children(pid):
        used[_computes(each)] += _cpu_s(each)
    return used[False], used[True]


def _computes(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith(("VLLM::EngineCor", "VLLM::Worker"))


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = (int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "SwapPss")))
    return 1024 * sum(kib)


def settle() -> None:
    """Let what the last load began come to its end."""
    time.sleep(0.3)
