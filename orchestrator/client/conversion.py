"""`ew convert-trt` behind its command line: the script in TensorRT-LLM's environment, and the
model's entry in the configuration."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from contract.config import ModelId, is_repo_id
from contract.logs.rotation import open_privately
from contract.paths import ROOT, logs_dir, project_dir
from orchestrator.config.config_file import as_configured, set_model
from orchestrator.config.selection import read_config
from orchestrator.environments import Environment, default_env_name, find_environment
from orchestrator.errors import UserError
from orchestrator.system.child_environment import OWN_PACKAGES, engine_variables, inherited
from orchestrator.tensorrt.plan import flags

ENGINE: Final = "cuda-trt"
_SCRIPT: Final = ROOT / "scripts" / "convert_trt.py"
_SERVED: Final = ("max_batch_size", "max_input_len", "max_output_len")
#: Keys of the configuration, and what a conversion calls them.
_SIZES: Final = {"tensor_parallel_size": "tp_size", "pipeline_parallel_size": "pp_size"}


def require_environment(name: str | None) -> Environment:
    """Return the environment that converts. Raises `UserError` if it is not set up."""
    wanted = name or default_env_name(ENGINE)
    environment = find_environment(wanted)
    if environment is None:
        option = f" --env {name}" if name else ""
        raise UserError(
            f"the environment `{wanted}` is not set up", f"`./ew setup --engine {ENGINE}{option}`"
        )
    if environment.engine != ENGINE:
        raise UserError(
            f"the environment `{wanted}` is for {environment.engine}",
            f"`./ew setup --engine {ENGINE}` makes one that can convert",
        )
    return environment


def located(model: str) -> str:
    """Return a directory in full, also one that is given relative to the project; else the
    repository's id as it is."""
    for path in (Path(model).expanduser(), project_dir() / model):
        if path.is_dir():
            return str(path.resolve())
    if not is_repo_id(model):
        raise UserError(
            f"no checkpoint at `{model}`",
            "give a directory, or a Hugging Face repository id such as Qwen/Qwen2.5-7B-Instruct",
        )
    return model


def default_output(model: str) -> Path:
    return project_dir() / "models" / f"{Path(model).name}-trt"


def convert(environment: Environment, arguments: Mapping[str, Any]) -> int:
    """Run the script, which speaks for itself. Returns its exit code. Ctrl-C is passed on, and
    the script has cleaned up when this returns."""
    output = Path(arguments["output"])
    log = logs_dir() / f"convert-{output.name}.log"
    open_privately(log).close()
    command = [str(environment.python), str(_SCRIPT), *flags(arguments), "--log", str(log)]
    variables = inherited(os.environ, engine_variables()) | OWN_PACKAGES
    programs = environment.python.parent
    variables["PATH"] = os.pathsep.join((str(programs), variables.get("PATH", os.defpath)))
    # In a group of its own, so that Ctrl-C reaches it once, through us.
    child = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, process_group=0)
    with _passing_on(child):
        return child.wait()


@contextmanager
def _passing_on(child: subprocess.Popen[bytes]) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda got, _: child.send_signal(got)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def require_addable(model_id: str) -> None:
    """Raises `UserError` if the configuration cannot have this id, or has something else by it:
    before hours are spent on a conversion."""
    try:
        TypeAdapter(ModelId).validate_python(model_id)
    except ValidationError:
        raise UserError(
            f"`{model_id}` cannot be a model's id",
            "use letters, digits, `.`, `_`, `:`, `@`, `-` and `/`",
        ) from None
    model = read_config().models.get(model_id)
    if model is not None and model.engine != ENGINE:
        raise UserError(
            f"model `{model_id}` is configured with the engine `{model.engine}`",
            "choose another id, or remove it first",
        )


def add_to_config(
    config_path: Path, model_id: str, arguments: Mapping[str, Any], env: str | None
) -> None:
    """Write the model's entry; other settings of one that is there stay. Raises `UserError` if
    the configuration would not be valid."""
    entry: dict[str, Any] = {
        "engine": ENGINE,
        "model_path": as_configured(Path(arguments["output"])),
    }
    entry |= {key: arguments[key] for key in _SERVED}
    before = read_config().models.get(model_id)
    for key, argument in _SIZES.items():
        if arguments[argument] > 1 or (before is not None and getattr(before, key) > 1):
            entry[key] = arguments[argument]
    if env is not None:
        entry["env"] = env
    set_model(config_path, model_id, entry)
