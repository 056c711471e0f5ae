"""The TensorRT-LLM that is installed: what it can serve, and how its engine is made.

Releases differ in what they have; it is looked up, never concluded from a version.
"""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from contract.config import ModelConfig, WorkerSpec
from contract.model_files.adapter_json import rank_of
from contract.model_files.plan_json import PlanLimits
from contract.paths import COMMAND
from workers.engine import CannotServe
from workers.engines.trtllm.model_files import ModelFiles

log = logging.getLogger(__name__)
#: Of `engine_args`, what is for the adapter and not for TensorRT-LLM.
OWN_ARGUMENTS: Final = frozenset({"beam_width"})
#: Sequences at once, if the configuration does not say: TensorRT-LLM's own 2048 takes gigabytes.
_DEFAULT_BATCH_SIZE: Final = 256
#: Longer prompts are refused by the PyTorch backend, unless they may be split.
_STEP_TOKENS: Final = 8192
_LARGEST_KV_FRACTION: Final = 0.95
_DTYPES: Final = {"half": "float16", "float": "float32"}


def load_engine(spec: WorkerSpec, files: ModelFiles, adapters: dict[str, str]) -> Any:
    """TensorRT-LLM's engine for a model, ready to serve. Blocks until it is loaded.
    Raises `CannotServe` if this release cannot serve these files, or not as configured, and
    `ValueError` if the planned memory is too little."""
    if _gpus(spec.model, files) == 1:
        # Otherwise a child process started through MPI runs the engine, also on one GPU.
        os.environ.setdefault("TLLM_WORKER_USE_SINGLE_PROCESS", "1")
    import tensorrt_llm

    _check_release(tensorrt_llm.__version__, files)
    if files.plan is None:
        arguments = _checkpoint_arguments(spec, files, adapters)
        llm_class = tensorrt_llm.LLM
    else:
        arguments = _plan_arguments(spec, files, files.plan, adapters)
        llm_class = _plan_class()
    arguments |= {k: v for k, v in spec.model.engine_args.items() if k not in OWN_ARGUMENTS}
    log.info("TensorRT-LLM %s: LLM(%s)", tensorrt_llm.__version__, arguments)
    try:
        return llm_class(**arguments)
    except (TypeError, ValueError) as error:
        # It refuses arguments with whatever type the release has for it.
        if any(name in str(error) for name in spec.model.engine_args):
            raise CannotServe(f"`engine_args`: {error}") from error
        raise


def is_dead(llm: Any) -> bool:
    """Return whether the engine has failed. TensorRT-LLM itself tells only at the next request."""
    executor = getattr(llm, "_executor", None)
    if executor is None or executor.is_shutdown():
        return True
    background_errors = getattr(executor, "_error_queue", None)
    return background_errors is not None and not background_errors.empty()


def _has_plan_engine() -> bool:
    """Releases up to 0.21 have no `_tensorrt_engine`: their `LLM` itself is that engine."""
    return _has("tensorrt_llm._tensorrt_engine") or _has("tensorrt_llm.builder")


def _has_pytorch_engine() -> bool:
    return _has("tensorrt_llm._tensorrt_engine") or not _has("tensorrt_llm.builder")


def _has(module: str) -> bool:
    return find_spec(module) is not None


def _check_release(version: str, files: ModelFiles) -> None:
    if files.plan is not None and not _has_plan_engine():
        raise CannotServe(
            f"{files.path} is a plan, and TensorRT-LLM {version} cannot run plans any more: "
            f"set `model_path` to {files.source}, or run the plan in an environment with a "
            f"release that can: {COMMAND} setup --engine cuda-trt --version 1.2.1 --env NAME, and "
            '"env": "NAME" in the model\'s configuration'
        )
    if files.plan is None and not _has_pytorch_engine():
        raise CannotServe(
            f"{files.path} is a checkpoint, and TensorRT-LLM {version} serves plans: build one "
            f"with {COMMAND} convert-trt --model {files.path} --output PLAN, and set `model_path` "
            "to it"
        )


def _plan_class() -> Any:
    if _has("tensorrt_llm._tensorrt_engine"):
        from tensorrt_llm._tensorrt_engine import LLM
    else:
        from tensorrt_llm import LLM
    return LLM


