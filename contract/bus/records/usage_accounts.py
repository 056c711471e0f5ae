"""The usage of API keys, by model and day, as it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import product
from typing import Final, Literal, NamedTuple, get_args

from contract.bus.client import RedisClient
from contract.usage import MODELS_KEY

By = Literal["key", "model", "day"]
BY: Final[tuple[By, ...]] = get_args(By)
#: Days that are read at once: of one key, and of all, who may be thousands.
_COUNTS_AT_ONCE: Final = 200
_KEYS_AT_ONCE: Final = 8


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


class UsageRow(NamedTuple):
    """The usage of one key (its id), of one model, on one day of UTC (as in ISO 8601); None for a
    part that this is a sum over."""

    key: str | None
    model: str | None
    day: str | None
    counts: UsageCounts


class TooManyRows(Exception):
    """A report would have more rows than its reader can take."""


class UsageSums:
    """Sums of rows over whatever is not in `by`; no more than `most` of them, if that is given."""

    def __init__(self, by: Sequence[By], most: int | None = None) -> None:
        self._by = by
        self._most = most
        self._sums: dict[tuple[str, ...], list[int]] = {}

    def add(self, rows: Iterable[UsageRow]) -> None:
        """Raises `TooManyRows`."""
        for row in rows:
            group = tuple(getattr(row, each) for each in self._by)
            sums = self._sums.setdefault(group, [0] * len(row.counts))
            for i, count in enumerate(row.counts):
                sums[i] += count
            if self._most is not None and len(self._sums) > self._most:
                raise TooManyRows

    def rows(self) -> list[UsageRow]:
        """Return the sums, in the order of `by`."""
        return [self._row(group) for group in sorted(self._sums)]

    def _row(self, group: tuple[str, ...]) -> UsageRow:
        named = dict(zip(self._by, group, strict=True))
        key, model, day = (named.get(each) for each in BY)
        return UsageRow(key, model, day, UsageCounts(*self._sums[group]))


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
        most: int | None = None,
    ) -> list[UsageRow]:
        """Return what was used from one day of UTC to another, both included: of one key (its id)
        or of all, a row for each different combination of `by`, in their order. `models` are
        looked at beside those that are known to have been used. A year of many keys takes seconds,
        in which the event loop turns on. Raises `RedisError`, `TooManyRows` beyond `most`."""
        names = {name.decode() for name in await self._db.smembers(MODELS_KEY)} | {*models}
        days = [since + timedelta(n) for n in range((until - since).days + 1)]
        places = list(product(sorted(names), days))
        at_once = _KEYS_AT_ONCE if key is None else _COUNTS_AT_ONCE
        sums = UsageSums(by, most)
        for begin in range(0, len(places), at_once):
            asked = places[begin : begin + at_once]
            found = await self._read(asked, key)
            await asyncio.to_thread(sums.add, _rows(asked, found))
        return await asyncio.to_thread(sums.rows)

    async def _read(
        self, places: Sequence[tuple[str, date]], key: str | None
    ) -> list[Mapping[bytes, bytes]]:
        """Return the counts of each model and day, by key."""
        pipe = self._db.pipeline(transaction=False)
        for model, day in places:
            name = f"ew:{{{model}}}:usage:{day:%Y%m%d}"
            pipe.hgetall(name) if key is None else pipe.hget(name, key)
        found = await pipe.execute()
        return found if key is None else [_alone(key, each) for each in found]


def _rows(
    places: Sequence[tuple[str, date]], counts: Sequence[Mapping[bytes, bytes]]
) -> Iterator[UsageRow]:
    for (model, day), of_keys in zip(places, counts, strict=True):
        of_day = day.isoformat()
        for key, text in of_keys.items():
            yield UsageRow(key.decode(), model, of_day, UsageCounts.read(text))


def summed(rows: Iterable[UsageRow], by: Sequence[By]) -> list[UsageRow]:
    """Return the sums over whatever is not in `by`, in the order of `by`; one row if it is empty,
    and none if there are no rows."""
    sums = UsageSums(by)
    sums.add(rows)
    return sums.rows()


def _alone(key: str, counts: bytes | None) -> dict[bytes, bytes]:
    return {} if counts is None else {key.encode(): counts}
