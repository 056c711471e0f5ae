"""Workers of one model as far as the queue can see them: a name, a lease, and a reader."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from contract.bus.claims import Attempt, BeginRefused, Claim
from contract.bus.client import RedisClient
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.records.worker_ends import WorkerEnds
from contract.bus.registration import registrations
from contract.bus.tickets import Ticket
from contract.bus.views.model_look import look_at_models
from contract.endings import EndedBy
from contract.limits import NO_CONSUMPTION, Consumption
from contract.messages import Heartbeat, Job, Sampling, State

REPLY = "ew:out:nobody"


def a_job(queue: JobQueue, job_id: str, prompt: str = "hello") -> Job:
    return Job(id=job_id, model=queue.model, sampling=Sampling(max_tokens=4), prompt=prompt)


async def serve(queue: JobQueue) -> None:
    """Have a host that would load the model, for as long as the test takes: jobs may be put."""
    await queue.db.zadd(registrations(queue.db, queue.model).ready_key, {"a-host": "inf"})


async def put_one(
    queue: JobQueue,
    job: Job,
    reply: str = REPLY,
    first: str = "0",
    *,
    consumption: Consumption = NO_CONSUMPTION,
    **bounds: Any,
) -> Ticket:
    """Put one job of a model that is served. Raises its `Conflict` or `WasCancelled`."""
    known = {"max_waiting": 100_000, "deadline_ms": 60_000, **bounds}
    (ticket,) = await queue.put_all([job], reply, first, consumptions=[consumption], **known)
    if isinstance(ticket, Exception):
        raise ticket
    return ticket


async def put(
    queue: JobQueue, job_id: str, *, deadline_ms: int = 60_000, max_waiting: int = 1000
) -> Ticket:
    job = a_job(queue, job_id)
    return await put_one(queue, job, max_waiting=max_waiting, deadline_ms=deadline_ms)


async def count_waiting(queue: JobQueue) -> int:
    """Return how many jobs wait unclaimed."""
    return (await look_at_models(queue.db, [queue.model]))[queue.model].waiting


async def count_unfinished(queue: JobQueue) -> int:
    """Return how many jobs wait, or are held by workers."""
    return (await look_at_models(queue.db, [queue.model]))[queue.model].unfinished


async def beat(db: RedisClient, model: str, worker: str, *, ready: bool = True) -> bool:
    heartbeat = Heartbeat(worker, model, "mock", "here", 1, State.READY)
    return await Heartbeats(db, model).beat(worker, heartbeat, ready=ready)


async def end_lease(db: RedisClient, model: str, worker: str) -> None:
    """End the lease of a worker that does not beat, as the passing of time would."""
    await db.zadd(f"ew:{{{model}}}:leases", {worker: 1})


async def claim(queue: JobQueue, db: Redis, worker: str, count: int = 10) -> list[Claim]:
    return await queue.claim(db, worker, count, block_ms=1)


async def begin(queue: JobQueue, db: Redis, worker: str) -> list[Attempt | BeginRefused]:
    """Claim what waits, and begin it."""
    return await queue.begin(worker, await claim(queue, db, worker), alone=True)


def attempts(begun: list[Attempt | BeginRefused]) -> list[Attempt]:
    """Return what was begun, all of which is to be run."""
    assert all(isinstance(each, Attempt) for each in begun)
    return [each for each in begun if isinstance(each, Attempt)]


async def begin_one(queue: JobQueue, db: Redis, worker: str) -> Attempt:
    (attempt,) = attempts(await begin(queue, db, worker))
    return attempt


async def lose(
    queue: JobQueue,
    worker: str,
    heir: str,
    *,
    alone: bool = True,
    ended_by: EndedBy = EndedBy.ITSELF,
) -> list[Attempt | BeginRefused]:
    """A worker is lost, as its supervisor tells, and another takes all that it held."""
    await WorkerEnds(queue.db, queue.model).end_lease(worker, ended_by)
    return await queue.begin(heir, await queue.take_over(heir, 100), alone=alone)


async def state_of(queue: JobQueue, job_id: str) -> str | None:
    state = await queue.db.hget(queue.job_key(job_id), "state")
    return state.decode() if state else None


async def leap(db: RedisClient, seconds: int) -> None:
    """Set the clock of all that Redis keeps forward: leases and deadlines are
    nearer by so much, and what should end within that time has ended."""
    await db.eval(_LEAP, 0, seconds * 1000)


_LEAP = """
for _, key in ipairs(redis.call('KEYS', 'ew:*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'zset' then
    for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      redis.call('ZINCRBY', key, -ARGV[1], name)
    end
  elseif kind == 'hash' and redis.call('HEXISTS', key, 'deadline') == 1 then
    redis.call('HINCRBY', key, 'deadline', -ARGV[1])
  end
  local left = redis.call('PTTL', key)
  if left > 0 then
    redis.call('PEXPIRE', key, left - ARGV[1])
  end
end
"""


async def snapshot(db: RedisClient) -> dict[bytes, bytes]:
    """Return all that a server knows, as a replica has it that hears nothing more from then on."""
    return {key: await db.dump(key) for key in await db.keys("ew:*")}


async def restore(db: RedisClient, known: dict[bytes, bytes]) -> None:
    """Make a server know this, and nothing else."""
    pipe = db.pipeline(transaction=True)
    pipe.flushall()
    for key, value in known.items():
        pipe.restore(key, 300_000, value)
    await pipe.execute()
