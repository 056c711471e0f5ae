"""The declaration of an engine (deploy/engines/NAME.json), and the reading of it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from contract.engines.release import ENGINES_DIR, Release


class ArgumentSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where names that `engine_args` may have are written down. `file` is one of ew's own or of
    the environment's site-packages; it and `fields_of` are patterns, as in a shell."""

    file: str = ""
    #: The fields of classes, and other names that pydantic has for them (`alias=`).
    fields_of: str = ""
    #: The texts in `NAME.pop("...")` and `NAME.get("...")`.
    taken_from: str = ""
    #: The attributes of an object of `MODULE.CLASS`, a compiled one, and of what it consists of.
    attributes_of: str = ""


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much an engine does at once where the configuration is silent, on a card with at
    least `from_gib` of memory whose name does not hold `not_on`."""

    sequences: int
    tokens: int
    from_gib: int = 0
    not_on: str = ""


class MemoryArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names of an engine's arguments that decide its memory and that no key of the
    configuration sets. Empty: it has none."""

    batched_tokens: str = ""
    kv_cache_dtype: str = ""
    kv_cache_bytes: str = ""
    kv_cache_tokens: str = ""
    adapters: str = ""
    adapter_rank: str = ""
    #: CUDA graphs: none at all, for these batch sizes, up to this one.
    no_graphs: str = ""
    graph_sizes: str = ""
    largest_graph: str = ""


class GpuMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The GPU memory of an engine beside that which its model's files tell."""

    #: A process's CUDA context with the libraries' kernels and workspaces, as NVML counts it.
    context_mib: int = 0
    #: Its defaults for work at once; the first that fits the card.
    batches: tuple[Batch, ...] = ()
    figures: MemoryArguments = MemoryArguments()
    #: Layers with a sliding window keep that window only, not the whole context.
    keeps_windows_only: bool = False
    #: The types for keys and values that it takes from a checkpoint where it is not told one; all
    #: without any.
    stored_kv_types: tuple[str, ...] = ()
    #: The argument that says it all, in MiB, for an engine that only pretends.
    pretended: str = ""


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How scripts/prove_engine.py sees an environment work: what it imports beside the library,
    and what its offline class is given to generate a few words."""

    imports: tuple[str, ...] = ()
    options: dict[str, Any] = {}


class EngineDeclaration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine. `library` is what is imported, `distribution` the package that brings it; an
    engine without `versions` runs in ew's own environment."""

    engine: str
    summary: str
    #: Where it computes; empty for one that does so elsewhere, or not at all.
    device: Literal["cpu", "cuda", ""] = ""
    #: A name that stands for the member of a family that fits the host.
    alias: str = ""
    #: `MODULE:NAME` of what makes a `workers.engine.Engine` from a `WorkerSpec`.
    adapter: str = ""
    library: str = ""
    distribution: str = ""
    default_version: str = ""
    #: The kind of thing that `model_path` names. A plan is a compiled TensorRT engine; such an
    #: engine takes checkpoints, too.
    model: Literal["checkpoint", "plan", "gguf", "none"] = "checkpoint"
    #: Where LoRA adapters may come from: a directory or a hub, a directory alone, the server's
    #: own by name, or not at all.
    adapters: Literal["hub", "directory", "server", "none"] = "hub"
    #: It speaks to a server, which `base_url` or `command` names.
    is_client: bool = False
    #: It can hand its GPU memory back and take it again (`workers.engine.SupportsSleep`).
    can_sleep: bool = False
    #: The release from which on CUDA_VISIBLE_DEVICES may have UUIDs; empty: every one, null: none.
    uuids_since: str | None = ""
    #: Its GPU memory; None if it has none that ew accounts for.
    gpu_memory: GpuMemory | None = None
    #: Its library says what it makes of a model (scripts/describe_model.py).
    describes_models: bool = False
    #: Arguments of the library that ew sets, each with the key of the configuration for it.
    same_as: dict[str, str] = {}
    #: Keys of the configuration of which it makes nothing.
    unheeded: tuple[str, ...] = ()
    arguments: tuple[ArgumentSource, ...] = ()
    #: Names that the adapter itself takes among `engine_args`.
    own_arguments: tuple[str, ...] = ()
    #: Patterns of the variables that it reads, such as `VLLM_*`: workers inherit them.
    variables: tuple[str, ...] = ()
    #: Whether it may take arguments that `arguments` does not show.
    takes_others: bool = False
    proof: Proof = Proof()
    #: Its abilities, for the contract suite (tests/engines/contract/engines.py).
    abilities: tuple[str, ...] = ()
    releases: dict[str, Release] = msgspec.field(name="versions", default_factory=dict)

    def __post_init__(self) -> None:
        for version, release in self.releases.items():
            msgspec.structs.force_setattr(release, "version", version)

    @property
    def has_environment(self) -> bool:
        """Whether it runs in an environment of its own."""
        return bool(self.releases)

    def argument_for(self, key: str) -> str:
        """Return what the library calls a key of the configuration; empty if it has no such
        argument."""
        return next((name for name, said in self.same_as.items() if said == key), "")

    def sees_uuids(self, version: str) -> bool:
        """Return whether a release finds its GPUs by UUIDs in CUDA_VISIBLE_DEVICES."""
        since = self.uuids_since
        return since is not None and _numbers(version) >= _numbers(since)


@lru_cache(maxsize=8)
def declared_engines(directory: Path = ENGINES_DIR) -> dict[str, EngineDeclaration]:
    """Return all declarations by the engine's name, read once. Raises `ValueError` with the
    file's name for one that says what it may not."""
    found = map(_read, sorted(directory.glob("*.json")))
    return {engine.engine: engine for engine in found}


def declaration_of(engine: str) -> EngineDeclaration:
    """Return the declaration of an engine; of the first member for a name that stands for
    several. Raises `LookupError` for an engine that is not declared."""
    declared = declared_engines().get(engine)
    return declared or members_of(engine)[0]


def members_of(name: str) -> list[EngineDeclaration]:
    """Return the engines that a name may stand for, those on a GPU first. Raises `LookupError`."""
    engines = declared_engines().values()
    found = [each for each in engines if name in (each.engine, each.alias)]
    if not found:
        raise LookupError(f"the engine `{name}` is not declared in deploy/engines")
    return sorted(found, key=lambda each: each.device != "cuda")


def aliases() -> list[str]:
    """Return the names that stand for several engines, such as `vllm`."""
    return sorted({each.alias for each in declared_engines().values() if each.alias})


def engine_names() -> tuple[str, ...]:
    """Return all that a model's `engine` may be."""
    return (*aliases(), *declared_engines())


def _read(path: Path) -> EngineDeclaration:
    try:
        return msgspec.json.decode(path.read_bytes(), type=EngineDeclaration)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: {error}") from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
