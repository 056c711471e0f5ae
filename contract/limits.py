"""The limits of API keys, and of groups of them, and a job's share of them
(`bus/scripts/limits.lua` counts)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, NamedTuple

import msgspec

#: Redis counts no further exactly; so much is no limit, where a default would set one.
MOST: Final = 2**53
#: Of what Redis may take (`maxmemory`), new jobs are let in up to here, and those of the class
#: `batch` up to there; the rest is for the answers to what was let in.
MEMORY_FOR_JOBS: Final = 0.75
MEMORY_FOR_BATCH_JOBS: Final = 0.65
Bound = Annotated[int, msgspec.Meta(ge=1, le=MOST)]


class KeyLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """None is no limit. Tokens are those of prompts and answers. `open_requests` are those that
    wait and those that run. Days and months are of UTC."""

    requests_per_minute: Bound | None = None
    tokens_per_minute: Bound | None = None
    open_requests: Bound | None = None
    waiting_requests: Bound | None = None
    waiting_bytes: Bound | None = None
    tokens_per_day: Bound | None = None
    tokens_per_month: Bound | None = None

    def over(self, default: KeyLimits) -> KeyLimits:
        """Return these, and the default's where these say nothing."""
        own = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(default, **own)

    def words(self) -> list[int]:
        """Return them as `scripts/limits.lua` takes them."""
        bounds = (getattr(self, name) or MOST for name in _NAMES)
        return [0 if bound == MOST else bound for bound in bounds]

    def __bool__(self) -> bool:
        return any(self.words())


_NAMES = tuple(KeyLimits.__struct_fields__)
NO_LIMITS = KeyLimits()


class Consumption(NamedTuple):
    """The tokens that a job may take at most, and by subject (`key:ID`, `group:NAME`) the limits
    that it counts for."""

    tokens: int = 0
    limits: tuple[tuple[str, KeyLimits], ...] = ()

    def limits_word(self) -> bytes:
        """Return the limits as `enqueue` takes them."""
        return _limits_word(self.limits) if self.limits else b""


@lru_cache(maxsize=1024)
def _limits_word(limits: tuple[tuple[str, KeyLimits], ...]) -> bytes:
    return msgspec.json.encode([[subject, *each.words()] for subject, each in limits])


NO_CONSUMPTION: Final = Consumption()


class Counted(NamedTuple):
    """The use of a subject so far, this job included."""

    requests: int
    tokens: int
    day: int
    month: int


class LimitReached(Exception):
    """A limit has no room for a job: `subject` has `used` of its `limit` called `name`. There is
    room in `wait_s` seconds, if nothing else comes; -1: the job alone is too large for it."""

    def __init__(self, subject: str, name: str, limit: int, used: int, wait_s: int) -> None:
        super().__init__(f"{subject}: {name} is {limit}, and {used} are used")
        self.subject = subject
        self.name = name
        self.limit = limit
        self.used = used
        self.wait_s = wait_s

    @classmethod
    def read(cls, words: Sequence[Any]) -> LimitReached:
        """Return what `enqueue` answered."""
        subject, name, limit, used, wait_s = words
        return cls(subject.decode(), name.decode(), limit, used, wait_s)
