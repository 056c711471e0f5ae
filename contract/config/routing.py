"""Other models that the requests for a model go to, by their ids."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from contract.config.section import ModelId, Section

Percent = Annotated[float, Field(ge=0, le=100)]
#: The requests that stay together: of a conversation, of a key, or none.
StickyBy = Literal["conversation", "key", "request"]


class FallbackConfig(Section):
    """When a request goes to another model: if this one is not there, or if its queue is too
    long. Those models' own fallbacks do not count."""

    to: tuple[ModelId, ...] = Field(
        min_length=1, max_length=16, description="The first of these that can take it has it."
    )
    after_waiting: int | None = Field(
        None,
        ge=1,
        description="Also while so many requests wait for the model, or for one of `to`; unset: "
        "however many wait.",
    )
    after_wait_s: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="A request that has waited so long for the model moves to one of `to`; unset: "
        "it waits on.",
    )


class SplitConfig(Section):
    """Shares of the requests for a model, for a canary or for two engines behind one name."""

    to: dict[ModelId, Percent] = Field(
        min_length=1,
        max_length=16,
        description="Percent of the requests by model, 0 for none; the rest stays with the model "
        "itself.",
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
    percent: Percent = Field(100, description="Of the requests, so many are copied; 0 for none.")
    max_open: int = Field(
        8,
        ge=1,
        le=10_000,
        description="Copies at once, of each HTTP process; beyond them requests are not copied.",
    )
