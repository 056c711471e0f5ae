"""The parts of a worker's GPU memory beside its KV cache."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.estimate.checkpoint import Checkpoint
from orchestrator.estimate.layers.towers import Tower
from orchestrator.estimate.running import Running
from orchestrator.estimate.shape import Shape
from orchestrator.terminal.sizes import MIB

# The constants of vLLM are fitted to what NVML showed on an H200 (docs/memory.md).

#: The CUDA context of a process whose model's files cannot be read, as vLLM's.
CONTEXT_BYTES: Final = 860 * MIB
#: NCCL's buffers, where several GPUs share a model.
_COLLECTIVES_BYTES: Final = 768 * MIB
#: Memory that the allocator holds for a step, per byte that the step needs: blocks of other sizes
#: are not used again.
_ALLOCATED_OF_NEEDED: Final = 1.55
#: The sampler's copies of a logit: as computed (2), in float32 (4), sorted with its index and
#: with the sort's second buffers (24), its probability (4).
_SAMPLER_BYTES_PER_LOGIT: Final = 34
#: Memory that the driver keeps for a layer of a recorded CUDA graph, and for all graphs.
_GRAPH_LAYER_BYTES: Final = MIB // 5
_GRAPH_POOL_BYTES: Final = 80 * MIB
#: Held free for it: an allocator does not take the same every time.
SPARE_BYTES: Final = 256 * MIB
#: Bytes per matrix element when the engine quantises while it loads; with their scales, of one byte
#: for 32 elements in MXFP8 and MXFP4 (vLLM's `_ONLINE_SHORTHANDS`).
_LOADED_AS: Final = {
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "int8"), 1.0),
    "mxfp8": 1 + 1 / 32,
    "mxfp4": 0.5 + 1 / 32,
    "bitsandbytes": 0.5625,
}
#: Those that quantise experts alone, and leave a model without experts as it is.
_EXPERTS_LOADED_AS: Final = {
    **dict.fromkeys(("experts_int8", "int8_per_channel_weight_only"), 1.0),
    "nvfp4_per_token": 0.5625,
}
#: Tokens of earlier context that latent attention expands at once while it reads a long prompt
#: (`determine_chunked_prefill_workspace_size` in vLLM 0.26 to 0.32).
_EXPANDED_TOKENS: Final = 65_536
_EXPANDED_CONTEXTS: Final = 8
_MLA_BLOCK_TOKENS: Final = 64


class Part(msgspec.Struct, frozen=True):
    """One item of an estimate, on each GPU; `how` says where the number comes from."""

    name: str
    size_bytes: int
    how: str


SPARE: Final = Part("spare", SPARE_BYTES, "for what differs from start to start")


def weights(
    model: ModelConfig, checkpoint: Checkpoint, run: Running, *, is_predicted: bool = False
) -> Part:
    """The weights, with the layers that predict further tokens if they are used."""
    predictors = checkpoint.weights.predictors.size_bytes(run.element_bytes) if is_predicted else 0
    size_bytes = _weight_bytes(model, checkpoint, run) + predictors // run.tensor_parallel
    return Part("weights", size_bytes, _weights_source(checkpoint, run))


def draft_model(model: ModelConfig, draft: Checkpoint | None, run: Running) -> Part:
    """A draft model's weights and its own CUDA graphs, on as many GPUs as the model."""
    if draft is None:
        return Part("draft model", 0, "")
    size_bytes = _weight_bytes(model, draft, run)
    if run.graph_sizes:
        size_bytes += len(run.graph_sizes) * draft.shape.layers * _GRAPH_LAYER_BYTES
    return Part("draft model", size_bytes, f"{draft.weights.source}, CUDA graphs")


