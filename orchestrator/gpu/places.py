"""The words of placement: GPUs with room, workers that need some, and what was decided."""

from __future__ import annotations

import math

import msgspec

from orchestrator.errors import UserError
from orchestrator.terminal.sizes import show


class Holder(msgspec.Struct, frozen=True):
    """A holder of some of a GPU's memory: a worker of ours, another process, or the driver."""

    name: str
    size_bytes: int


class Device(msgspec.Struct, frozen=True):
    """A GPU, or a MIG slice of one, as a place for workers."""

    uuid: str
    index: int
    name: str
    total_bytes: int
    free_bytes: int
    holders: tuple[Holder, ...] = ()
    #: The GPU that this is a slice of.
    parent: str = ""
    #: Why nothing can be placed here; empty if it can.
    problem: str = ""

    @property
    def label(self) -> str:
        return f"slice {self.uuid}" if self.parent else f"GPU {self.index}"


class Demand(msgspec.Struct, frozen=True):
    """A worker that needs a place. Bytes are for each of its `gpus`."""

    slot: str
    model: str
    gpus: int
    fixed_bytes: int
    least_kv_bytes: int = 0
    wanted_kv_bytes: int = 0
    #: The bytes that its process takes before the engine begins to count.
    context_bytes: int = 0
    #: The plan of the KV cache: tokens of a sequence, bytes of each, sequences at once, and what
    #: each takes at least. 0 where nothing is known.
    context_len: int = 0
    token_bytes: int = 0
    max_sequences: int = 0
    sequence_bytes: int = 0
    #: The user's own fraction of the GPU's memory, instead of the bytes.
    fraction: float | None = None
    #: Only these GPUs, by index or UUID.
    pins: tuple[int | str, ...] = ()

    def kv_bytes(self, share: float) -> int:
        """Return the least, and that share of what it wants beyond."""
        beyond = self.wanted_kv_bytes - self.least_kv_bytes
        return self.least_kv_bytes + math.floor(beyond * share)

    def sequences(self, kv_bytes: int) -> int:
        """Return how many may run at once with this cache. Each has at least its states and a
        block: vLLM refuses to start with more sequences than a cache has places for states."""
        if not self.sequence_bytes:
            return self.max_sequences
        return max(1, min(self.max_sequences, kv_bytes // self.sequence_bytes))

    def tokens(self, kv_bytes: int) -> int | None:
        """Return how many tokens this cache holds; None if that is not known."""
        return kv_bytes // self.token_bytes if self.token_bytes else None

    def need_bytes(self, device: Device, share: float = 0.0) -> int:
        """Return what it takes on a device."""
        if self.fraction is not None:
            return math.ceil(self.fraction * device.total_bytes) + self.context_bytes
        return self.fixed_bytes + self.kv_bytes(share)


class Assignment(msgspec.Struct, frozen=True):
    """The place of one worker, and the exact numbers for its engine."""

    slot: str
    model: str
    #: Bytes by the UUID of each GPU, in the order in which the engine shall see them.
    bytes_by_gpu: dict[str, int]
    #: The same GPUs by their index in PCI order.
    indices: tuple[int, ...]
    kv_cache_bytes: int | None
    gpu_memory_fraction: float | None
    why: str
    #: The same in tokens, for engines that count them; None if that is not known.
    kv_cache_tokens: int | None = None
    #: The context and sequences that the cache was planned for; None where the engine decides.
    context_len: int | None = None
    max_sequences: int | None = None

    @property
    def numbers(self) -> dict[str, int | float | None]:
        """Fields of the worker's `WorkerSpec`. They belong together: a cache for another context
        or number of sequences than the engine's is too small for it, or too large."""
        return {
            "kv_cache_bytes": self.kv_cache_bytes,
            "kv_cache_tokens": self.kv_cache_tokens,
            "gpu_memory_fraction": self.gpu_memory_fraction,
            "context_len": self.context_len,
            "max_sequences": self.max_sequences,
        }

    @property
    def uuids(self) -> tuple[str, ...]:
        return tuple(self.bytes_by_gpu)

    def environment(self, *, by_uuid: bool = True) -> dict[str, str]:
        """Return what makes the engine see these GPUs and no others. `by_uuid=False` is for
        engines that take nothing but indices (vLLM before 0.26)."""
        names = self.uuids if by_uuid else map(str, self.indices)
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(names)}


class Verdict(msgspec.Struct, frozen=True):
    """Why a worker cannot go to one GPU."""

    gpu: str
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """No place for a worker."""

    slot: str
    model: str
    gpus: int
    needed_bytes: int
    verdicts: tuple[Verdict, ...]

    def __str__(self) -> str:
        """One line for what is needed, and one for each GPU: what is free there, and what
        holds the rest."""
        where = "on one GPU" if self.gpus == 1 else f"on each of {self.gpus} GPUs"
        lines = [f"`{self.model}` needs {show(self.needed_bytes)} {where}"]
        lines += [f"  {verdict.gpu}: {verdict.reason}" for verdict in self.verdicts]
        return "\n".join(lines if self.verdicts else [*lines, "  there is no GPU"])

    def error(self) -> UserError:
        """Return the same with the next step."""
        hint = "`./ew estimate` shows every part; a smaller `max_model_len` needs less"
        return UserError(str(self), hint)


class Placement(msgspec.Struct, frozen=True):
    """The place of each worker, and the workers without one."""

    assignments: tuple[Assignment, ...] = ()
    refusals: tuple[Refusal, ...] = ()