def _gpus(model: ModelConfig, files: ModelFiles) -> int:
    if files.plan is not None:
        return files.plan_gpus
    return model.tensor_parallel_size * model.pipeline_parallel_size


def _plan_arguments(
    spec: WorkerSpec, files: ModelFiles, plan: PlanLimits, adapters: dict[str, str]
) -> dict[str, Any]:
    """Return the arguments for a plan, which has fixed the rest when it was built."""
    model = spec.model
    for name, built in (
        ("max_batch_size", plan.max_batch_size),
        ("max_input_len", plan.max_input_len),
        ("context_len", plan.max_seq_len),
    ):
        asked = getattr(model, name)
        if asked is not None and asked > built:
            raise CannotServe(f"the plan {files.path} was built for {name} {built}, not {asked}")
    if adapters and not plan.has_lora:
        raise CannotServe(
            f"the plan {files.path} was built without LoRA: build it anew with "
            f"--lora {next(iter(adapters.values()))}"
        )
    return {
        **_common_arguments(spec, files),
        "kv_cache_config": _kv_cache(spec, files, reuse_blocks=plan.max_beam_width == 1),
        "max_batch_size": model.max_batch_size or plan.max_batch_size,
        "max_num_tokens": plan.max_num_tokens,
    }


def _checkpoint_arguments(
    spec: WorkerSpec, files: ModelFiles, adapters: dict[str, str]
) -> dict[str, Any]:
    model = spec.model
    context_len = model.context_len or files.context_len
    if context_len > files.context_len:
        raise CannotServe(
            f"{files.path} has a context of {files.context_len} tokens, not {context_len}: lower "
            "`max_model_len`, or `max_input_len` and `max_output_len`"
        )
    beam_width = model.engine_args.get("beam_width", 1)
    arguments = {
        **_common_arguments(spec, files),
        "dtype": _DTYPES.get(model.dtype, model.dtype),
        "tensor_parallel_size": model.tensor_parallel_size,
        "pipeline_parallel_size": model.pipeline_parallel_size,
        "max_batch_size": model.max_batch_size or _DEFAULT_BATCH_SIZE,
        "max_seq_len": context_len,
        "kv_cache_config": _kv_cache(spec, files, reuse_blocks=beam_width == 1),
        "enable_chunked_prefill": (model.max_input_len or context_len) > _STEP_TOKENS,
        "enable_iter_perf_stats": True,
    }
    if beam_width > 1:
        arguments["max_beam_width"] = beam_width
    if adapters:
        arguments["lora_config"] = _lora_config(adapters)
    return arguments


def _common_arguments(spec: WorkerSpec, files: ModelFiles) -> dict[str, Any]:
    return {
        "model": str(files.path),
        "trust_remote_code": spec.model.trust_remote_code,
        "guided_decoding_backend": "xgrammar" if files.has_fast_tokenizer else None,
    }


def _kv_cache(spec: WorkerSpec, files: ModelFiles, *, reuse_blocks: bool) -> Any:
    """Return the KV cache as the memory plan says. Beam search cannot share blocks."""
    from tensorrt_llm.llmapi import KvCacheConfig

    settings: dict[str, Any] = {"enable_block_reuse": reuse_blocks}
    if spec.kv_cache_tokens is not None:
        settings["max_tokens"] = files.enough(spec.kv_cache_tokens, spec.model.context_len)
        settings["free_gpu_memory_fraction"] = _LARGEST_KV_FRACTION
    elif fraction := spec.gpu_memory_fraction or spec.model.gpu_memory_utilization:
        settings["free_gpu_memory_fraction"] = fraction
    return KvCacheConfig(**settings)


def _lora_config(adapters: dict[str, str]) -> Any:
    try:
        from tensorrt_llm.lora_helper import LoraConfig
    except ImportError:
        from tensorrt_llm.lora_manager import LoraConfig

    paths = list(adapters.values())
    return LoraConfig(
        lora_dir=paths,
        max_lora_rank=max(map(_lora_rank, paths)),
        max_loras=len(paths),
        max_cpu_loras=len(paths),
    )


def _lora_rank(path: str) -> int:
    """Raises `CannotServe` if there is no adapter."""
    try:
        return rank_of(Path(path))
    except (OSError, ValueError) as error:
        raise CannotServe(
            f"{path} is no LoRA adapter in the Hugging Face format: {error}"
        ) from None