def _weight_bytes(model: ModelConfig, checkpoint: Checkpoint, run: Running) -> int:
    """The largest pipeline stage's weights, divided by tensor parallelism. The first stage has
    the embedding as well, the last one the output head (a tied head is the embedding again). A
    pooling model has no head: vLLM makes none (`as_embedding_model` and its kin)."""
    stored = checkpoint.weights
    loaded_as = None if checkpoint.quantization else _loaded_as(model, checkpoint.shape)
    layers = stored.layers.size_bytes(run.element_bytes, loaded_as)
    embedding = stored.embedding.size_bytes(run.element_bytes)
    head = 0 if run.is_pooling else stored.head.size_bytes(run.element_bytes)
    if run.pipeline_parallel == 1:
        return math.ceil((layers + embedding + head) / run.tensor_parallel)
    share = math.ceil(checkpoint.shape.layers / run.pipeline_parallel) / checkpoint.shape.layers
    last = embedding if checkpoint.is_tied else head
    return math.ceil((layers * share + max(embedding, last)) / run.tensor_parallel)


def _loaded_as(model: ModelConfig, shape: Shape) -> float | None:
    """Return the bytes of a matrix element of a model that is quantised while it is loaded, as
    `quantization` or the engine's argument of that name says; None if it stays as it is."""
    method = str(model.engine_args.get("quantization") or model.quantization or "")
    experts = _EXPERTS_LOADED_AS if shape.experts_per_token else {}
    return _LOADED_AS.get(method) or experts.get(method)


def _weights_source(checkpoint: Checkpoint, run: Running) -> str:
    parallel = "" if run.gpus == 1 else f", on {run.gpus} GPUs"
    kind = f" {checkpoint.quantization}" if checkpoint.quantization else ""
    return f"{checkpoint.weights.source}{kind}{parallel}"


def activations(shape: Shape, run: Running, guessed: int = 0) -> Part:
    """The memory that one step needs beside the weights: first the widest layer of a step full of
    prompt tokens, then, in the same memory, the sampler's copies of the logits of a full batch: a
    row for each sequence, and one for each of its `guessed` tokens (vLLM's `RejectionSampler`)."""
    forward = run.batched_tokens * _token_bytes(shape, run) * _ALLOCATED_OF_NEEDED
    rows = run.max_sequences * (1 + guessed)
    sampler = rows * shape.vocab_size * _SAMPLER_BYTES_PER_LOGIT
    if forward >= sampler:
        return Part("activations", math.ceil(forward), f"{run.batched_tokens} tokens a step")
    return Part("activations", sampler, f"the logits of {rows} tokens")


def encoder_cache(shape: Shape, run: Running) -> Part:
    """The tokens that towers made of images and sounds, kept until the language model has read
    them: as many as fit into a step, or those of the largest (`compute_mm_encoder_budget`)."""
    known = {kind: each.tokens for each in shape.towers for kind in each.kinds} | shape.media
    most = {kind: tokens for kind, tokens in known.items() if _takes(run, kind)}
    if not most:
        return Part("encoder cache", 0, "")
    tokens = max(run.batched_tokens, *most.values())
    size = tokens * shape.hidden_size * run.element_bytes
    kinds = {"images": {"image", "video"}, "sounds": {"audio"}}
    media = " and ".join(name for name, each in kinds.items() if each & {*most})
    return Part("encoder cache", size, f"{tokens} tokens of {media}")


def towers_at_work(shape: Shape, run: Running, activations: Part) -> Part:
    """The activations of the tower that takes most, as far as they are more than the language
    model's, which come after them in the same memory."""
    parts = [_tower_at_work(each, run, activations) for each in _used(shape, run)]
    return max(parts, key=lambda part: part.size_bytes, default=Part("vision tower", 0, ""))


def _used(shape: Shape, run: Running) -> list[Tower]:
    return [each for each in shape.towers if any(_takes(run, kind) for kind in each.kinds)]


def _takes(run: Running, kind: str) -> bool:
    return run.hears if kind == "audio" else run.sees


