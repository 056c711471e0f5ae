"""The state of a job that another process has put."""

from __future__ import annotations

from typing import NamedTuple

from contract.bus.queue import JobQueue
from contract.bus.tickets import Ticket


class Whereabouts(NamedTuple):
    """A job's state, the number of its current attempt (0: none was begun), where its answer can be
    read, and the model that does it."""

    state: str
    attempt: int
    ticket: Ticket
    model: str


async def whereabouts(queue: JobQueue, job_id: str) -> Whereabouts | None:
    """Return the whereabouts of a job, also if it has moved to another model; None if it is not
    known. Raises `RedisError`."""
    names = ("state", "attempt", "reply", "first", "moved_to")
    state, attempt, reply, first, to = await queue.db.hmget(queue.job_key(job_id), names)
    if state is None:
        return None
    if to is not None:
        return await whereabouts(JobQueue(queue.db, to.decode()), job_id)
    ticket = Ticket(reply.decode(), first.decode(), known=True)
    return Whereabouts(state.decode(), int(attempt), ticket, queue.model)
