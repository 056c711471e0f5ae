"""TensorRT-LLM plans: whether one fits the GPU, the release and the configuration it is to be
served with. Its manifest describes a plan; `scripts/convert_trt.py` writes it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.config import ModelConfig
from orchestrator.errors import UserError

MANIFEST: Final = "ew_manifest.json"
#: Of `./ew convert-trt`, and of the script behind it.
DEFAULTS: Final[Mapping[str, Any]] = {
    "dtype": "float16",
    "tp_size": 1,
    "pp_size": 1,
    "max_batch_size": 64,
    "max_input_len": 4096,
    "max_output_len": 2048,
    "max_beam_width": 1,
    "kv_cache_dtype": "auto",
}


class PlanDevice(NamedTuple):
    """A GPU that is to run a plan. The capability is None where it is not known."""

    name: str
    compute_capability: str | None


class Plan:
    """A plan's directory, as its files tell of it. `manifest` is empty if ew did not build it."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self._built: dict[str, Any] = config["build_config"]
        self._mapping: dict[str, Any] = config["pretrained_config"].get("mapping", {})
        self._version: str = config.get("version", "")
        self.manifest = _read(path / MANIFEST) or {}

    @property
    def version(self) -> str:
        """Of the TensorRT-LLM that built it; no other runs it."""
        return str(self.manifest.get("versions", {}).get("tensorrt_llm") or self._version)

    @property
    def gpus(self) -> int:
        return int(self._mapping.get("world_size", 1))

    @property
    def tensor_parallel_size(self) -> int:
        return int(self._mapping.get("tp_size", 1))

    def limits(self) -> dict[str, int]:
        """Return what the configuration may ask for at most, by its own keys."""
        longest = self._built["max_seq_len"]
        return {
            "max_batch_size": self._built["max_batch_size"],
            "max_input_len": self._built["max_input_len"],
            "max_output_len": self.arguments.get("max_output_len", longest),
            "max_model_len": longest,
        }

    @property
    def arguments(self) -> dict[str, Any]:
        """The version of the library that it was converted with."""
        found: dict[str, Any] = self.manifest.get("arguments", {})
        return found

    def convert_command(self, **changes: Any) -> str:
        """Return the command that builds it anew, with some arguments changed."""
        source = self.manifest.get("source", {})
        wanted = {
            "model": source.get("model", "CHECKPOINT"),
            "revision": source.get("revision"),
            "output": str(self.path),
            **self.arguments,
            **changes,
        }
        return shlex.join(["./ew", "convert-trt", *flags(wanted), "--force"])


def read_plan(path: Path) -> Plan | None:
    """Return the plan in a directory; None if there is none."""
    config = _read(path / "config.json")
    if config is None or "build_config" not in config or "pretrained_config" not in config:
        return None
    return Plan(path, config)


def check_plan(
    model_id: str, model: ModelConfig, plan: Plan, version: str, devices: Sequence[PlanDevice]
) -> None:
    """Whether the plan can be served as the model is configured, by TensorRT-LLM `version` on
    these GPUs; none given means that they are not known. Raises `UserError`, with the command
    that mends it."""
    _check_files(model_id, plan)
    _check_version(model_id, plan, version)
    _check_devices(model_id, plan, devices)
    _check_limits(model_id, model, plan)


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments as command line words, without those that are as by default."""
    words: list[str] = []
    for name, value in arguments.items():
        if value is None or value is False or value == DEFAULTS.get(name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return words


def _check_files(model_id: str, plan: Plan) -> None:
    for name, facts in plan.manifest.get("files", {}).items():
        path = plan.path / name
        size = path.stat().st_size if path.exists() else None
        if size != facts["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes, not {facts['bytes']}"
            raise UserError(
                f"the plan of model `{model_id}` is damaged: {path} {found}",
                f"build it again: {plan.convert_command()}",
            )


def _check_version(model_id: str, plan: Plan, version: str) -> None:
    if plan.version and version and plan.version != version:
        raise UserError(
            f"the plan of model `{model_id}` was built by TensorRT-LLM {plan.version}, and the "
            f"environment has {version}: no other release runs it",
            f"build it again: {plan.convert_command()}; or serve it with the release that built "
            f"it: ./ew setup --engine cuda-trt --version {plan.version}",
        )


def _check_devices(model_id: str, plan: Plan, devices: Sequence[PlanDevice]) -> None:
    if not devices:
        return
    if len(devices) < plan.gpus:
        raise UserError(
            f"the plan of model `{model_id}` is for {plan.gpus} GPUs, and this host has "
            f"{len(devices)}",
            f"build it for fewer: {plan.convert_command(tp_size=max(1, len(devices)), pp_size=1)}",
        )
    built = plan.manifest.get("gpu")
    if built is None or any(_fits(device, built) for device in devices):
        return
    here = ", ".join(sorted({_describe(device) for device in devices}))
    raise UserError(
        f"the plan of model `{model_id}` was built for {built['name']} (compute capability "
        f"{built['compute_capability']}), and this host has {here}",
        f"build it here: {plan.convert_command()}",
    )


def _fits(device: PlanDevice, built: Mapping[str, str]) -> bool:
    if device.compute_capability is None:
        return device.name == built["name"]
    return device.compute_capability == built["compute_capability"]


def _describe(device: PlanDevice) -> str:
    known = device.compute_capability
    return f"{device.name} (compute capability {known})" if known else device.name


def _check_limits(model_id: str, model: ModelConfig, plan: Plan) -> None:
    """Lengths and sizes are fixed when a plan is built; less may be asked for, not more."""
    limits = plan.limits()
    asked = {
        "max_batch_size": model.max_batch_size,
        "max_input_len": model.max_input_len,
        "max_output_len": model.max_output_len,
        "max_model_len": model.context_len,
    }
    beyond = {key: value for key, value in asked.items() if value and value > limits[key]}
    if beyond:
        said = ", ".join(
            f"`{key}` {value} (built for {limits[key]})" for key, value in beyond.items()
        )
        raise UserError(
            f"model `{model_id}` asks for more than its plan was built for: {said}",
            f"lower it, or build the plan for it: {plan.convert_command(**_grown(beyond, plan))}",
        )
    if model.tensor_parallel_size not in (1, plan.tensor_parallel_size):
        size = model.tensor_parallel_size
        raise UserError(
            f"model `{model_id}` has tensor_parallel_size {size}, and its plan was built for "
            f"{plan.tensor_parallel_size}",
            f"remove it, or build the plan for it: {plan.convert_command(tp_size=size)}",
        )


def _grown(beyond: Mapping[str, int], plan: Plan) -> dict[str, int]:
    """Return the arguments that give what is asked for: a longer context means longer answers."""
    changes = dict(beyond)
    longest = changes.pop("max_model_len", None)
    if longest is not None:
        prompt = changes.get("max_input_len", plan.limits()["max_input_len"])
        changes["max_output_len"] = max(changes.get("max_output_len", 0), longest - prompt)
    return changes


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
