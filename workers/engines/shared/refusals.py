"""Refusals of what an engine, or its model, cannot do."""

from __future__ import annotations

from contract.messages import ErrorCode, Job
from workers.engine import JobRejected, check_prompt, check_sampling


def require_plain(job: Job, engine: str) -> None:
    """Raises `JobRejected` for pooling, and sampling that not every engine can do."""
    if job.pooling is not None:
        message = f"the engine {engine} makes no embeddings, classes or scores"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
    check_sampling(job.sampling, frozenset(), f"the engine {engine}")
    check_prompt(job, f"the engine {engine}")


def check_purpose(job: Job, *, pools: bool) -> None:
    """Raises `JobRejected` for text of a pooling model, and the other way round."""
    if pools != (job.pooling is not None):
        message = "this model generates text: it makes no embeddings, classes or scores"
        if pools:
            message = "this is a pooling model: it makes embeddings, classes or scores, and no text"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message)
