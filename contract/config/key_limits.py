"""Limits of API keys, and of groups of them, in the configuration."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

from pydantic import Field, StringConstraints

from contract.config.section import Section
from contract.limits import MOST, KeyLimits

GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Bound = Annotated[int, Field(ge=1, le=MOST)]


class KeyLimitsConfig(Section):
    """Limits of an API key, or of all keys of a group together. Tokens are those of prompts
    and answers: what a request may take is reserved, and what it took is settled at its end."""

    requests_per_minute: Bound | None = Field(None, description="In any 60 seconds.")
    tokens_per_minute: Bound | None = Field(None, description="In any 60 seconds.")
    open_requests: Bound | None = Field(None, description="That wait or run, at once.")
    waiting_requests: Bound | None = Field(None, description="That wait for a worker, at once.")
    waiting_bytes: Bound | None = Field(None, description="Of the requests that wait.")
    tokens_per_day: Bound | None = Field(None, description="Days are of UTC.")
    tokens_per_month: Bound | None = Field(None, description="Months are of UTC.")

    @cached_property
    def limits(self) -> KeyLimits:
        return KeyLimits(**self.model_dump())
