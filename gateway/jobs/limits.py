"""Bounds that the operator sets on what one request may ask for."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from contract.config import LimitsConfig, ModelConfig
from contract.messages import Job, Sampling
from gateway.http.errors import invalid


def most_tokens(limits: LimitsConfig, model: ModelConfig) -> int:
    """The longest answer that a request may ask for, in tokens."""
    return min(limits.max_output_len, model.max_output_len or limits.max_output_len)


def bounded(job: Job, most: int) -> Job:
    """The job, asking for `most` tokens where it asks for more."""
    if (job.sampling.max_tokens or 0) <= most:
        return job
    return replace(job, sampling=replace(job.sampling, max_tokens=most))


def check_limits(
    job: Job, limits: LimitsConfig, model: ModelConfig, names: Mapping[str, str]
) -> None:
    """Bounds that the operator sets. Raises `ApiError`, with the body's own `names` of fields."""
    sampling: Sampling = job.sampling
    most = most_tokens(limits, model)
    if sampling.max_tokens is not None and sampling.max_tokens > most:
        raise invalid(names["max_tokens"], f"at most {most} for `{job.model}`")
    if sampling.min_tokens > (sampling.max_tokens or most):
        raise invalid(names["min_tokens"], "more than the most tokens asked for")
    if sampling.n > limits.max_choices:
        raise invalid("n", f"at most {limits.max_choices}")


def check_logprobs(job: Job, limits: LimitsConfig, longest: int, names: Mapping[str, str]) -> None:
    """The bound on an answer that is put together before it is sent, of at most `longest` tokens
    if the request does not say. Raises `ApiError`."""
    sampling = job.sampling
    if sampling.logprobs is None:
        return
    tokens = sampling.max_tokens or longest
    most = limits.max_logprobs // (tokens * sampling.n) - 1
    if sampling.logprobs > most:
        field = names["logprobs"]
        told = (
            f"{tokens} tokens of {sampling.n} choices, with {sampling.logprobs} alternatives each"
        )
        hint = f"stream the answer, or lower `{field}`, `n` or `{names['max_tokens']}`"
        bound = f"more than {limits.max_logprobs} log probabilities in one answer"
        raise invalid(field, f"{told}, may be {bound}; {hint}")


def check_prompts(jobs: list[Job], limits: LimitsConfig, context: int | None) -> None:
    """The same bound on what an answer tells of its prompts. Raises `ApiError`."""
    each = 1 + max((job.report.logprobs or 0 for job in jobs if job.report), default=0)
    asked = [job for job in jobs if job.report is not None and job.report.logprobs is not None]
    most = each * sum(_most_prompt_tokens(job, context) for job in asked)
    if most > limits.max_logprobs:
        bound = f"may be more than {limits.max_logprobs} log probabilities in one answer"
        raise invalid("prompt_logprobs", f"{bound}; ask for fewer, or with fewer prompts")


def _most_prompt_tokens(job: Job, context: int | None) -> int:
    """No tokenizer makes more tokens of a text than it has bytes, but for a few of its own."""
    own = 8
    if job.prompt_ids is not None:
        return len(job.prompt_ids)
    if job.prompt is not None:
        longest = len(job.prompt.encode()) + own
        return min(longest, context or longest)
    return context or 0
