"""The attributes of spans, by OpenTelemetry's conventions for HTTP and for generative AI (of
semantic-conventions-genai 0.1), and `ew.*` for what they have no name for. Never a prompt, an
answer, a query or a key."""

from __future__ import annotations

from typing import Final

from contract.messages import Done, Job
from gateway.tracing.span import AttributeValue

_OPERATIONS: Final = {"embed": "embeddings", "token_embed": "embeddings"}
_OF_SAMPLING: Final = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}


def operation_of(job: Job) -> str:
    """Return the operation that a job is, in the conventions' words where they have one."""
    if job.pooling is not None:
        return _OPERATIONS.get(job.pooling.task, job.pooling.task)
    return "chat" if job.messages is not None else "text_completion"


def of_job(job: Job, *, is_stream: bool) -> dict[str, AttributeValue]:
    """Return what a job's span is known by from its beginning."""
    found: dict[str, AttributeValue] = {
        "gen_ai.operation.name": operation_of(job),
        "gen_ai.provider.name": "ew",
        "gen_ai.request.model": job.moved_from or job.model,
        "gen_ai.response.model": job.model,
        "ew.job.id": job.id,
    }
    if job.pooling is None:
        found["gen_ai.request.stream"] = is_stream
        given = {name: getattr(job.sampling, field) for field, name in _OF_SAMPLING.items()}
        found |= {name: value for name, value in given.items() if value is not None}
    if job.sampling.n != 1:
        found["gen_ai.request.choice.count"] = job.sampling.n
    if job.key_id:
        found["ew.key.id"] = job.key_id
    return found


def of_answer(end: Done | None, waited_s: float | None) -> dict[str, AttributeValue]:
    """Return what is known of an answer at its end; `waited_s` is until its first token came."""
    found: dict[str, AttributeValue] = {}
    if waited_s is not None:
        found["gen_ai.response.time_to_first_chunk"] = waited_s
    if end is not None:
        found |= {
            "gen_ai.response.finish_reasons": end.finish_reasons,
            "gen_ai.usage.input_tokens": end.prompt_tokens,
            "gen_ai.usage.output_tokens": end.completion_tokens,
        }
        if end.cached_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = end.cached_tokens
        if end.reasoning_tokens:
            found["gen_ai.usage.reasoning.output_tokens"] = end.reasoning_tokens
    return found
