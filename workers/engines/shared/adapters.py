"""LoRA adapters by their names: those that a model's entry has, and the one of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected

#: The name, for the engine's library alone, of the adapter for requests that name the model itself.
#: No adapter of an entry can have it (`ModelId`).
DEFAULT: Final = "(adapter_path)"


def named_adapters(model: ModelConfig) -> dict[str, str]:
    """Return the paths of adapters by their names, the default first."""
    default = {DEFAULT: model.adapter_path} if model.adapter_path else {}
    return default | model.adapters


def adapter_of(job: Job, model: ModelConfig, known: Mapping[str, object]) -> str | None:
    """Return the name of the adapter that a job runs with, if any, out of those `known`. Raises
    `JobRejected`."""
    if job.adapter is None:
        return DEFAULT if model.adapter_path else None
    if job.adapter not in known:
        raise no_adapter(job.adapter, known)
    return job.adapter


def no_adapter(name: str, known: Iterable[str]) -> JobRejected:
    """Return the refusal of a request for an adapter that is none of those `known`."""
    names = ", ".join(f"`{each}`" for each in known if each != DEFAULT) or "none"
    return JobRejected(ErrorCode.INVALID_REQUEST, f"no adapter `{name}`; this model has {names}")