def _tower_at_work(tower: Tower, run: Running, activations: Part) -> Part:
    """Of one that works on as many images or sounds at once as it may."""
    budget = max(run.batched_tokens, tower.tokens)
    a_prompt = max(1, run.context_len // tower.tokens)
    items = max(1, min(budget // tower.tokens, run.max_sequences * a_prompt))
    patches = items * tower.patches
    size = patches * tower.patch_bytes(run.tensor_parallel, run.element_bytes)
    what, name = ("places", "audio tower") if tower.hears else ("patches", "vision tower")
    how = f"{patches} {what} at once, beyond the activations"
    return Part(name, max(0, size - activations.size_bytes), how)


def expanded_context(shape: Shape, run: Running) -> Part:
    """Latent attention reads a long prompt in steps. In each it expands the context before the
    step, a part after the other, to keys and values of all heads, beside a copy of what the
    cache has of it. The blocks are too large for the step's other activations to use again."""
    latent = next((each for each in shape.caches if each.is_shared and each.elements), None)
    if latent is None:
        return Part("MLA context", 0, "")
    blocks = run.max_sequences * _MLA_BLOCK_TOKENS
    wished = max(_EXPANDED_CONTEXTS * run.context_len, 4 * blocks)
    tokens = max(min(wished, _EXPANDED_TOKENS), blocks)
    elements = shape.expanded_dim * shape.heads / run.tensor_parallel + latent.elements
    size = math.ceil(tokens * elements * run.element_bytes)
    return Part("MLA context", size, f"{tokens} tokens of it, expanded")


def _token_bytes(shape: Shape, run: Running) -> int:
    """The most that one token has in flight within a layer: the residual and its normalised
    copy, with the attention's projections, those of a recurrent layer, or the MLP's: gate, up and
    product, or of one that is not gated a single one, which its function changes in place. A
    token in a mixture of experts has these for each expert it visits, and their outputs."""
    tp = run.tensor_parallel
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim / tp + shape.hidden_size
    scan = (shape.scan.elements + shape.scan.fixed_bytes / run.element_bytes) / tp
    is_in_place = not shape.is_gated and bool(run.graph_sizes)
    inner = 1 if is_in_place else 2 + shape.is_gated
    mlp = inner * shape.intermediate_size / tp
    if shape.experts_per_token:
        expert = (2 + shape.is_gated) * shape.expert_size / tp
        mlp = shape.experts_per_token * (expert + shape.hidden_size)
    widest = max(attention, scan, mlp)
    return math.ceil((3 * shape.hidden_size + widest) * run.element_bytes)


def graph_bytes(shape: Shape, run: Running) -> int:
    """CUDA graphs of vLLM: the driver's records, and the activations of the largest one, whose
    memory all of them share. With adapters there is one more for each size, as steps without any
    have theirs (`CudagraphDispatcher._get_lora_cases`)."""
    if not run.graph_sizes:
        return 0
    layers = math.ceil(shape.layers / run.pipeline_parallel)
    kinds = 2 if run.lora_slots else 1
    records = kinds * len(run.graph_sizes) * layers * _GRAPH_LAYER_BYTES
    return _GRAPH_POOL_BYTES + records + run.graph_sizes[-1] * _token_bytes(shape, run)


def adapters(shape: Shape, run: Running) -> Part:
    """The places that are kept for LoRA adapters."""
    elements = shape.adapters.elements(run.tensor_parallel) / run.pipeline_parallel
    size = math.ceil(run.lora_slots * run.lora_rank * elements * run.element_bytes)
    return Part("adapters", size, f"{run.lora_slots} of rank {run.lora_rank}")


def context(engine: str, run: Running) -> Part:
    memory = declaration_of(engine).gpu_memory
    base = memory.context_mib * MIB if memory else CONTEXT_BYTES
    if run.gpus == 1:
        return Part("context", base, "CUDA context and libraries")
    return Part("context", base + _COLLECTIVES_BYTES, "CUDA context, libraries, NCCL")
