"""Refusals of engines that only write text."""

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
