"""Jobs that may be what broke their workers: each is tried by itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from contract.bus.claims import Attempt, Claim, Record
from contract.bus.queue import MAX_ATTEMPTS, JobQueue
from contract.process.tasks import first_of
from workers.outbox import Outbox

#: A job that lost so many workers may be what broke them.
_SUSPECT_AFTER: Final = MAX_ATTEMPTS - 1
_TRIAL_S: Final = 10.0
#: Who kills workers whatever they do kills one that has nothing to do, too.
_CONTROL_S: Final = 2.0
#: A job that got on so often, and lost its worker later, has one to itself until its end.
_MOST_ACQUITTALS: Final = 6


class Begin(Protocol):
    """The way of a claimed job to the engine."""

    async def __call__(self, claims: Sequence[Claim], *, alone: bool) -> list[Attempt]:
        """Begin attempts; return those that are run. Raises `RedisError`."""


class Suspects:
    """The suspects among the claims of one worker. True while there are any."""

    def __init__(self, queue: JobQueue, outbox: Outbox, worker: str) -> None:
        self._queue = queue
        self._outbox = outbox
        self._worker = worker
        self._waiting: deque[tuple[Claim, Record]] = deque()
        #: Those that were left to workers with less to do, once.
        self._handed_back: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def take(self, claims: Sequence[Claim]) -> list[Claim]:
        """Keep the suspects among jobs that were claimed before. Return the others. Raises
        `RedisError`: all are claims of this worker still, to be found when it looks again."""
        records = await self._queue.trials.records(claims)
        suspects = [each for each in claims if records[each.entry].lost >= _SUSPECT_AFTER]
        others = [each for each in claims if each not in suspects]
        if len(self._outbox):
            suspects = await self._leave_to_others(suspects)
        # The job that was just tried when the last worker broke has lost the most. It comes first,
        # when nothing else is here: only then is it known for what it is.
        suspects.sort(key=lambda each: -records[each.entry].lost)
        self._waiting.extend((each, records[each.entry]) for each in suspects)
        return others

    async def try_next(self, begin: Begin, stopping: asyncio.Event) -> None:
        """Begin the next suspect, and nothing else until it gets on: if it breaks this worker, too,
        no other job is to be blamed. One that got on often, and broke its worker later, is tried
        until its end. Before it is tried again, the worker does nothing for a while: if it is lost
        then, that is not held against the job. Raises `RedisError`."""
        suspect, record = self._waiting.popleft()
        alone = len(self._outbox) == 0
        if alone and record.in_doubt:
            await first_of(stopping.wait(), timeout_s=_CONTROL_S)
            if stopping.is_set():
                self._waiting.appendleft((suspect, record))
                return
        for attempt in await begin([suspect], alone=alone):
            if record.acquitted >= _MOST_ACQUITTALS:
                await first_of(self._outbox.wait_until_empty(), stopping.wait())
                continue
            word = self._outbox.wait_for_word(attempt.job.id)
            first = await first_of(word, stopping.wait(), timeout_s=_TRIAL_S)
            await self._queue.trials.end(self._worker, attempt, got_on=first == 0)

    async def _leave_to_others(self, suspects: list[Claim]) -> list[Claim]:
        """Give back suspects that come for the first time: a worker that has nothing to do may
        try them without delay. Returns the others."""
        fresh = [each for each in suspects if each.entry not in self._handed_back]
        kept = [each for each in suspects if each.entry in self._handed_back]
        if fresh:
            await self._queue.hand_back(fresh)
        self._handed_back = {each.entry for each in fresh}
        return kept
