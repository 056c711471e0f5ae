"""How much GPU memory a model needs, worked out before it ever ran. Pure arithmetic on what its
files and its configuration say; what it was measured to take counts more (`footprints`)."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.errors import UserError
from orchestrator.estimate import kv_cache
from orchestrator.estimate.checkpoint import (
    Checkpoint,
    PlanMemory,
    Shape,
    locate_model,
    read_checkpoint,
)
from orchestrator.estimate.description import Question, as_described, differences, remembered
from orchestrator.estimate.running import Card, Running, figures_of, running, whole
from orchestrator.terminal.sizes import GIB, MIB, show

# The constants of vLLM are fitted to what NVML showed on an H200 (docs/memory.md).

#: The CUDA context of a process whose model's files cannot be read, as vLLM's.
CONTEXT_BYTES: Final = 860 * MIB
#: NCCL's buffers, where several GPUs share a model.
_COLLECTIVES_BYTES: Final = 768 * MIB
#: What the allocator holds for a step, of what the step needs: blocks of other sizes are not
#: used again.
_ALLOCATED_OF_NEEDED: Final = 1.55
#: The sampler's copies of a logit: as computed (2), in float32 (4), sorted with its index and
#: with the sort's second buffers (24), its probability (4).
_SAMPLER_BYTES_PER_LOGIT: Final = 34
#: What the driver keeps for one layer of one recorded CUDA graph, and for all graphs together.
_GRAPH_LAYER_BYTES: Final = MIB // 5
_GRAPH_POOL_BYTES: Final = 80 * MIB
#: Held free for it: an allocator does not take the same every time.
SPARE_BYTES: Final = 256 * MIB
#: Activations of a TensorRT plan per token and hidden element (engines.md A6).
_PLAN_ACTIVATION_FACTOR: Final = 16
#: Bytes per matrix element when the engine quantises while it loads.
_LOADED_AS: Final = {"fp8": 1.0, "experts_int8": 1.0, "int8": 1.0, "bitsandbytes": 0.5625}
#: Of files that the engine leaves alone, so many are named.
_NAMED_STRAYS: Final = 3
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


_SPARE: Final = Part("spare", SPARE_BYTES, "for what differs from start to start")


class KvCache(msgspec.Struct, frozen=True):
    """The cache that grows with the context, on each GPU. The engine runs with any size from
    `least_bytes` (one sequence of the full context) on; `wanted_bytes` serve `sequences`."""

    bytes_per_token: int
    context_len: int
    sequences: int
    least_bytes: int
    wanted_bytes: int
    #: Of it, the states of recurrent layers for each sequence.
    state_bytes: int = 0
    #: What one more sequence takes at least, so how many of them a cache allows at once.
    bytes_to_begin: int = 0
    #: Sequences that the engine may run at once; as many as it likes if 0.
    max_sequences: int = 0


class Estimate(msgspec.Struct, frozen=True):
    """What one worker takes on each of its `gpus`, without what others do there."""

    gpus: int
    parts: tuple[Part, ...]
    kv_cache: KvCache
    #: Part of the GPU's memory that the engine may take in all, where the user has fixed it.
    fraction: float | None = None
    notes: tuple[str, ...] = ()
    #: Whose reading of the model's files it is.
    source: str = "ew"
    #: Whether the configuration says how much it is (`gpu_memory_gib`).
    is_given: bool = False

    @property
    def fixed_bytes(self) -> int:
        """All but the KV cache."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def least_bytes(self) -> int:
        return self.fixed_bytes + self.kv_cache.least_bytes

    @property
    def wanted_bytes(self) -> int:
        return self.fixed_bytes + self.kv_cache.wanted_bytes

    def part_bytes(self, name: str) -> int:
        return sum(part.size_bytes for part in self.parts if part.name == name)

    @property
    def unseen_at_rest_bytes(self) -> int:
        """What NVML does not show yet when the engine has just become ready. vLLM hands the
        activations' memory back before it records its CUDA graphs, and takes it again when
        requests come."""
        return self.part_bytes("activations") if self.part_bytes("CUDA graphs") else 0


