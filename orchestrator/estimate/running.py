"""How an engine will run a model, as far as that decides its memory: what the configuration says,
and the engine's own defaults for what it leaves open."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from contract.config import ModelConfig
from contract.engines import Batch, MemoryArguments, declaration_of
from contract.model_files.adapter_json import place_rank
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import Checkpoint, element_bytes
from orchestrator.estimate.layers.cache_types import CacheType, cache_type
from orchestrator.terminal.sizes import GIB

#: Full-length sequences that the KV cache is planned for when the configuration names no batch
#: size. Caches are paged, so that many more of the usual, shorter ones run at once.
USUAL_SEQUENCES: Final = 16
#: Above any sensible argument, and low enough that arithmetic on it stays exact.
_LARGEST: Final = 2**48
#: In sequences, above what any engine records.
_LARGEST_GRAPH: Final = 8192


class Card(msgspec.Struct, frozen=True):
    """The card that an engine's defaults depend on. The default is a common data centre card."""

    name: str = ""
    total_bytes: int = 80 * GIB


class Running(msgspec.Struct, frozen=True):
    """The figures of one worker, on each of its GPUs."""

    tensor_parallel: int
    pipeline_parallel: int
    element_bytes: int
    kv_type: CacheType
    #: Prompt and answer together, in tokens.
    context_len: int
    #: Sequences that the engine may run at once, and full-length ones to have a cache for.
    max_sequences: int
    wanted_sequences: int
    #: Tokens in one step of the engine, at most.
    batched_tokens: int
    #: Numbers of tokens for which the engine records a CUDA graph; none without graphs.
    graph_sizes: tuple[int, ...]
    lora_slots: int
    lora_rank: int
    #: Layers with a sliding window keep that window only.
    keeps_windows_only: bool
    #: Its requests may have images (or videos), and sounds in them.
    sees: bool = True
    hears: bool = True
    #: It says something of its prompts, and generates nothing.
    is_pooling: bool = False

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


def running(model: ModelConfig, engine: str, checkpoint: Checkpoint, card: Card) -> Running:
    """Work out how the worker will run. `engine_args` win over the keys of the configuration,
    as they do in the worker."""
    args, figures = model.engine_args, figures_of(engine)
    argument_for, memory = declaration_of(engine).argument_for, declaration_of(engine).gpu_memory
    dtype = str(args.get(argument_for("dtype"), model.dtype))
    size = _weight_element_bytes(dtype, checkpoint.dtype)
    asked_len = whole(args, argument_for("max_model_len")) or model.context_len
    context_len = asked_len or checkpoint.shape.context_len
    given_sequences = whole(args, argument_for("max_batch_size")) or model.max_batch_size
    default = _defaults(engine, card)
    sequences = given_sequences or default.sequences
    adapters = model.adapter_paths
    return Running(
        tensor_parallel=whole(args, argument_for("tensor_parallel_size"))
        or model.tensor_parallel_size,
        pipeline_parallel=whole(args, argument_for("pipeline_parallel_size"))
        or model.pipeline_parallel_size,
        element_bytes=size,
        kv_type=_kv_type(_kv_dtype(engine, args, checkpoint), checkpoint, size),
        context_len=context_len,
        max_sequences=sequences,
        wanted_sequences=given_sequences or USUAL_SEQUENCES,
        batched_tokens=whole(args, figures.batched_tokens)
        or min(default.tokens, context_len * sequences),
        graph_sizes=_graph_sizes(args, figures, sequences),
        lora_slots=(whole(args, figures.adapters) or len(adapters)) if adapters else 0,
        lora_rank=whole(args, figures.adapter_rank) or place_rank(adapters),
        keeps_windows_only=memory is not None and memory.keeps_windows_only,
        sees=_takes(args, "image", "video"),
        hears=_takes(args, "audio"),
        is_pooling=_is_pooling(args),
    )


def _is_pooling(args: dict[str, Any]) -> bool:
    """Return whether vLLM is asked for vectors or classes of prompts (`ModelConfig.runner`)."""
    return args.get("runner") == "pooling" or args.get("convert") in ("embed", "classify")


