"""How an engine will run a model, as far as that decides its memory: what the configuration says,
and the engine's own defaults for what it leaves open."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from contract.config import ModelConfig
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import Checkpoint, element_bytes
from orchestrator.terminal.sizes import GIB

#: Full-length sequences that the KV cache is planned for when the configuration names no batch
#: size. Caches are paged, so that many more of the usual, shorter ones run at once.
USUAL_SEQUENCES: Final = 16
_TRT_BATCHED_TOKENS: Final = 8192
_TRT_SEQUENCES: Final = 2048
_DEFAULT_LORA_RANK: Final = 16
#: Above any sensible argument, and low enough that arithmetic on it stays exact.
_LARGEST: Final = 2**48
#: In sequences, above what any engine records.
_LARGEST_GRAPH: Final = 8192


class Card(msgspec.Struct, frozen=True):
    """What an engine's defaults depend on. The default is a common data centre card."""

    name: str = ""
    total_bytes: int = 80 * GIB


class Running(msgspec.Struct, frozen=True):
    """The figures of one worker, on each of its GPUs."""

    tensor_parallel: int
    pipeline_parallel: int
    element_bytes: int
    kv_element_bytes: float
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

    @property
    def gpus(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel


def running(model: ModelConfig, engine: str, checkpoint: Checkpoint, card: Card) -> Running:
    """Work out how the worker will run. `engine_args` win over the keys of the configuration,
    as they do in the worker."""
    args = model.engine_args
    size = _weight_element_bytes(str(args.get("dtype", model.dtype)), checkpoint.dtype)
    context_len = whole(args, "max_model_len") or model.context_len or checkpoint.shape.context_len
    given_sequences = whole(args, "max_num_seqs") or model.max_batch_size
    sequences, tokens = _defaults(engine, card)
    sequences = given_sequences or sequences
    adapters = len(model.adapters) + bool(model.adapter_path)
    return Running(
        tensor_parallel=whole(args, "tensor_parallel_size") or model.tensor_parallel_size,
        pipeline_parallel=whole(args, "pipeline_parallel_size") or model.pipeline_parallel_size,
        element_bytes=size,
        kv_element_bytes=_kv_element_bytes(str(args.get("kv_cache_dtype", "auto")), size),
        context_len=context_len,
        max_sequences=sequences,
        wanted_sequences=given_sequences or USUAL_SEQUENCES,
        batched_tokens=whole(args, "max_num_batched_tokens")
        or min(tokens, context_len * sequences),
        graph_sizes=_graph_sizes(args, sequences),
        lora_slots=max(whole(args, "max_loras") or 0, adapters) if adapters else 0,
        lora_rank=whole(args, "max_lora_rank") or _DEFAULT_LORA_RANK,
    )


def _defaults(engine: str, card: Card) -> tuple[int, int]:
    """Sequences and tokens per step when nobody says.

    vLLM: `EngineArgs.get_batch_defaults` for a server, by the card's size (releases 0.11 to
    0.33). TensorRT-LLM: `max_batch_size` and `max_num_tokens` of its LLM class.
    """
    if engine == "cuda-trt":
        return _TRT_SEQUENCES, _TRT_BATCHED_TOKENS
    if card.total_bytes >= 160 * GIB:
        return 1024, 16384
    if card.total_bytes >= 70 * GIB and "a100" not in card.name.lower():
        return 1024, 8192
    return 256, 2048


def _weight_element_bytes(asked: str, stored: str) -> int:
    """`auto` keeps the stored type, but runs float32 checkpoints in half precision."""
    if asked != "auto":
        return element_bytes(asked)
    return 2 if stored in ("float32", "float") else max(2, element_bytes(stored))


def _kv_element_bytes(asked: str, weight_element_bytes: int) -> float:
    if asked.startswith(("fp8", "int8")):
        return 1
    return 0.5625 if "fp4" in asked else weight_element_bytes


def _graph_sizes(args: dict[str, Any], sequences: int) -> tuple[int, ...]:
    """The batch sizes for which vLLM records CUDA graphs: `VllmConfig._set_cudagraph_sizes`."""
    compilation = args.get("compilation_config")
    given = compilation if isinstance(compilation, dict) else {}
    if args.get("enforce_eager") or args.get("optimization_level") == 0:
        return ()
    if str(given.get("cudagraph_mode", "")).upper() == "NONE":
        return ()
    listed = args.get("cudagraph_capture_sizes") or given.get("cudagraph_capture_sizes")
    if listed is not None:
        return _sizes(listed)
    largest = whole(args, "max_cudagraph_capture_size") or min(2 * sequences, 512)
    asked = min(largest, _LARGEST_GRAPH)
    sizes = [1, 2, 4, *range(8, min(asked + 1, 256), 8), *range(256, asked + 1, 16)]
    return tuple(size for size in sizes if size <= asked)


def _sizes(listed: Any) -> tuple[int, ...]:
    if isinstance(listed, list) and all(isinstance(size, int) and size > 0 for size in listed):
        return tuple(sorted(min(size, _LARGEST_GRAPH) for size in listed))
    raise UserError("`engine_args`: `cudagraph_capture_sizes` is no list of numbers", "[1, 8, 64]")


def whole(args: dict[str, Any], name: str) -> int | None:
    """A positive whole number among the engine's arguments; vLLM also takes words there. Raises
    `UserError` for one that is beyond all machines."""
    value = args.get(name)
    if not isinstance(value, int) or value <= 0:
        return None
    if value > _LARGEST:
        raise UserError(f"`engine_args`: `{name}` is far too large", "what should it be?")
    return value
