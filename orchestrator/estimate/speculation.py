"""Speculative decoding: what guesses tokens ahead of a model, and takes memory beside it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from contract.config import ModelConfig
from contract.model_files.hub_cache import MAIN
from orchestrator.errors import UserError
from orchestrator.estimate.checkpoint import (
    Checkpoint,
    locate,
    locate_configured,
    read_checkpoint,
    speculator_of,
)
from orchestrator.estimate.layers.kept import CacheLayers
from orchestrator.estimate.shape import Shape

#: The argument of vLLM (0.26 to 0.33) that turns it on.
_ARGUMENT: Final = "speculative_config"
#: Those of other engines, whose guesses are not counted.
_OTHERS: Final = ("speculative_algorithm", "speculative_draft_model_path")
#: Methods whose guesses come from the text itself.
_WITHOUT_MODEL: Final = ("ngram", "ngram_gpu", "suffix")


class Speculation(NamedTuple):
    """`tokens` are guessed at once: by a `draft` model, by layers of the model's own checkpoint
    (`is_predicted`), or from the text. `problem` says why a draft model is not counted."""

    tokens: int = 0
    draft: Checkpoint | None = None
    is_predicted: bool = False
    problem: str = ""


def speculation_of(model: ModelConfig, release: str = "") -> Speculation:
    """Read what `engine_args` say of it, and the files of the draft model. Raises `UserError`."""
    given = model.engine_args.get(_ARGUMENT)
    own = locate_configured(model)
    if speculator := speculator_of(own):
        # It is served with the model that it guesses for.
        counts = [each.speculative_tokens or 0 for each in speculator.proposal_methods[:1]]
        return Speculation(_tokens(given) or sum(counts), read_checkpoint(own, release))
    if not isinstance(given, dict):
        if any(model.engine_args.get(name) for name in _OTHERS):
            return Speculation(problem="the draft model of speculative decoding is not counted")
        return Speculation()
    tokens = _tokens(given)
    method, path = given.get("method") or given.get("model"), given.get("model")
    if method in _WITHOUT_MODEL:
        return Speculation(tokens)
    if isinstance(method, str) and method.endswith("mtp"):
        return Speculation(tokens, is_predicted=True)
    return _drafted(given, path, tokens, release)


def _tokens(given: Any) -> int:
    count = given.get("num_speculative_tokens") if isinstance(given, dict) else None
    return count if isinstance(count, int) and 0 < count < 1000 else 0


def _drafted(given: dict[str, Any], path: Any, tokens: int, release: str) -> Speculation:
    if not isinstance(path, str):
        return Speculation(tokens, problem=f"`{_ARGUMENT}` names no draft `model` to count")
    revision = given.get("revision")
    try:
        found = locate(path, revision if isinstance(revision, str) else MAIN)
        return Speculation(tokens, read_checkpoint(found, release))
    except UserError as error:
        return Speculation(tokens, problem=f"the draft model is not counted: {error}")


def with_guesses(shape: Shape, speculation: Speculation) -> Shape:
    """A model's shape with the layers of what guesses: they keep the same tokens in the same
    cache. Layers that predict are each like the model's own with the whole context."""
    if speculation.draft is not None:
        more = speculation.draft.shape.caches
    elif speculation.is_predicted:
        full = [each for each in shape.caches if each.kind == "full"]
        # With an indexer's keys, where the model has them.
        index = [each for each in full if each.fixed_bytes]
        own = [each for each in full if each.elements][:1] + index
        layers = shape.predictors or 1
        more = tuple(msgspec.structs.replace(each, layers=layers) for each in own)
    else:
        return shape
    return msgspec.structs.replace(shape, caches=_together(*shape.caches, *more))


def _together(*caches: CacheLayers) -> tuple[CacheLayers, ...]:
    """Layers that keep the same, counted once."""
    counted: dict[CacheLayers, int] = {}
    for each in caches:
        kind = msgspec.structs.replace(each, layers=0)
        counted[kind] = counted.get(kind, 0) + each.layers
    return tuple(msgspec.structs.replace(kind, layers=count) for kind, count in counted.items())
