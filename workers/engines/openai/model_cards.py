"""The models that a server lists."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class ModelCard(NamedTuple):
    """A model that the server lists. Other servers say other things, in other types."""

    id: str = ""
    owned_by: str = ""
    max_model_len: int | None = None

    @classmethod
    def of(cls, said: dict[str, Any]) -> ModelCard:
        meta = said.get("meta")
        lengths = (said.get("max_model_len"), meta.get("n_ctx") if isinstance(meta, dict) else None)
        known = (each for each in lengths if isinstance(each, int) and each > 0)
        return cls(str(said.get("id") or ""), str(said.get("owned_by") or ""), next(known, None))


def listed(body: bytes) -> list[ModelCard]:
    """Return the models of a list; none if it is no such list."""
    found = object_in(body).get("data")
    cards = found if isinstance(found, list) else []
    return [ModelCard.of(card) for card in cards if isinstance(card, dict)]


def object_in(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds; an empty one if it holds something else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
