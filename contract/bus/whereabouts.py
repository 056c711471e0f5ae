"""The state of a job that another process has put."""

from __future__ import annotations

from typing import NamedTuple

from contract.bus.queue import JobQueue
from contract.bus.tickets import Ticket


class Whereabouts(NamedTuple):
    """A job's state, the number of its current attempt (0: none was begun), and where its answer
    can be read."""

    state: str
    attempt: int
    ticket: Ticket


async def whereabouts(queue: JobQueue, job_id: str) -> Whereabouts | None:
    """Return the whereabouts of a job; None if it is not known. Raises `RedisError`."""
    names = ("state", "attempt", "reply", "first")
    state, attempt, reply, first = await queue.db.hmget(queue.job_key(job_id), names)
    if state is None:
        return None
    ticket = Ticket(reply.decode(), first.decode(), known=True)
    return Whereabouts(state.decode(), int(attempt), ticket)
