"""The ends of workers, as the supervisors of their hosts saw them: dead letters name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from contract.bus.client import RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.endings import EndedBy
from contract.messages import UNREADABLE

#: A job loses its workers before its own end is written: theirs are kept so much longer.
_LONGER_DAYS: Final = 1
_DAY_MS: Final = 86_400_000
#: Its jobs are taken over within seconds, if a worker runs at all.
_ENDED_BY_KEPT_MS: Final = _DAY_MS


class GpuAtEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU, or MIG slice, that a worker had a place on, when it ended, as the last look of its
    host's supervisor (every two seconds) has it. `reserved_mib` and `worker_mib` are what was
    planned for the worker and what it had; `foreign_mib` what processes had that are not ew's."""

    index: int
    name: str
    total_mib: int
    used_mib: int
    reserved_mib: int = 0
    worker_mib: int = 0
    foreign_mib: int = 0


class WorkerEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of one worker, be it told to come to it or not. `exit_code` is negative for a signal,
    and null where its supervisor could not wait for it; `out_of_memory`: the kernel ended it, or a
    process of it, because the host's memory was exhausted."""

    worker: str
    host: str
    unix_s: float
    cause: str
    engine: str = ""
    hint: str = ""
    exit_code: int | None = None
    out_of_memory: bool = False
    gpus: tuple[GpuAtEnd, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(WorkerEnd).decode


class WorkerEnds:
    """Those of one model's workers, two keys each."""

    def __init__(self, db: RedisClient, model: str) -> None:
        self._db = db
        self._model = model

    async def end_lease(self, worker: str, ended_by: EndedBy) -> None:
        """A worker is dead: others may take its jobs over, and know then whether one of them may be
        to blame. Raises `RedisError`."""
        key = f"ew:{{{self._model}}}:ended_by:{worker}"
        await self._db.set(key, ended_by.value, px=_ENDED_BY_KEPT_MS)
        await Heartbeats(self._db, self._model).leave(worker)

    async def note(self, end: WorkerEnd, days: int) -> None:
        """Keep one for so many days, those of dead letters or traces, and a day longer. Raises
        `RedisError`."""
        keep_ms = (days + _LONGER_DAYS) * _DAY_MS
        await self._db.set(self._key(end.worker), _encode(end), px=keep_ms)

    async def of(self, workers: Sequence[str]) -> dict[str, WorkerEnd]:
        """Return, by worker, the ends that are known. Raises `RedisError`."""
        if not workers:
            return {}
        found = {}
        for worker, text in zip(
            workers, await self._db.mget([self._key(each) for each in workers]), strict=True
        ):
            try:
                found[worker] = _decode(text or b"")
            except UNREADABLE:
                continue
        return found

    def _key(self, worker: str) -> str:
        return f"ew:{{{self._model}}}:end:{worker}"
