"""Other models that the requests for a model go to, by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from contract.config.section import ModelId, Section

Percent = Annotated[float, Field(gt=0, le=100)]
#: The requests that stay together: of a conversation, of a key, or none.
StickyBy = Literal["conversation", "key", "request"]


class FallbackConfig(Section):
    """When a request goes to another model: if this one is not there, or if its queue is too long
    or too slow. A request is moved once, and never after a worker has begun it."""

    to: tuple[ModelId, ...] = Field(
        min_length=1, max_length=16, description="The first of these that can take it has it."
    )
    after_wait_s: float | None = Field(
        None,
        gt=0,
        description="Also a request that no worker has begun for so long, be it that its model is "
        "being loaded; unset: however long it waits.",
    )
    after_waiting: int | None = Field(
        None,
        ge=1,
        description="Also while so many requests wait for the model, or for one of `to`; unset: "
        "however many wait.",
    )


class SplitConfig(Section):
    """Shares of the requests for a model, for a canary or for two engines behind one name."""

    to: dict[ModelId, Percent] = Field(
        min_length=1,
        max_length=16,
        description="Percent of the requests by model; the rest stays with the model itself.",
    )
    by: StickyBy = Field(
        "conversation",
        description="`conversation`: one that goes on stays where it began, with its cached "
        "prefix; `key`: all that a key asks stays together; `request`: each by itself.",
    )


class ShadowConfig(Section):
    """A copy of some requests for another model. Its answers are dropped; it is work of the class
    `batch`, and counts neither for the limits of a key nor as its usage."""

    to: ModelId = Field(description="The model that is asked the same.")
    percent: Percent = Field(100, description="Of the requests that are copied.")
    max_open: int = Field(
        8, ge=1, le=10_000, description="Copies at once, over all gateways; others are left out."
    )


def targets_of(
    fallback: FallbackConfig | None, split: SplitConfig | None, shadow: ShadowConfig | None
) -> Mapping[str, tuple[str, ...]]:
    """Return the models that a model's entry names, by the key that names them."""
    return {
        "fallback": fallback.to if fallback else (),
        "split": tuple(split.to) if split else (),
        "shadow": (shadow.to,) if shadow else (),
    }