def _takes(args: dict[str, Any], *kinds: str) -> bool:
    """vLLM makes no use of a tower whose media it is not to take (`limit_mm_per_prompt`)."""
    limits = args.get("limit_mm_per_prompt")
    if args.get("language_model_only"):
        return False
    return not isinstance(limits, dict) or any(limits.get(kind, 1) for kind in kinds)


def figures_of(engine: str) -> MemoryArguments:
    """Return what an engine calls the arguments that decide its memory."""
    memory = declaration_of(engine).gpu_memory
    return memory.figures if memory else MemoryArguments()


def _defaults(engine: str, card: Card) -> Batch:
    """Sequences and tokens per step when the configuration is silent, as the engine is declared.

    vLLM: `EngineArgs.get_batch_defaults` for a server, by the card's size (releases 0.11 to
    0.33). TensorRT-LLM: `max_batch_size` and `max_num_tokens` of its LLM class.
    """
    memory = declaration_of(engine).gpu_memory
    for batch in memory.batches if memory else ():
        is_other = batch.not_on and batch.not_on in card.name.lower()
        if card.total_bytes >= batch.from_gib * GIB and not is_other:
            return batch
    return Batch(USUAL_SEQUENCES, 2048)


def _weight_element_bytes(asked: str, stored: str) -> int:
    """`auto` keeps the stored type, but runs float32 checkpoints in half precision."""
    if asked != "auto":
        return element_bytes(asked)
    return 2 if stored in ("float32", "float") else max(2, element_bytes(stored))


def _kv_dtype(engine: str, args: dict[str, Any], checkpoint: Checkpoint) -> str:
    """Return the type that is asked for, else that of the checkpoint, as far as the engine heeds it
    (SGLang 0.5.23 in `configure_kv_cache_dtype` eight bits alone)."""
    asked = str(args.get(figures_of(engine).kv_cache_dtype, "auto"))
    if asked != "auto":
        return asked
    memory, stored = declaration_of(engine).gpu_memory, checkpoint.kv_quantization
    heeded = memory.stored_kv_types if memory else ()
    return stored if not heeded or stored.lower() in heeded else ""


def _kv_type(dtype: str, checkpoint: Checkpoint, weight_element_bytes: int) -> CacheType:
    is_hybrid = checkpoint.shape.count("state") > 0
    return cache_type(dtype, weight_element_bytes, is_hybrid=is_hybrid)


def _graph_sizes(args: dict[str, Any], figures: MemoryArguments, sequences: int) -> tuple[int, ...]:
    """Return the batch sizes for which vLLM records CUDA graphs:
    `VllmConfig._set_cudagraph_sizes`."""
    compilation = args.get("compilation_config")
    given = compilation if isinstance(compilation, dict) else {}
    if args.get(figures.no_graphs) or args.get("optimization_level") == 0:
        return ()
    if str(given.get("cudagraph_mode", "")).upper() == "NONE":
        return ()
    listed = args.get(figures.graph_sizes) or given.get("cudagraph_capture_sizes")
    if listed is not None:
        return _sizes(listed, figures.graph_sizes)
    largest = whole(args, figures.largest_graph) or min(2 * sequences, 512)
    asked = min(largest, _LARGEST_GRAPH)
    sizes = [1, 2, 4, *range(8, min(asked + 1, 256), 8), *range(256, asked + 1, 16)]
    return tuple(size for size in sizes if size <= asked)


def _sizes(listed: Any, argument: str) -> tuple[int, ...]:
    if isinstance(listed, list) and all(isinstance(size, int) and size > 0 for size in listed):
        return tuple(sorted(min(size, _LARGEST_GRAPH) for size in listed))
    raise UserError(f"`engine_args`: `{argument}` is no list of numbers", "[1, 8, 64]")


def whole(args: dict[str, Any], name: str) -> int | None:
    """Return a positive whole number among the engine's arguments; vLLM also takes words there.
    Raises `UserError` for one that is beyond all machines."""
    value = args.get(name)
    if not isinstance(value, int) or value <= 0:
        return None
    if value > _LARGEST:
        raise UserError(f"`engine_args`: `{name}` is far too large", "what should it be?")
    return value
