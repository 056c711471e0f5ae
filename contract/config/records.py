"""The sections of what is kept of requests in Redis."""

from __future__ import annotations

from pydantic import Field

from contract.config.section import Section
from contract.endings import LETTER_DAYS, TRACE_DAYS
from contract.usage import KEEP_DAYS, MOST_DAYS


class UsageConfig(Section):
    """The counts of each API key, model and day."""

    keep_days: int = Field(
        KEEP_DAYS, ge=1, le=MOST_DAYS, description="How long the counts of a day are kept."
    )
    trace_days: int = Field(
        TRACE_DAYS, ge=1, le=365, description="How long `ew trace` knows of a job that has ended."
    )


class DeadLettersConfig(Section):
    """Requests that were given up because they broke their workers (`./ew dead`)."""

    keep_days: int = Field(
        LETTER_DAYS,
        ge=1,
        le=365,
        description="How long one is kept, with its prompt, to be replayed.",
    )
