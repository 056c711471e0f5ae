"""The outcomes of putting a job: a ticket for its answer, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from contract.limits import Counted
from contract.messages import Done, Failed

#: The state of a job that failed, though the same request may succeed later.
RETRYABLE: Final = "retryable"


def state_after(end: Done | Failed) -> str:
    """Return the state of a job with this end."""
    if isinstance(end, Failed):
        return RETRYABLE if end.retryable else "failed"
    return "cancelled" if "cancelled" in end.finish_reasons else "done"


class QueueFull(Exception):
    """The model's queue has no room; `waiting` jobs are before this one."""

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} jobs are waiting")
        self.waiting = waiting


class QueueTooLarge(Exception):
    """The model's queue has no room for so large a job; it takes `size` bytes already."""

    def __init__(self, size: int) -> None:
        super().__init__(f"jobs of {size / 1_048_576:.1f} MiB are in the queue")
        self.size = size


class NotServed(Exception):
    """No worker of this model is ready, and no host would start one for it."""


class Conflict(Exception):
    """Another job has this id already (an idempotency key used for a different request)."""


class WasCancelled(Exception):
    """The job that is asked for again was cancelled: there will be no answer to it."""


class Ticket(NamedTuple):
    """Where the answer to a job can be read: its reply stream, from after entry `first` on.

    `waiting` is the number of jobs before it; `known` says that the job had been put before, and
    `may_retry` that it has ended by now, without an answer, and might succeed if it were put anew.
    `counted` is what each subject of its consumption has taken, if it was put now.
    """

    reply: str
    first: str
    waiting: int = 0
    known: bool = False
    may_retry: bool = False
    counted: tuple[Counted, ...] = ()


def known_ticket(job_id: str, digest: str, known: Sequence[bytes]) -> Ticket:
    """Of a job that is there: its digest, reply stream, first entry and state. Raises `Conflict`,
    `WasCancelled`."""
    known_digest, reply, first, state = known
    if known_digest.decode() != digest:
        raise Conflict(job_id)
    if state == b"cancelled":
        raise WasCancelled(job_id)
    is_retryable = state == RETRYABLE.encode()
    return Ticket(reply.decode(), first.decode(), known=True, may_retry=is_retryable)
