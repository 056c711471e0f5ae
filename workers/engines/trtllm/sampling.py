"""A job's sampling in TensorRT-LLM's words."""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

from contract.asked import Guided
from contract.messages import ErrorCode, Sampling
from workers.engine import JobRejected
from workers.engines.prompts import choices_of
from workers.engines.shared.regex import alternation
from workers.engines.shared.schemas import folded, folded_tag
from workers.engines.trtllm.model_files import ModelFiles

_SEEDS: Final = 2**64
_AS_IT_IS: Final = ("min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


def sampling_settings(
    asked: Sampling, files: ModelFiles, max_tokens: int, emitted: int, choice: int
) -> dict[str, Any]:
    """Return the arguments of `SamplingParams` for one choice of an answer, of which `emitted`
    tokens are there already."""
    settings = {
        "max_tokens": max_tokens,
        "stop": list(asked.stop) or None,
        "stop_token_ids": None if asked.ignore_eos else files.end_ids or None,
        "ignore_eos": asked.ignore_eos,
        **_randomness(asked, files.defaults, choice),
    }
    for name in _AS_IT_IS:
        settings[name] = _or_default(asked, files.defaults, name)
    if asked.min_tokens > emitted:
        settings["min_tokens"] = asked.min_tokens - emitted
    if asked.logprobs is not None:
        settings["logprobs"] = max(1, asked.logprobs)
    if asked.guided is not None:
        settings["guided_decoding"] = _guided(asked.guided)
    return settings


def beam_settings(settings: dict[str, Any], width: int, answers: int) -> dict[str, Any]:
    """The same for beam search, which does not sample."""
    sampled = ("temperature", "top_p", "top_k", "min_p", "seed")
    kept = {name: value for name, value in settings.items() if name not in sampled}
    return {**kept, "use_beam_search": True, "best_of": width, "n": answers}


def _randomness(asked: Sampling, defaults: dict[str, Any], choice: int) -> dict[str, Any]:
    """Everything is set: what is left open makes some releases decode greedily, and requests
    without a seed all get the same one."""
    temperature = _or_default(asked, defaults, "temperature")
    top_p = _or_default(asked, defaults, "top_p")
    top_k = _or_default(asked, defaults, "top_k")
    if temperature == 0 or top_p == 0 or top_k == 1:
        return {"top_k": 1, "top_p": top_p or None, "temperature": temperature or None}
    seed = secrets.randbits(63) if asked.seed is None else asked.seed + choice
    return {
        "temperature": 1.0 if temperature is None else temperature,
        "top_p": 1.0 if top_p is None else top_p,
        "top_k": max(0, top_k or 0),
        "seed": seed % _SEEDS,
    }


def _or_default(asked: Sampling, defaults: dict[str, Any], name: str) -> Any:
    given = getattr(asked, name)
    return defaults.get(name) if given is None else given


def _guided(guided: Guided) -> Any:
    """Raises `JobRejected` if the constraint cannot be read: TensorRT-LLM would find out only
    when the request runs."""
    from tensorrt_llm.llmapi import GuidedDecodingParams

    if guided.kind == "json_object":
        return GuidedDecodingParams(json_object=True)
    if guided.kind == "choice":
        guided = Guided("regex", alternation(choices_of(guided.value)))
    if guided.kind == "json":
        guided = Guided("json", json.dumps(folded(json.loads(guided.value))))
    if guided.kind == "structural_tag":
        guided = Guided("structural_tag", json.dumps(folded_tag(json.loads(guided.value))))
    try:
        _read_constraint(guided)
    except (RuntimeError, ValueError, TypeError) as error:
        message = f"the constraint cannot be read: {str(error).splitlines()[0]}"
        raise JobRejected(ErrorCode.INVALID_REQUEST, message) from None
    return GuidedDecodingParams(**{guided.kind: guided.value})


def _read_constraint(guided: Guided) -> None:
    """With the library that TensorRT-LLM itself uses."""
    from xgrammar import Grammar

    match guided.kind:
        case "json":
            Grammar.from_json_schema(guided.value)
        case "regex":
            Grammar.from_regex(guided.value)
        case "grammar":
            Grammar.from_ebnf(guided.value)
        case "structural_tag":
            Grammar.from_structural_tag(guided.value)
