"""The places of one worker, when all are taken: a job whose turn it is may get that of another."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from contract.bus.claims import Attempt, Waiting
from contract.bus.queue import JobQueue
from contract.bus.turns import QueuePlace, place_of
from contract.messages import Status
from workers.answers.continuation import can_continue, can_hand_over
from workers.engine import Engine
from workers.outbox import Outbox

_BATCH: Final = 2
_LOOK_EVERY_S: Final = 0.5


def gives_way(
    waiting: QueuePlace, running: Sequence[Attempt], movable: Sequence[Attempt]
) -> str | None:
    """Return the id of the job that lets the one that waits go first, if one should: a batch job
    for any other; else one of a key that would have no smaller share of the places afterwards than
    the key that waits. Of several, the one that was begun last has the least to do again. `movable`
    are those of `running` that may."""
    places = {each.job.id: place_of(each.job) for each in running}
    held = Counter(place.key_id for place in places.values())
    after = (held[waiting.key_id] + 1) / waiting.weight

    def loses(place: QueuePlace) -> bool:
        if waiting.rank < _BATCH and place.rank == _BATCH:
            return True
        is_another = place.key_id != waiting.key_id and place.rank >= waiting.rank
        return is_another and (held[place.key_id] - 1) / place.weight >= after

    losers = [each for each in movable if not each.aged and loses(places[each.job.id])]
    last = max(losers, key=lambda each: (places[each.job.id].rank, each.number), default=None)
    return last.job.id if last else None


class Places:
    """Decides which jobs this worker can give up, and makes room for others."""

    def __init__(self, queue: JobQueue, engine: Engine, outbox: Outbox, worker: str) -> None:
        self._queue = queue
        self._engine = engine
        self._outbox = outbox
        self._worker = worker
        #: A key has begun to wait.
        self.asked = asyncio.Event()
        self.yielded_total = 0
        self._looked = 0.0

    async def make_room(self) -> None:
        """Let a job wait again, if another is to have its place; look for one only if one has just
        begun to wait, or now and then. Raises `RedisError`."""
        now = time.monotonic()
        if not self.asked.is_set() and now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        self.asked.clear()
        movable = self.movable()
        waiting = await self._queue.peek() if movable else None
        if waiting is not None:
            await self._make_room_for(waiting, movable)

    async def _make_room_for(self, waiting: Waiting, movable: Sequence[Attempt]) -> None:
        # Some have ended while Redis was asked.
        movable = [each for each in movable if self._outbox.is_open(each)]
        job_id = gives_way(waiting.place, self._outbox.attempts(), movable)
        if job_id is None or not await self._queue.make_room_for(waiting):
            return
        attempt = next((each for each in movable if each.job.id == job_id), None)
        if attempt is None or not self._outbox.is_open(attempt):
            return
        self._outbox.tell(job_id, Status("waiting for its turn again"))
        use = self._outbox.withdraw(job_id)
        await self._engine.cancel(job_id)
        await self._outbox.flush()
        await self._queue.yield_place(self._worker, attempt, use)
        self.yielded_total += 1

    def movable(self) -> list[Attempt]:
        """Return those attempts whose answers another worker, or this one later, is sure to end
        as it would be now."""
        return [each for each in self._outbox.attempts() if self._goes_on_elsewhere(each)]

    def _goes_on_elsewhere(self, attempt: Attempt) -> bool:
        job = attempt.job
        if self._engine.continues and can_continue(job):
            return True
        is_greedy = can_hand_over(job) and job.sampling.temperature == 0
        return is_greedy or self._outbox.is_untold(job.id)
