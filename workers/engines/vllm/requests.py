"""Requests in vLLM's words: prompts and sampling."""

from __future__ import annotations

from inspect import signature
from typing import Any, Final

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from contract.bus.turns import CLASSES
from contract.config import ModelConfig
from contract.messages import ErrorCode, Job
from workers.engine import JobRejected

try:
    from vllm import exceptions as vllm_exceptions
except ImportError:  # Before 0.20.
    vllm_exceptions = None

#: The error of vLLM for a request that it will not run: an error of its own in newer releases.
REFUSALS: Final = (ValueError, TypeError, getattr(vllm_exceptions, "VLLMClientError", ValueError))
_SAMPLING_FIELDS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "logprobs",
    "logit_bias",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "spaces_between_special_tokens",
)
#: Made for one request alone: to copy all that is in them would be a tenth of a request's cost.
_OWN: Final = {"skip_clone": True} if "skip_clone" in signature(SamplingParams).parameters else {}
_LISTS: Final = ("stop_token_ids", "bad_words", "allowed_token_ids")


def sampling_params(
    job: Job, defaults: dict[str, Any], max_tokens: int, emitted: int, more: dict[str, Any]
) -> SamplingParams:
    """How to choose the rest of an answer, of which `emitted` tokens are there already, given the
    model's own `defaults` and `more` that goes before all. Raises `JobRejected`."""
    asked = job.sampling
    given = {name: getattr(asked, name) for name in _SAMPLING_FIELDS}
    settings = {**defaults, **{k: v for k, v in given.items() if v is not None}}
    settings |= {
        "max_tokens": max_tokens,
        "min_tokens": max(0, asked.min_tokens - emitted),
        "stop": list(asked.stop) or None,
        "ignore_eos": asked.ignore_eos,
        "n": asked.n,
        "output_kind": RequestOutputKind.DELTA,
    }
    settings |= _OWN
    settings |= {name: list(getattr(asked, name)) for name in _LISTS if getattr(asked, name)}
    if asked.vllm_xargs:
        settings["extra_args"] = asked.vllm_xargs
    if job.report is not None:
        settings["prompt_logprobs"] = job.report.logprobs
    try:
        return SamplingParams(**settings | more)
    except REFUSALS as error:
        raise JobRejected(ErrorCode.INVALID_REQUEST, str(error)) from error


def priority(job: Job, model: ModelConfig) -> int:
    """Return the priority of a request as vLLM takes it; if it does not schedule by it, it may
    refuse any but 0. Its classes are so far apart that no number reaches from one into another."""
    if model.engine_args.get("scheduling_policy") != "priority":
        return 0
    return 1_000 * CLASSES.index(job.turn.priority) + job.turn.number


def tokens_prompt(token_ids: list[int], salt: str | None) -> Any:
    try:
        from vllm.inputs import tokens_input
    except ImportError:
        from vllm.inputs import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=token_ids)
        return prompt if salt is None else TokensPrompt(**prompt, cache_salt=salt)
    return tokens_input(token_ids, cache_salt=salt)


def trace_arguments(job: Job) -> dict[str, Any]:
    """Return what has vLLM's own spans (`otlp_traces_endpoint`) be of the job's trace."""
    return {} if job.trace is None else {"trace_headers": job.trace.headers()}
