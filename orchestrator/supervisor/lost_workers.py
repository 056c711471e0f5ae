"""Workers that have ended, as Redis is to know of them."""

from __future__ import annotations

from collections import deque
from typing import Final

from contract.bus.client import RedisClient
from contract.bus.records.worker_ends import WorkerEnd, WorkerEnds
from contract.endings import LETTER_DAYS, TRACE_DAYS, EndedBy
from orchestrator.protocol.specs import ReplicaSpec

#: The most ends that wait until Redis answers; then the oldest go.
_MOST_ENDS: Final = 1000


class LostWorkers:
    """Leases that are over, and how workers ended: told as soon as Redis answers."""

    def __init__(self) -> None:
        self._gone: dict[tuple[str, str], EndedBy] = {}
        #: Those that Redis does not know of yet.
        self.ends: deque[tuple[str, WorkerEnd, int]] = deque(maxlen=_MOST_ENDS)

    def end_lease(self, model: str, name: str, ended_by: EndedBy) -> None:
        """A worker is dead: others may take its jobs over."""
        self._gone[model, name] = ended_by

    def note(self, spec: ReplicaSpec, end: WorkerEnd) -> None:
        """Keep how a worker ended, for those who ask what became of its jobs."""
        letter_days = spec.spec.get("letter_days", LETTER_DAYS)
        days = max(letter_days, spec.spec.get("trace_days", TRACE_DAYS))
        self.ends.append((spec.model, end, days))

    async def tell(self, db: RedisClient) -> None:
        """Raises `RedisError`; what was not told then is told the next time."""
        for (model, name), ended_by in list(self._gone.items()):
            await WorkerEnds(db, model).end_lease(name, ended_by)
            del self._gone[model, name]
        while self.ends:
            model, end, days = self.ends[0]
            await WorkerEnds(db, model).note(end, days)
            self.ends.popleft()
