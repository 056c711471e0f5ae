"""Jobs that wait for one model, and move to the queue of another."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from contract.bus.client import LuaScript, RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.bus.known_requests import choice_key
from contract.bus.queue import GROUP, KEEP_MS, JobQueue
from contract.bus.registration import registrations
from contract.bus.turns import place_of
from contract.media import without_contents
from contract.messages import Job
from contract.wire import encode_job

_move: Final = LuaScript("move", "apart", "jobs", "turns", "media", "limits", "lives", "usage")


class MoveOutcome(NamedTuple):
    """The outcome of a move. `stays`: a worker has the job or had it, it was cancelled, or it is
    over. `full` and `unserved` are of the other model. Of one that has moved, now or before, the
    model that it went to, and how many jobs wait there before it."""

    what: Literal["moved", "stays", "full", "unserved"]
    model: str = ""
    waiting: int = 0


async def move_job(
    db: RedisClient,
    job: Job,
    *,
    former: str,
    max_waiting: int,
    max_bytes: int = 0,
    request: str = "",
) -> MoveOutcome:
    """Move a job that waits for the model `former` to that which `job` names. Once; safe to repeat.
    `request` is its name in `KnownRequests`, if it may come again. Raises `RedisError`."""
    here, there = JobQueue(db, former), JobQueue(db, job.model)
    keys = [here.key, here.job_key(job.id), there.key, there.job_key(job.id)]
    keys += [Heartbeats(db, job.model).ready_key, registrations(db, job.model).ready_key]
    keys += [choice_key(request)] if request else []
    payload, words = encode_job(without_contents(job)), place_of(job).words()
    args = [GROUP, job.model, payload, *words, max_waiting, max_bytes, KEEP_MS, former]
    match await _move(db, keys, args):
        case [b"moved", model, waiting]:
            return MoveOutcome("moved", model.decode(), waiting)
        case [b"full"]:
            return MoveOutcome("full")
        case [b"unserved"]:
            return MoveOutcome("unserved")
        case _:
            return MoveOutcome("stays")