def reads_checkpoint(engine: str) -> bool:
    """Whether what an engine takes of a GPU is worked out from its model's files."""
    memory = declaration_of(engine).gpu_memory
    return memory is not None and not memory.pretended


def estimate_model(
    model: ModelConfig, engine: str, card: Card, release: str = ""
) -> Estimate | None:
    """The estimate for a configured model; None if its engine takes no GPU memory. Reads the
    model's files as this release takes them, and what the engine has said of them. Raises
    `UserError` if they are not there or do not say enough."""
    memory = declaration_of(engine).gpu_memory
    if memory is None:
        return None
    if memory.pretended:
        return _pretended(model, memory.pretended)
    checkpoint = read_checkpoint(locate_model(model), release)
    described = remembered(Question.of(model, engine, release, card))
    if described is None or checkpoint.plan is not None:
        return estimate(model, engine, checkpoint, card)
    found = estimate(model, engine, as_described(checkpoint, described), card)
    notes = (*found.notes, *differences(checkpoint, described))
    return msgspec.structs.replace(found, notes=notes, source=f"vLLM {described.release}")


def blind_estimate(model: ModelConfig, fraction: float, note: str) -> Estimate:
    """The estimate for a model whose files do not say what it needs: that part of each GPU."""
    return Estimate(
        gpus=model.tensor_parallel_size * model.pipeline_parallel_size,
        parts=(Part("context", CONTEXT_BYTES, "CUDA context and libraries"),),
        kv_cache=KvCache(0, 0, 0, 0, 0),
        fraction=fraction,
        notes=(note,),
    )


def estimate(model: ModelConfig, engine: str, checkpoint: Checkpoint, card: Card) -> Estimate:
    """The estimate for a model whose files have been read. Raises `UserError` if the files and
    the configuration contradict each other."""
    run = running(model, engine, checkpoint, card)
    if checkpoint.plan is not None:
        return _of_plan(model, engine, checkpoint, checkpoint.plan, run)
    shape = checkpoint.shape
    parts = [
        Part("weights", _weight_bytes(model, checkpoint, run), _weights_how(checkpoint, run)),
        _activations(shape, run),
        _expanded(shape, run),
        Part("CUDA graphs", _graph_bytes(shape, run), f"{len(run.graph_sizes)} batch sizes"),
        Part("adapters", _lora_bytes(shape, run), f"{run.lora_slots} of rank {run.lora_rank}"),
        _context(engine, run),
        _SPARE,
    ]
    return Estimate(
        gpus=run.gpus,
        parts=tuple(part for part in parts if part.size_bytes),
        kv_cache=_kv_cache(model, engine, shape, run),
        fraction=fraction_of(model),
        notes=tuple(_notes(model, checkpoint)),
    )


def _pretended(model: ModelConfig, argument: str) -> Estimate | None:
    """An engine that pretends takes what this argument says."""
    size_bytes = int(model.engine_args.get(argument, 0)) * MIB
    if not size_bytes:
        return None
    part = Part("weights", size_bytes, f"`{argument}` of the {model.engine} engine")
    gpus = model.tensor_parallel_size * model.pipeline_parallel_size
    return Estimate(gpus, (part,), KvCache(0, model.context_len or 0, 0, 0, 0), fraction_of(model))


def _weight_bytes(model: ModelConfig, checkpoint: Checkpoint, run: Running) -> int:
    """The largest pipeline stage's weights, divided by tensor parallelism. The first stage has
    the embedding as well, the last one the output head (a tied head is the embedding again)."""
    weights = checkpoint.weights
    loaded_as = None if checkpoint.quantization else _LOADED_AS.get(model.quantization or "")
    layers = weights.layers.size_bytes(run.element_bytes, loaded_as)
    embedding = weights.embedding.size_bytes(run.element_bytes)
    head = weights.head.size_bytes(run.element_bytes)
    if run.pipeline_parallel == 1:
        return math.ceil((layers + embedding + head) / run.tensor_parallel)
    share = math.ceil(checkpoint.shape.layers / run.pipeline_parallel) / checkpoint.shape.layers
    last = embedding if checkpoint.is_tied else head
    return math.ceil((layers * share + max(embedding, last)) / run.tensor_parallel)


