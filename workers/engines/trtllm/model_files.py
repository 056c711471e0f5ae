"""The content of a model directory: a plan (a compiled TensorRT engine) or a checkpoint, its
limits, and what is needed to serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.model_files.plan_json import PlanBuildJson, PlanLimits, is_plan, limits_of
from contract.paths import COMMAND
from workers.engine import CannotServe

_DEFAULT_CONTEXT: Final = 2048
#: The settings of a generation config that stand in for what a request leaves open.
_DEFAULTS: Final = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class ModelFiles:
    """A local model directory, read. Raises `CannotServe` if it is none that can be served."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = _read(path / "config.json")
        if self._config is None:
            raise CannotServe(f"{path} has no config.json: it is neither a plan nor a checkpoint")
        self.plan = self._plan_limits()
        if self.plan is None and any(path.glob("rank*.safetensors")):
            raise CannotServe(
                f"{path} is a TensorRT-LLM checkpoint, which is not compiled yet; build a plan of "
                f"the Hugging Face checkpoint instead: {COMMAND} convert-trt --model CHECKPOINT"
            )
        generation = _read(path / "generation_config.json") or {}
        self.end_ids = _ids(generation.get("eos_token_id", self._shape.get("eos_token_id")))
        self.defaults = {
            name: generation[name] for name in _DEFAULTS if generation.get(name) is not None
        }
        self.default_max_tokens: int | None = generation.get("max_new_tokens")

    @property
    def has_fast_tokenizer(self) -> bool:
        """Guided decoding reads the tokenizer's own file."""
        return (self.path / "tokenizer.json").exists()

    @property
    def source(self) -> str:
        """The checkpoint that a plan was built from, if ew built it."""
        manifest = _read(self.path / "ew_manifest.json") or {}
        return str(manifest.get("source", {}).get("model", "")) or "the checkpoint"

    @property
    def context_len(self) -> int:
        """Prompt and answer together, in tokens, at most."""
        if self.plan is not None:
            return self.plan.max_seq_len
        return int(self._shape.get("max_position_embeddings") or _DEFAULT_CONTEXT)

    def enough(self, kv_tokens: int, asked_len: int | None) -> int:
        """Return the tokens of the planned KV cache. Raises `ValueError` if one sequence may have
        more."""
        needed = min(asked_len or self.context_len, self.context_len)
        if kv_tokens < needed:
            # The next plan may have more: another model may have left.
            raise ValueError(
                f"the memory planned for the KV cache holds {kv_tokens} tokens, and one sequence "
                f"may have {needed}: lower `max_model_len`, or give the model more memory"
            )
        return kv_tokens

    @property
    def _shape(self) -> dict[str, Any]:
        """The part of the configuration that says how large the model is."""
        config = self._config or {}
        shape: dict[str, Any] = (
            config.get("pretrained_config") or config.get("text_config") or config
        )
        return shape

    @property
    def plan_gpus(self) -> int:
        """Of a plan: the GPUs that it was built for."""
        return int(self._shape.get("mapping", {}).get("world_size", 1))

    def _plan_limits(self) -> PlanLimits | None:
        config = self._config or {}
        if not is_plan(config):
            return None
        missing = [n for n in range(self.plan_gpus) if not (self.path / f"rank{n}.engine").exists()]
        if missing:
            raise CannotServe(
                f"the plan {self.path} is incomplete: rank{missing[0]}.engine is missing"
            )
        try:
            build = msgspec.convert(config["build_config"], PlanBuildJson, strict=False)
        except msgspec.ValidationError as error:
            raise CannotServe(f"{self.path}/config.json: {error}") from None
        return limits_of(build, self._shape.get("max_position_embeddings"))


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except json.JSONDecodeError as error:
        raise CannotServe(f"{path} is not JSON: {error}") from None
    return found
