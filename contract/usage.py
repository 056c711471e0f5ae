"""The use of one job, as `bus/scripts/usage.lua` counts it."""

from __future__ import annotations

from typing import Final, NamedTuple

#: The set of the names of models of which something was ever counted.
MODELS_KEY: Final = "ew:usage:models"
#: How many days the counts of a day are kept, if the configuration says nothing else.
KEEP_DAYS: Final = 400
#: No configuration may have them kept for longer.
MOST_DAYS: Final = 3660


class JobUse(NamedTuple):
    """Tokens of a job's prompt, and how many of them a cache had; tokens of its answer, and how
    many of them were reasoning. `engine_ms` is the time in which the engine worked
    for it: what runs at the same time shares it equally."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    engine_ms: int = 0

    def words(self) -> str:
        """Return the use as `scripts/usage.lua` takes it."""
        return " ".join(map(str, self))


NO_USE: Final = JobUse()
