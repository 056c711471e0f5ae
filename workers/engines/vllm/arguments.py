"""The arguments of vLLM's engine."""

from __future__ import annotations

import os
from typing import Any, Final

import vllm
from vllm import AsyncEngineArgs

from contract.config import WorkerSpec
from contract.engines import declaration_of
from contract.model_files.adapter_json import place_rank
from workers.engines.arguments import known
from workers.engines.vllm.parsing.known import known_parsers

_CPU_KV_CACHE_GIB: Final = "2"
#: On the CPU, vLLM 0.32 takes the name `uni` for `mp`, which costs a process, its start, and the
#: waiting for it at each step: both processes look for each other's word without a pause, and so
#: does each for a second after the last one. The class it takes as it is.
_IN_ONE_PROCESS: Final = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
#: So few are taken by those two, and by the threads that compute, and none is left for the rest.
#: On more, `mp` binds threads to cores, which is worth more.
_FEW_CORES: Final = 4
_BINDS_THREADS: Final = "VLLM_CPU_OMP_THREADS_BIND"
_CPU_PROCESS: Final = "workers.engines.vllm.cpu_process.CpuProcess"


def engine_args(spec: WorkerSpec, with_adapters: bool) -> dict[str, Any]:
    """The arguments of vLLM's engine that a worker's configuration asks for."""
    model = spec.model
    args: dict[str, Any] = {
        "model": model.model_path,
        # Its errors name it (`ModelConfig.served_model_name`); else they would name the path.
        "served_model_name": spec.model_id,
        "dtype": model.dtype,
        "max_model_len": model.context_len or spec.context_len,
        "max_num_seqs": model.max_batch_size or spec.max_sequences,
        "tensor_parallel_size": model.tensor_parallel_size,
        "pipeline_parallel_size": model.pipeline_parallel_size,
        "quantization": model.quantization,
        "trust_remote_code": model.trust_remote_code,
        "gpu_memory_utilization": spec.gpu_memory_fraction or model.gpu_memory_utilization,
        "kv_cache_memory_bytes": spec.kv_cache_bytes,
        "enable_lora": with_adapters or None,
        "max_loras": _adapter_places(spec) if with_adapters else None,
        "max_lora_rank": place_rank(model.adapter_paths) if with_adapters else None,
        "reasoning_parser": known_parsers(model).reasoning,
        # Counts of each token are shown nowhere; the load is told all the same.
        "disable_log_stats": True,
        "enable_sleep_mode": (model.sleep and declaration_of(spec.engine).can_sleep) or None,
    }
    args = {name: value for name, value in args.items() if value is not None} | model.engine_args
    is_whole = model.tensor_parallel_size == model.pipeline_parallel_size == 1
    # A model in parts would wait for ever for the processes that compute its other parts.
    if is_on_cpu(spec) and is_whole:
        default = "uni" if _has_few_cores() and _BINDS_THREADS not in os.environ else "mp"
        if args.get("distributed_executor_backend", default) == "uni":
            args["distributed_executor_backend"] = _IN_ONE_PROCESS
    return args


def is_on_cpu(spec: WorkerSpec) -> bool:
    return declaration_of(spec.engine).device == "cpu"


def _has_few_cores() -> bool:
    return len(os.sched_getaffinity(0)) <= _FEW_CORES


def set_cpu_defaults(args: dict[str, Any]) -> None:
    """Where it is not set."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_CACHE_GIB)
    args.setdefault("worker_extension_cls", _CPU_PROCESS)
    if args.get("distributed_executor_backend") == _IN_ONE_PROCESS:
        # As vLLM itself does for a process that only computes: one core is for all the rest.
        cores = len(os.sched_getaffinity(0))
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1)))


def _adapter_places(spec: WorkerSpec) -> int:
    """One for each adapter. On a CPU, vLLM 0.32 applies what is in the last place also to jobs
    without an adapter that run beside others: there, the last place stays empty."""
    adapters = max(1, len(spec.model.adapter_paths))
    return adapters + 1 if is_on_cpu(spec) else adapters


def known_args(args: dict[str, Any]) -> AsyncEngineArgs:
    """Return the arguments in vLLM's class for them. Raises `CannotServe`."""
    outputs = args.get("structured_outputs_config")
    kind = getattr(vllm.config, "StructuredOutputsConfig", None)
    if isinstance(outputs, dict) and kind is not None:
        # vLLM's command line makes its class of it; a reasoning parser is set on that (0.32).
        args = args | {"structured_outputs_config": kind(**outputs)}
    return AsyncEngineArgs(**known(args, AsyncEngineArgs, f"vLLM {vllm.__version__}"))