def _weights_how(checkpoint: Checkpoint, run: Running) -> str:
    parallel = "" if run.gpus == 1 else f", on {run.gpus} GPUs"
    kind = f" {checkpoint.quantization}" if checkpoint.quantization else ""
    return f"{checkpoint.weights.source}{kind}{parallel}"


def _activations(shape: Shape, run: Running) -> Part:
    """What one step needs beside the weights: first the widest layer of a step full of prompt
    tokens, then, in the same memory, the sampler's copies of the logits of a full batch."""
    forward = run.batched_tokens * _token_bytes(shape, run) * _ALLOCATED_OF_NEEDED
    sampler = run.max_sequences * shape.vocab_size * _SAMPLER_BYTES_PER_LOGIT
    if forward >= sampler:
        return Part("activations", math.ceil(forward), f"{run.batched_tokens} tokens a step")
    return Part("activations", sampler, f"the logits of {run.max_sequences} sequences")


def _expanded(shape: Shape, run: Running) -> Part:
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
    copy, with the attention's projections or with the MLP's gate, up and product. A token in a
    mixture of experts has the MLP's once for each expert it visits, and their outputs."""
    tp = run.tensor_parallel
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim / tp + shape.hidden_size
    mlp = 3 * shape.intermediate_size / tp
    if shape.experts_per_token:
        mlp = shape.experts_per_token * (3 * shape.expert_size / tp + shape.hidden_size)
    return math.ceil((3 * shape.hidden_size + max(attention, mlp)) * run.element_bytes)


def _graph_bytes(shape: Shape, run: Running) -> int:
    """CUDA graphs of vLLM: the driver's records, and the activations of the largest one, whose
    memory all of them share."""
    if not run.graph_sizes:
        return 0
    layers = math.ceil(shape.layers / run.pipeline_parallel)
    records = len(run.graph_sizes) * layers * _GRAPH_LAYER_BYTES
    return _GRAPH_POOL_BYTES + records + run.graph_sizes[-1] * _token_bytes(shape, run)


def _lora_bytes(shape: Shape, run: Running) -> int:
    """Two thin matrices beside each projection, for each adapter that may be active."""
    heads = shape.heads * shape.head_dim
    kv = shape.kv_heads * shape.head_dim
    attention = 2 * (shape.hidden_size + heads) + 2 * (shape.hidden_size + kv)
    mlp = 3 * (shape.hidden_size + shape.intermediate_size)
    layers = math.ceil(shape.layers / run.pipeline_parallel)
    elements = run.lora_slots * run.lora_rank * layers * (attention + mlp)
    return math.ceil(elements * run.element_bytes / run.tensor_parallel)


def _context(engine: str, run: Running) -> Part:
    memory = declaration_of(engine).gpu_memory
    base = memory.context_mib * MIB if memory else CONTEXT_BYTES
    if run.gpus == 1:
        return Part("context", base, "CUDA context and libraries")
    return Part("context", base + _COLLECTIVES_BYTES, "CUDA context, libraries, NCCL")


def _kv_cache(model: ModelConfig, engine: str, shape: Shape, run: Running) -> KvCache:
    least = kv_cache.bytes_for(1, shape, run)
    wanted = kv_cache.bytes_for(run.wanted_sequences, shape, run)
    figures = figures_of(engine)
    given = whole(model.engine_args, figures.kv_cache_bytes)
    tokens = whole(model.engine_args, figures.kv_cache_tokens)
    if tokens:
        given = tokens * kv_cache.bytes_per_token(shape, run)
    if given:
        least = wanted = given
    return KvCache(
        bytes_per_token=kv_cache.bytes_per_token(shape, run),
        context_len=run.context_len,
        sequences=run.wanted_sequences,
        least_bytes=least,
        wanted_bytes=max(least, wanted),
        state_bytes=kv_cache.state_bytes(shape, run),
        bytes_to_begin=kv_cache.bytes_to_begin(shape, run),
        max_sequences=run.max_sequences,
    )


