"""The usage of API keys, by model and day, as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from itertools import product
from typing import Final, Literal, NamedTuple, get_args

from contract.bus.client import RedisClient
from contract.usage import MODELS_KEY

By = Literal["key", "model", "day"]
BY: Final[tuple[By, ...]] = get_args(By)
_READ_AT_ONCE: Final = 200


class UsageCounts(NamedTuple):
    """Requests are jobs that have ended: `errors` of them failed, and `cancelled` were cancelled.
    The others are as in `JobUse`."""

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    engine_ms: int = 0

    @classmethod
    def read(cls, text: bytes) -> UsageCounts:
        """Return what Redis keeps."""
        return cls(*map(int, text.split()))

    def plus(self, other: UsageCounts) -> UsageCounts:
        return UsageCounts(*map(sum, zip(self, other, strict=True)))


class UsageRow(NamedTuple):
    """The usage of one key (its id), of one model, on one day of UTC (as in ISO 8601); None for a
    part that this is a sum over."""

    key: str | None
    model: str | None
    day: str | None
    counts: UsageCounts


_NOTHING: Final = UsageCounts()


class UsageAccounts:
    """The counts of all models. A count is there when the job has ended."""

    def __init__(self, db: RedisClient) -> None:
        self._db = db

    async def report(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[By] = BY,
        key: str | None = None,
        models: Iterable[str] = (),
    ) -> list[UsageRow]:
        """Return what was used from one day of UTC to another, both included: of one key (its id)
        or of all, a row for each different combination of `by`, in their order. `models` are
        looked at beside those that are known to have been used. Raises `RedisError`."""
        names = {name.decode() for name in await self._db.smembers(MODELS_KEY)} | {*models}
        days = [since + timedelta(n) for n in range((until - since).days + 1)]
        places = list(product(sorted(names), days))
        rows: list[UsageRow] = []
        for begin in range(0, len(places), _READ_AT_ONCE):
            rows += await self._rows(places[begin : begin + _READ_AT_ONCE], key)
        return summed(rows, by)

    async def _rows(self, places: Sequence[tuple[str, date]], key: str | None) -> list[UsageRow]:
        pipe = self._db.pipeline(transaction=False)
        for model, day in places:
            name = f"ew:{{{model}}}:usage:{day:%Y%m%d}"
            pipe.hgetall(name) if key is None else pipe.hget(name, key)
        rows = []
        for (model, day), found in zip(places, await pipe.execute(), strict=True):
            counts: Mapping[bytes, bytes] = found if key is None else _alone(key, found)
            rows += [
                UsageRow(each.decode(), model, day.isoformat(), UsageCounts.read(text))
                for each, text in counts.items()
            ]
        return rows


def summed(rows: Iterable[UsageRow], by: Sequence[By]) -> list[UsageRow]:
    """Return the sums over whatever is not in `by`, in the order of `by`; one row if it is empty,
    and none if there are no rows."""
    sums: dict[tuple[str, ...], UsageRow] = {}
    for row in rows:
        group = tuple(getattr(row, each) for each in by)
        key, model, day = (getattr(row, each) if each in by else None for each in BY)
        nothing = UsageRow(key, model, day, _NOTHING)
        before = sums.get(group, nothing)
        sums[group] = before._replace(counts=before.counts.plus(row.counts))
    return [sums[group] for group in sorted(sums)]


def _alone(key: str, counts: bytes | None) -> dict[bytes, bytes]:
    return {} if counts is None else {key.encode(): counts}
