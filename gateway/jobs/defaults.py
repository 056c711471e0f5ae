"""Defaults for a request, from the configuration of its model."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from contract.config import ModelConfig
from contract.messages import Job


def with_defaults(job: Job, model: ModelConfig, most_tokens: int) -> Job:
    """Return the job with the model's default sampling, where its request says nothing. An
    answer may have `most_tokens` at most, and at least as many as the request insists on."""
    if model.sampling is None:
        return job
    asked = job.sampling
    given: dict[str, Any] = model.sampling.model_dump(exclude_none=True)
    missing = {name: value for name, value in given.items() if getattr(asked, name) in (None, ())}
    if "max_tokens" in missing:
        missing["max_tokens"] = max(asked.min_tokens, min(missing["max_tokens"], most_tokens))
    return replace(job, sampling=replace(asked, **missing))
