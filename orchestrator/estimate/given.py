"""The memory that the configuration gives to a model, instead of what its files need."""

from __future__ import annotations

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.errors import UserError
from orchestrator.estimate.estimate import Estimate
from orchestrator.estimate.kv_cache import KvCache
from orchestrator.estimate.parts import CONTEXT_BYTES, Part
from orchestrator.terminal.sizes import GIB, MIB, show


def given_estimate(model: ModelConfig, engine: str) -> Estimate:
    """Exactly as much as `gpu_memory_gib` says. The files of the model are not read, and the
    engine divides it as it likes. Raises `UserError` if it is too little for anything."""
    given = int((model.gpu_memory_gib or 0) * GIB)
    memory = declaration_of(engine).gpu_memory
    context = memory.context_mib * MIB if memory else CONTEXT_BYTES
    if given <= context:
        raise UserError(
            f"`gpu_memory_gib` is {model.gpu_memory_gib}, and CUDA and its libraries alone take "
            f"{show(context)}",
            "give the model more",
        )
    parts = (
        Part("given", given - context, "`gpu_memory_gib` of the model"),
        Part("context", context, "CUDA context and libraries"),
    )
    gpus = model.tensor_parallel_size * model.pipeline_parallel_size
    cache = KvCache(0, model.context_len or 0, 0, 0, 0)
    return Estimate(gpus, parts, cache, is_given=True)
