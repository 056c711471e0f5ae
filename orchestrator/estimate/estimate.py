"""How much GPU memory a model needs, worked out before it ever ran. Pure arithmetic on what its
files and its configuration say; what it was measured to take counts more (`footprints`)."""

from __future__ import annotations

from typing import Final

import msgspec

from contract.config import ModelConfig
from contract.engines import declaration_of
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import (
    Checkpoint,
    PlanMemory,
    locate_model,
    read_checkpoint,
)
from orchestrator.estimate.description import (
    Question,
    as_described,
    differences,
    own_reading,
    remembered,
)
from orchestrator.estimate.kv_cache import KvCache, planned_cache, unread
from orchestrator.estimate.layers.workspaces import sparse_workspace
from orchestrator.estimate.parts import (
    CONTEXT_BYTES,
    SPARE,
    Part,
    activations,
    adapters,
    context,
    draft_model,
    encoder_cache,
    expanded_context,
    graph_bytes,
    towers_at_work,
    weights,
)
from orchestrator.estimate.running import Card, Running, running
from orchestrator.estimate.speculation import Speculation, speculation_of, with_guesses
from orchestrator.terminal.sizes import MIB

#: Activations of a TensorRT plan per token and hidden element.
_PLAN_ACTIVATION_FACTOR: Final = 16
#: Of files that the engine leaves alone, so many are named.
_NAMED_STRAYS: Final = 3
_NO_SPECULATION: Final = Speculation()


class Estimate(msgspec.Struct, frozen=True):
    """The memory that one worker takes on each of its `gpus`, without other processes'."""

    gpus: int
    parts: tuple[Part, ...]
    kv_cache: KvCache
    #: Part of the GPU's memory that the engine may take in all, where the user has fixed it.
    fraction: float | None = None
    notes: tuple[str, ...] = ()
    #: Whose reading of the model's files it is.
    source: str = "ew"
    #: Why it is ew's own, all of it or that of the layers, and what would let the engine say it.
    own_reading: str = ""
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
        """The memory that NVML does not show yet when the engine has just become ready. vLLM hands
        the activations' memory back before it records its CUDA graphs, and takes it again when
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
    speculation = speculation_of(model, release)
    if checkpoint.plan is not None:
        return estimate(model, engine, checkpoint, card, speculation)
    question = Question.of(model, engine, release, card)
    described = remembered(question)
    why = own_reading(engine, release, question, described)
    if described is None or not described.release:
        found = estimate(model, engine, checkpoint, card, speculation)
        return msgspec.structs.replace(found, own_reading=why)
    said = as_described(checkpoint, described)
    found = estimate(model, engine, said, card, speculation)
    notes = (*found.notes, *differences(checkpoint, described))
    source = f"vLLM {described.release}"
    return msgspec.structs.replace(found, notes=notes, source=source, own_reading=why)


def blind_estimate(model: ModelConfig, fraction: float, note: str) -> Estimate:
    """The estimate for a model whose files do not say what it needs: that part of each GPU."""
    return Estimate(
        gpus=model.tensor_parallel_size * model.pipeline_parallel_size,
        parts=(Part("context", CONTEXT_BYTES, "CUDA context and libraries"),),
        kv_cache=KvCache(0, 0, 0, 0, 0),
        fraction=fraction,
        notes=(note,),
    )


def estimate(
    model: ModelConfig,
    engine: str,
    checkpoint: Checkpoint,
    card: Card,
    speculation: Speculation = _NO_SPECULATION,
) -> Estimate:
    """The estimate for a model whose files have been read, and those of its draft model. Raises
    `UserError` if the files and the configuration contradict each other."""
    run = running(model, engine, checkpoint, card)
    if checkpoint.plan is not None:
        return _of_plan(model, engine, checkpoint, checkpoint.plan, run)
    shape = checkpoint.shape
    step = activations(shape, run, guessed=speculation.tokens)
    parts = [
        weights(model, checkpoint, run, is_predicted=speculation.is_predicted),
        draft_model(model, speculation.draft, run),
        step,
        towers_at_work(shape, run, step),
        encoder_cache(shape, run),
        expanded_context(shape, run),
        sparse_workspace(shape, run),
        Part("CUDA graphs", graph_bytes(shape, run), f"{len(run.graph_sizes)} batch sizes"),
        adapters(shape, run),
        context(engine, run),
        SPARE,
    ]
    return Estimate(
        gpus=run.gpus,
        parts=tuple(part for part in parts if part.size_bytes),
        kv_cache=planned_cache(model, engine, with_guesses(shape, speculation), run),
        fraction=fraction_of(model),
        notes=(*_notes(model, checkpoint, speculation), *filter(None, [unread(shape, run)])),
    )


def _pretended(model: ModelConfig, argument: str) -> Estimate | None:
    """An engine that pretends takes what this argument says."""
    size_bytes = int(model.engine_args.get(argument, 0)) * MIB
    if not size_bytes:
        return None
    part = Part("weights", size_bytes, f"`{argument}` of the {model.engine} engine")
    gpus = model.tensor_parallel_size * model.pipeline_parallel_size
    return Estimate(gpus, (part,), KvCache(0, model.context_len or 0, 0, 0, 0), fraction_of(model))


def fraction_of(model: ModelConfig) -> float | None:
    """The part of each GPU that the user has given it, if any. Raises `UserError`."""
    argument = declaration_of(model.engine).argument_for("gpu_memory_utilization")
    given = model.engine_args.get(argument, model.gpu_memory_utilization)
    if given is None:
        return None
    if isinstance(given, int | float) and 0 < given <= 1:
        return float(given)
    raise UserError(f"`engine_args`: `{argument}` is {given!r}", "it is a part of the GPU: 0.5")


def _notes(model: ModelConfig, checkpoint: Checkpoint, speculation: Speculation) -> list[str]:
    """Return what the numbers leave out, or assume."""
    shape, notes = checkpoint.shape, []
    if checkpoint.weights.strays:
        names = ", ".join(checkpoint.weights.strays[:_NAMED_STRAYS])
        notes.append(f"not counted, as the engine does not load them: {names}")
    if speculation.problem:
        notes.append(speculation.problem)
    states = [each for each in shape.caches if each.kind == "state"]
    if any(not each.state_bytes for each in states):
        notes.append("the states of its recurrent layers are not known, and not counted")
    if shape.has_unread_part:
        notes.append("the activations of its part that sees or hears are not known, nor counted")
    argument = declaration_of(model.engine).argument_for("max_model_len")
    if not model.context_len and argument not in model.engine_args:
        notes.append(f"`max_model_len` is not set: the model's own {shape.context_len} counts")
    return notes


def _of_plan(
    model: ModelConfig, engine: str, checkpoint: Checkpoint, plan: PlanMemory, run: Running
) -> Estimate:
    """A TensorRT plan: its weights are its files; activations and buffers were fixed when it was
    built."""
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
        kv_type=plan.kv_type,
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
        context(engine, fixed),
        SPARE,
    )
    cache = planned_cache(model, engine, shape, fixed)
    return Estimate(fixed.gpus, parts, cache, fraction_of(model))
