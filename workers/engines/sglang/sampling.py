"""A job's sampling in SGLang's words."""

from __future__ import annotations

import json
from typing import Any, Final

from contract.asked import Guided
from contract.messages import Sampling
from workers.engines.prompts import choices_of
from workers.engines.shared.regex import alternation
from workers.engines.shared.schemas import folded, folded_tag

_AS_IT_IS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


def sampling_settings(
    asked: Sampling, defaults: dict[str, Any], max_tokens: int, emitted: int
) -> dict[str, Any]:
    """Return the fields of `SamplingParams` for one choice of an answer, of which `emitted`
    tokens are there already. A stop string stays in the text: where it begins may have been
    streamed before it is recognised, so that `SglangChoice` holds it back."""
    settings: dict[str, Any] = {
        "max_new_tokens": max_tokens,
        "min_new_tokens": min(max(0, asked.min_tokens - emitted), max_tokens),
        "stop": list(asked.stop) or None,
        "no_stop_trim": True,
        "ignore_eos": asked.ignore_eos,
    }
    for name in (*_AS_IT_IS, "top_k"):
        given = getattr(asked, name)
        value = defaults.get(name) if given is None else given
        if value is not None:
            settings[name] = value
    if settings.get("top_k") == 0:
        settings["top_k"] = -1
    return settings | (_constraint(asked.guided) if asked.guided else {})


def _constraint(guided: Guided) -> dict[str, str]:
    match guided.kind:
        case "json_object":
            return {"json_schema": json.dumps({"type": "object"})}
        case "choice":
            return {"regex": alternation(choices_of(guided.value))}
        case "json":
            return {"json_schema": json.dumps(folded(json.loads(guided.value)))}
        case "grammar":
            return {"ebnf": guided.value}
        case "structural_tag":
            return {"structural_tag": json.dumps(folded_tag(json.loads(guided.value)))}
    return {"regex": guided.value}
