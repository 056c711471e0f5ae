"""What a model's entry says to nobody, or says twice: no mistake, but hardly what was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from contract.config.model import ModelConfig
from contract.config.schema import Config
from contract.config.wording import Mistake

_OF_A_LIBRARY: Final = ("dtype", "quantization", "trust_remote_code", "gpu_memory_utilization")
_VLLM: Final = {
    "model": "model_path",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "max_num_seqs": "max_batch_size",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "quantization": "quantization",
    "trust_remote_code": "trust_remote_code",
    "gpu_memory_utilization": "gpu_memory_utilization",
    "enable_lora": "adapters",
    "enable_sleep_mode": "sleep",
}
#: By engine: arguments of the library that ew gives it, and the keys that say what.
_SAME: Final[Mapping[str, Mapping[str, str]]] = {
    "vllm": _VLLM,
    "cuda-vllm": _VLLM,
    "cpu-vllm": _VLLM,
    "cuda-trt": {
        "model": "model_path",
        "dtype": "dtype",
        "max_seq_len": "max_model_len",
        "max_batch_size": "max_batch_size",
        "tensor_parallel_size": "tensor_parallel_size",
        "pipeline_parallel_size": "pipeline_parallel_size",
        "trust_remote_code": "trust_remote_code",
        "lora_config": "adapters",
    },
    "llama-cpp": {
        "model.path": "model_path",
        "n_parallel": "max_batch_size",
        "n_ctx": "max_model_len",
    },
}
#: By engine: keys of which it makes nothing. (Of `mock`, which pretends to be any, none.)
_UNHEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "cuda-trt": ("quantization",),
    "llama-cpp": _OF_A_LIBRARY,
    "openai": (*_OF_A_LIBRARY, "env"),
}


def remarks(config: Config) -> Iterator[Mistake]:
    """What to mind, key by key."""
    for model_id, model in config.models.items():
        for keys, message in _of_model(model):
            path = ["models", model_id, *keys]
            yield Mistake(path, f"`{'.'.join(path)}` {message}")


def _of_model(model: ModelConfig) -> Iterator[tuple[list[str], str]]:
    for key in _UNHEEDED.get(model.engine, ()):
        if key in model.model_fields_set:
            yield [key], f"means nothing to the engine `{model.engine}`; remove it"
    same = _SAME.get(model.engine, {})
    for argument in model.engine_args:
        if argument in same:
            message = f"wins over `{same[argument]}`, which says the same; give that alone"
            yield ["engine_args", argument], message
