"""A step: builds a plan through TensorRT-LLM's own LLM API, saves it, and tries it."""

from __future__ import annotations

import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from programs.trt_conversion.child import Child

_ALGORITHMS: Final = {
    "fp8": "FP8",
    "int8_sq": "W8A8_SQ_PER_CHANNEL",
    "int4_awq": "W4A16_AWQ",
    "w4a8_awq": "W4A8_AWQ",
    "int8_wo": "W8A16",
    "int4_wo": "W4A16",
    "nvfp4": "NVFP4",
}
#: A step computes whole prompts.
_STEP_TOKENS: Final = 8192
_BLOCK_TOKENS: Final = 64


def main() -> None:
    child = Child()
    settings = child.settings
    if settings["workers"]:
        os.environ["OMP_NUM_THREADS"] = str(settings["workers"])
    child.stage("loading TensorRT-LLM")
    llm = _llm_class()(**llm_arguments(settings))
    child.stage("saving the plan")
    llm.save(settings["directory"])
    _copy_companions(settings)
    child.stage("trying the plan")
    child.report({"answer": _try(llm)})
    llm.shutdown()


def llm_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the engine is built and loaded with: a KV cache for one sequence is enough
    here."""
    from tensorrt_llm import BuildConfig
    from tensorrt_llm.llmapi import KvCacheConfig

    longest = settings["max_input_len"] + settings["max_output_len"]
    build = {
        "max_batch_size": settings["max_batch_size"],
        "max_input_len": settings["max_input_len"],
        "max_seq_len": longest,
        "max_num_tokens": max(_STEP_TOKENS, settings["max_input_len"]),
        "max_beam_width": settings["max_beam_width"],
    }
    if settings["lora"]:
        build["lora_config"] = _lora_config(settings["lora"])
    return {
        "model": settings["model"],
        "dtype": settings["dtype"],
        "tensor_parallel_size": settings["tp_size"],
        "pipeline_parallel_size": settings["pp_size"],
        "trust_remote_code": settings["trust_remote_code"],
        "enable_lora": bool(settings["lora"]),
        "workspace": settings["workspace"],
        "build_config": BuildConfig(**build),
        "kv_cache_config": KvCacheConfig(
            max_tokens=(longest // _BLOCK_TOKENS + 2) * _BLOCK_TOKENS * settings["max_beam_width"],
            enable_block_reuse=settings["max_beam_width"] == 1,
        ),
        **_quantization(settings),
    }


def _quantization(settings: dict[str, Any]) -> dict[str, Any]:
    """Nothing for a checkpoint that is quantised already: it says how itself."""
    from tensorrt_llm.llmapi import CalibConfig, QuantAlgo, QuantConfig

    chosen: dict[str, Any] = {}
    if settings["quantization"]:
        chosen["quant_algo"] = QuantAlgo[_ALGORITHMS[settings["quantization"]]]
    if settings["kv_cache_dtype"] != "auto":
        chosen["kv_cache_quant_algo"] = QuantAlgo[settings["kv_cache_dtype"].upper()]
    if not chosen:
        return {}
    arguments: dict[str, Any] = {"quant_config": QuantConfig(**chosen)}
    if settings["calib_data"]:
        arguments["calib_config"] = CalibConfig(calib_dataset=settings["calib_data"])
    return arguments


def _lora_config(adapter: str) -> Any:
    """For adapters of the same rank, or less, and the same layers as this one."""
    try:
        from tensorrt_llm.lora_helper import LoraConfig
    except ImportError:
        from tensorrt_llm.lora_manager import LoraConfig

    rank = json.loads((Path(adapter) / "adapter_config.json").read_text())["r"]
    return LoraConfig(lora_dir=[adapter], max_lora_rank=rank)


def _llm_class() -> Any:
    """Releases up to 0.21 have no `_tensorrt_engine`: their `LLM` itself is that engine."""
    import tensorrt_llm

    if find_spec("tensorrt_llm._tensorrt_engine") is None:
        return tensorrt_llm.LLM
    from tensorrt_llm._tensorrt_engine import LLM

    return LLM


def _copy_companions(settings: dict[str, Any]) -> None:
    """TensorRT-LLM saves only files whose names begin with `tokenizer`."""
    directory = Path(settings["directory"])
    for path in map(Path, settings["companions"]):
        shutil.copyfile(path, directory / path.name)


def _try(llm: Any) -> list[int]:
    """Return the plan runs: one token. Its tokenizer is read from its own directory."""
    from tensorrt_llm import SamplingParams

    prompt = llm.tokenizer.encode("Hello")
    params = SamplingParams(max_tokens=1, top_k=1)
    answer = llm.generate({"prompt_token_ids": prompt}, params, use_tqdm=False)
    return list(answer.outputs[0].token_ids)


# Ranks on other GPUs are started by importing this module again.
if __name__ == "__main__":
    main()