def fraction_of(model: ModelConfig) -> float | None:
    """The part of each GPU that the user has given it, if any. Raises `UserError`."""
    argument = declaration_of(model.engine).argument_for("gpu_memory_utilization")
    given = model.engine_args.get(argument, model.gpu_memory_utilization)
    if given is None:
        return None
    if isinstance(given, int | float) and 0 < given <= 1:
        return float(given)
    raise UserError(f"`engine_args`: `{argument}` is {given!r}", "it is a part of the GPU: 0.5")


def _notes(model: ModelConfig, checkpoint: Checkpoint) -> list[str]:
    """What the numbers leave out, or assume."""
    shape, notes = checkpoint.shape, []
    if checkpoint.weights.strays:
        names = ", ".join(checkpoint.weights.strays[:_NAMED_STRAYS])
        notes.append(f"not counted, as the engine does not load them: {names}")
    if model.engine_args.get("speculative_config"):
        notes.append("the draft model of `speculative_config` is not counted")
    states = [each for each in shape.caches if each.kind == "state"]
    if any(not each.state_bytes for each in states):
        notes.append("the states of its recurrent layers are not known, and not counted")
    argument = declaration_of(model.engine).argument_for("max_model_len")
    if not model.context_len and argument not in model.engine_args:
        notes.append(f"`max_model_len` is not set: the model's own {shape.context_len} counts")
    return notes


def _of_plan(
    model: ModelConfig, engine: str, checkpoint: Checkpoint, plan: PlanMemory, run: Running
) -> Estimate:
    """A TensorRT plan: its weights are its files; activations and buffers were fixed when it was
    built (engines.md A6)."""
    shape = checkpoint.shape
    if run.context_len > shape.context_len:
        raise UserError(
            f"the plan {checkpoint.path} was built for {shape.context_len} tokens, "
            f"and `max_model_len` asks for {run.context_len}",
            "lower it, or convert the model again with longer limits",
        )
    fixed = msgspec.structs.replace(
        run,
        tensor_parallel=max(1, len(plan.rank_bytes) // plan.pipeline_parallel_size),
        pipeline_parallel=plan.pipeline_parallel_size,
        kv_element_bytes=plan.kv_element_bytes,
        wanted_sequences=min(run.wanted_sequences, plan.limits.max_batch_size),
        batched_tokens=plan.limits.max_num_tokens,
    )
    hidden_bytes = shape.hidden_size * run.element_bytes
    activations = plan.limits.max_num_tokens * hidden_bytes * _PLAN_ACTIVATION_FACTOR
    logits = plan.limits.max_batch_size * plan.limits.max_beam_width * shape.vocab_size * 4
    parts = (
        Part("weights", max(plan.rank_bytes), f"the largest of {len(plan.rank_bytes)} plan files"),
        Part("activations", activations, f"{plan.limits.max_num_tokens} tokens a step"),
        Part("buffers", logits, f"logits of {plan.limits.max_batch_size} sequences"),
        _context(engine, fixed),
        _SPARE,
    )
    cache = _kv_cache(model, engine, shape, fixed)
    return Estimate(fixed.gpus, parts, cache, fraction_of(model))


def describe(estimate: Estimate) -> str:
    """One line: what is needed at least, and the largest reasons."""
    kv = estimate.kv_cache
    largest = sorted(estimate.parts, key=lambda part: -part.size_bytes)[:3]
    reasons = [f"{part.name} {show(part.size_bytes)}" for part in largest]
    if kv.least_bytes >= GIB // 4:
        reasons.append(f"KV cache {show(kv.least_bytes)} for {kv.context_len} tokens")
    return f"{show(estimate.least_bytes)} ({', '.join(reasons)})"
