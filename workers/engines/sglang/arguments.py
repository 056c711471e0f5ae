"""The arguments of SGLang's engine that a worker's configuration asks for."""

from __future__ import annotations

from typing import Any, Final

from contract.config import WorkerSpec
from workers.engines.shared.checkpoints import local_directory
from workers.engines.trtllm.model_files import ModelFiles

#: Sequences at once, if the configuration does not say.
_SEQUENCES: Final = 256
#: SGLang keeps so many tokens of a context for itself: a prompt must be shorter by 7, and prompt
#: and answer together by 2 (`TpModelWorker.get_worker_info`, `Scheduler.init_req_max_new_tokens`).
CONTEXT_MARGIN: Final = 6
#: Of the memory that is free before the model is loaded. With an exact number of tokens, this
#: only has to be enough.
_LARGEST_STATIC: Final = 0.97
#: Of a part of the GPU that the worker may take, so much is for weights and KV cache.
_STATIC_OF_PART: Final = 0.9


def server_arguments(
    spec: WorkerSpec, adapters: dict[str, str], reasoning_parser: str | None = None
) -> dict[str, Any]:
    """Return the fields of `ServerArgs`. Raises `CannotServe` if there is no such checkpoint,
    and `ValueError` if the planned memory is too little."""
    model = spec.model
    files = ModelFiles(local_directory(model.model_path))
    arguments: dict[str, Any] = {
        "model_path": model.model_path,
        "dtype": model.dtype,
        "context_length": _context_length(model.context_len, files.context_len),
        "max_running_requests": model.max_batch_size or _SEQUENCES,
        "tp_size": model.tensor_parallel_size,
        "pp_size": model.pipeline_parallel_size,
        "quantization": model.quantization,
        "trust_remote_code": model.trust_remote_code,
        # It tells the scheduler where a thought ends, after which a constraint begins.
        "reasoning_parser": reasoning_parser,
        "log_level": "info",
        # Each output is what is new.
        "incremental_streaming_output": True,
        **_memory(spec, files),
    }
    if adapters:
        arguments |= {
            "enable_lora": True,
            "lora_paths": adapters,
            # One of them is for requests without an adapter.
            "max_loras_per_batch": len(adapters) + 1,
        }
    if model.sleep:
        # Without the backup, the weights are lost.
        arguments |= {"enable_memory_saver": True, "enable_weights_cpu_backup": True}
    given = {name: value for name, value in arguments.items() if value is not None}
    return given | model.engine_args


def _context_length(asked: int | None, own: int) -> int | None:
    """Enough for `asked` tokens, if the model has them; else it is for SGLang to refuse."""
    if asked is None:
        return None
    return asked if asked > own else min(asked + CONTEXT_MARGIN, own)


def _memory(spec: WorkerSpec, files: ModelFiles) -> dict[str, Any]:
    """Return the KV cache as the memory plan says. SGLang takes its size in tokens."""
    if spec.kv_cache_tokens is not None:
        tokens = files.enough(spec.kv_cache_tokens, spec.model.context_len)
        return {"max_total_tokens": tokens, "mem_fraction_static": _LARGEST_STATIC}
    fraction = spec.gpu_memory_fraction or spec.model.gpu_memory_utilization
    return {"mem_fraction_static": round(fraction * _STATIC_OF_PART, 3)} if fraction else {}
