"""What a model directory holds: a plan (a compiled TensorRT engine) or a checkpoint, its limits,
and what is needed to serve it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from contract.paths import COMMAND
from contract.plan_json import PlanBuildJson, PlanLimits, is_plan, limits_of
from workers.engine import CannotServe

_KV_BYTES: Final = {"FP8": 1, "INT8": 1, "NVFP4": 0.5625}
_DTYPE_BYTES: Final = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
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

    def kv_bytes_per_token(self, dtype: str, tensor_parallel: int, pipeline_parallel: int) -> int:
        """What one token takes in the KV cache of each GPU. `dtype` counts for checkpoints;
        the rest is as the plan was built, if it is one."""
        shape = self._shape
        mapping = shape.get("mapping", {})
        tensor_parallel = mapping.get("tp_size", tensor_parallel)
        pipeline_parallel = mapping.get("pp_size", pipeline_parallel)
        layers = -(-shape["num_hidden_layers"] // pipeline_parallel)
        if "kv_lora_rank" in shape:
            values = shape["kv_lora_rank"] + shape["qk_rope_head_dim"]
        else:
            heads = shape.get("num_key_value_heads") or shape["num_attention_heads"]
            values = 2 * -(-heads // tensor_parallel) * _head_size(shape)
        return int(layers * values * self._kv_value_bytes(dtype))

    @property
    def _shape(self) -> dict[str, Any]:
        """The part of the configuration that says how large the model is."""
        config = self._config or {}
        shape: dict[str, Any] = (
            config.get("pretrained_config") or config.get("text_config") or config
        )
        return shape

    def _kv_value_bytes(self, dtype: str) -> float:
        quantized = self._shape.get("quantization") or {}
        if self.plan is None:
            exported = _read(self.path / "hf_quant_config.json") or {}
            quantized = exported.get("quantization", {})
        algorithm = quantized.get("kv_cache_quant_algo")
        if algorithm:
            return _KV_BYTES.get(algorithm, 2)
        stored = str(self._shape.get("dtype") or self._shape.get("torch_dtype") or "float16")
        return _DTYPE_BYTES.get(dtype if self.plan is None else stored, _DTYPE_BYTES.get(stored, 2))

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


def _head_size(shape: dict[str, Any]) -> int:
    given = shape.get("head_size") or shape.get("head_dim")
    return int(given or shape["hidden_size"] // shape["num_attention_heads"])


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
