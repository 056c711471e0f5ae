"""The longest context of a checkpoint, as vLLM derives it from config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

from orchestrator.estimate.layer_json import RopeJson
from orchestrator.estimate.model_json import ModelJson

_NAMES: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_UNSAID: Final = 2048
#: Their `max_position_embeddings` is what they reach with the scaling.
_SCALED_ALREADY: Final = ("su", "longrope", "llama3")
_YARN: Final = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")
#: Families whose context vLLM (0.32) cuts, if it is not told a length.
_AT_MOST: Final = {"embedding_gemma2": 8192, "embedding_gemma2_text": 8192}
#: Before this release of vLLM, YaRN's factor multiplies the original length; from then on the
#: length counts as given. Qwen3 with the section of its model card: 131072 in 0.29.0, then 40960.
_YARN_AS_GIVEN: Final = (0, 30)


def context_len(config: ModelJson, release: str = "") -> int:
    """In tokens. Without a release of the engine, as the newest takes it: never more than an
    older one would take."""
    given = [config.figure(name) for name in _NAMES]
    if config.inner is not None:
        # The language model's own count, unless there are none.
        own = [config.inner.figure(name) for name in _NAMES]
        given = own if any(own) else given
    # Cohere's own figure wins over all others.
    longest = config.figure("model_max_length") or min(filter(None, given), default=_UNSAID)
    longest = min(longest, _AT_MOST.get(config.model_type or "", longest))
    scalings = _scalings(config)
    if any(each.kind == "longrope" for each in scalings):
        return config.figure("original_max_position_embeddings") or longest
    if (config.model_type or "").startswith("gemma3"):
        return longest
    return _scaled(longest, scalings, is_old=_is_before(release, _YARN_AS_GIVEN))


def _scalings(config: ModelJson) -> list[RopeJson]:
    section: RopeJson | None = config.first("rope_parameters", "rope_scaling")
    return section.each if section is not None else []


def _scaled(longest: int, scalings: Iterable[RopeJson], *, is_old: bool) -> int:
    factor = 1.0
    for each in scalings:
        if each.kind in _SCALED_ALREADY or (each.kind in _YARN and not is_old):
            continue
        if each.kind == "yarn" and each.original_max_position_embeddings:
            longest = each.original_max_position_embeddings
        factor = each.factor or factor
    return math.floor(longest * factor) if math.isfinite(factor) else longest


def _is_before(release: str, other: tuple[int, int]) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    return bool(numbers) and numbers < other
