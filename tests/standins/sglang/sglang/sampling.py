"""`SamplingParams`: what is refused at once, and what only when the request runs."""

from __future__ import annotations

from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

_AS_IT_IS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
_RANGES = {
    "top_p": (1e-9, 1.0),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (1e-9, 2.0),
    "temperature": (0.0, float("inf")),
}


#: vLLM's names of constraints, and SGLang's.
_CONSTRAINTS = {
    "json": "json_schema",
    "regex": "regex",
    "grammar": "ebnf",
    "structural_tag": "structural_tag",
}


class Refused(Exception):
    """The scheduler ends the request as aborted."""


def sampling_params(asked: dict[str, Any], obj: Any, *, seeds: bool) -> SamplingParams:
    _verify(asked)
    settings = {name: asked[name] for name in _AS_IT_IS if asked.get(name) is not None}
    if seeds:
        settings["seed"] = asked.get("sampling_seed") or 42
    if obj.return_logprob:
        settings["logprobs"] = obj.top_logprobs_num
    return SamplingParams(
        **settings,
        max_tokens=max(1, asked["max_new_tokens"]),
        min_tokens=asked.get("min_new_tokens", 0),
        ignore_eos=asked.get("ignore_eos", False),
        skip_special_tokens=asked.get("skip_special_tokens", True),
        structured_outputs=_constraint(asked),
        output_kind=RequestOutputKind.DELTA,
    )


def _verify(asked: dict[str, Any]) -> None:
    for name, (least, most) in _RANGES.items():
        value = asked.get(name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name} must be in [{least}, {most}], got {value}.")
    top_k = asked.get("top_k", -1)
    if top_k < 1 and top_k != -1:
        raise ValueError(f"top_k must be -1 (disable) or at least 1, got {top_k}.")
    least = asked.get("min_new_tokens", 0)
    if not 0 <= least <= asked["max_new_tokens"]:
        raise ValueError(f"min_new_tokens must be in [0, max_new_tokens], got {least}.")
    grammars = [name for name in _CONSTRAINTS.values() if asked.get(name)]
    if len(grammars) > 1:
        raise ValueError("Only one of json_schema, regex, ebnf, or structural_tag can be set.")


def _constraint(asked: dict[str, Any]) -> StructuredOutputsParams | None:
    given = {kind: asked[name] for kind, name in _CONSTRAINTS.items() if asked.get(name)}
    return StructuredOutputsParams(**given) if given else None
