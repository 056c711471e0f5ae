"""ew beside `vllm serve` with a real engine: both are started from one environment, with the same
arguments.

ew has a directory and a Valkey of its own. The other servers are started with the arguments and
the variables that ew's own code says its worker has. All of them are up at once, and asked in turn:
the others stand still (SIGSTOP) meanwhile, as vLLM's processes look for work without a pause for a
second after the last request, and would take the cores. ew does not: a supervisor would end a
worker that stands still. What it takes while another is asked is in the table, under `others %`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from comparison import compare, of_ew
from report import write
from stand import ROOT, Build, Stand
from vllm_serve import FRONT_ENDS, Passed, passed_by, rust_program, serving

_DEMO = "deploy/demo-model"
_CONFIG = ROOT / "deploy" / "config.json"
#: All servers have their part of a GPU's memory at once.
_GPU_MEMORY = 0.9


class Environment(NamedTuple):
    """One that `./ew setup` has made."""

    path: Path
    version: str

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"


def add_options(parser: argparse.ArgumentParser) -> None:
    engines = sorted(_engines())
    parser.add_argument("--engine", choices=engines, default="cpu-vllm", help="(default: cpu-vllm)")
    about = "of the engine (default: that which `./ew setup` has made)"
    parser.add_argument("--environment", type=Path, metavar="DIR", help=about)
    about = "the model (default: the demo model, as deploy/config.json has it)"
    parser.add_argument("--model", type=Path, metavar="DIR", help=about)
    about = """of the model, as in config.json: {"dtype": "bfloat16", "engine_args": {...}}"""
    parser.add_argument("--settings", type=_object, default={}, metavar="JSON", help=about)
    about = "gateway processes of ew (default: 1)"
    parser.add_argument("--gateways", type=int, default=1, metavar="N", help=about)
    about = "of vllm serve: python, rust or both; rust is left out where there is none"
    parser.add_argument(
        "--front-ends", type=_front_ends, default=["python"], metavar="NAME,...", help=about
    )
    about = "more for vllm serve with the Python front end, as '--api-server-count 4'"
    parser.add_argument("--serve-args", type=shlex.split, default=[], metavar="WORDS", help=about)
    parser.set_defaults(streams="1,64,256", tokens=64)


def _engines() -> dict[str, dict[str, Any]]:
    """The declarations of the engines that are vLLM, by their names."""
    found = (json.loads(path.read_bytes()) for path in (ROOT / "deploy/engines").glob("*.json"))
    return {each["engine"]: each for each in found if each.get("library") == "vllm"}


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError('it is no object, as {"dtype": "bfloat16"}')
    return found


def _front_ends(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in FRONT_ENDS]:
        raise argparse.ArgumentTypeError(f"no front end {unknown[0]!r}: {', '.join(FRONT_ENDS)}")
    return list(dict.fromkeys(names))


def run(args: argparse.Namespace) -> None:
    """Every level of concurrency, all servers in turn in each round."""
    environment = _environment(args)
    rust = rust_program(environment.path)
    front_ends = [name for name in args.front_ends if name != "rust" or rust]
    if front_ends != args.front_ends:
        _tell(
            f"no Rust front end: {args.engine} {environment.version} has no vllm-rs in its package "
            "(VLLM_RUST_FRONTEND_PATH names one of the same release)"
        )
    if not front_ends:
        raise SystemExit("there is nothing to compare ew with: add python to --front-ends")
    config = _config(args, servers=1 + len(front_ends))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ew-bench-")))
        _tell(f"starting ew with {args.engine} {environment.version}")
        links = {_name(args): environment.path}
        stand = stack.enter_context(Stand(Build("ew", ROOT), config, links))
        servers = [of_ew(stand, *config["models"])]
        passed = passed_by(stand.pids("worker")[0], environment.python)
        for name in front_ends:
            _tell(f"starting vllm serve, front end {name}")
            more = args.serve_args if name == "python" else []
            servers.append(stack.enter_context(serving(passed, name, more, rust, directory)))
        facts = _facts(args, environment, passed)
        keep = partial(_write, args.json, facts)
        compare(servers, args.streams, args.rounds, args.tokens, keep)


def _name(args: argparse.Namespace) -> str:
    return f"ew-{args.engine}"


def _environment(args: argparse.Namespace) -> Environment:
    """Raises `SystemExit` if there is none."""
    state = Path(os.environ.get("EW_STATE_DIR") or ROOT / ".ew")
    path: Path = args.environment or state / "envs" / _name(args)
    try:
        stamp = json.loads((path / "ew-env.json").read_bytes())
        found = Environment(path.resolve(), stamp["version"])
    except (OSError, ValueError, KeyError):
        where = f" in {args.environment}" if args.environment else ""
        raise SystemExit(
            f"there is no environment of {args.engine}{where}\n"
            f"next: ./ew setup --engine {args.engine}"
        ) from None
    if stamp["engine"] != args.engine:
        raise SystemExit(f"{path} is an environment of {stamp['engine']}, not of {args.engine}")
    return found


def _config(args: argparse.Namespace, servers: int) -> dict[str, Any]:
    """ew's configuration, with one model. Raises `SystemExit` if there is no such model."""
    path: Path = args.model or ROOT / _DEMO
    if not (path / "config.json").is_file():
        raise SystemExit(f"--model {path}: there is no model, as it has no config.json")
    settings = ({} if args.model else _settings_of_demo()) | {
        "engine": args.engine,
        "model_path": str(path.resolve()),
        "max_batch_size": max(args.streams),
    }
    if _engines()[args.engine]["device"] == "cuda":
        settings["gpu_memory_utilization"] = round(_GPU_MEMORY / servers, 2)
    model = path.resolve().name
    return {
        "models": {model: settings | args.settings},
        "limits": {"max_waiting": 20_000},
        "gateway": {"processes": args.gateways},
    }


def _settings_of_demo() -> dict[str, Any]:
    """As it comes with ew, but for the split of its context, so that another one can be set."""
    demo = json.loads(_CONFIG.read_bytes())["models"]["demo"]
    context = demo["max_input_len"] + demo["max_output_len"]
    return {"engine_args": demo["engine_args"], "max_model_len": context}


def _facts(args: argparse.Namespace, environment: Environment, passed: Passed) -> dict[str, Any]:
    """The record beside its figures; of a path its last part."""
    return {
        "engine": f"{args.engine} {environment.version}",
        "tokens": args.tokens,
        "gateways": args.gateways,
        "arguments": {name: _pathless(value) for name, value in passed.arguments.items()},
        "variables": passed.variables,
        "serve_args": args.serve_args,
    }


def _pathless(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _write(path: Path | None, facts: dict[str, Any], levels: list[dict[str, Any]]) -> None:
    write(path, "engine", facts | {"levels": levels})


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
