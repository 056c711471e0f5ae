"""The outcomes of putting a job: a ticket for its answer, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from contract.bus.turns import place_of
from contract.limits import Counted, LimitReached
from contract.media import media_words, without_contents
from contract.messages import Done, Failed, Job
from contract.wire import encode_job

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


def put_words(job: Job, digest: str, tokens: int) -> list[Any]:
    """Return a job that may take so many tokens as `enqueue` takes it."""
    media = media_words(job)
    payload = encode_job(without_contents(job))
    return [payload, digest, *place_of(job).words(), tokens, len(media) // 2, *media]


def read_tickets(
    answer: Sequence[Any], jobs: Sequence[Job], digest: str, reply: str, first: str
) -> list[Ticket | Conflict | WasCancelled]:
    """Return what `enqueue` answered for each job. Raises `QueueFull`, `QueueTooLarge`, `NotServed`
    and `LimitReached` if none was put."""
    match answer:
        case [b"put", answers]:
            return [
                _ticket(each, job, digest, reply, first)
                for each, job in zip(answers, jobs, strict=True)
            ]
        case [b"limited", *words]:
            raise LimitReached.read(words)
        case [b"full", waiting]:
            raise QueueFull(waiting)
        case [b"large", size]:
            raise QueueTooLarge(size)
        case _:
            raise NotServed(jobs[0].model)


def _ticket(
    answer: Sequence[Any], job: Job, digest: str, reply: str, first: str
) -> Ticket | Conflict | WasCancelled:
    match answer:
        case [b"queued", waiting, counts]:
            return Ticket(reply, first, waiting, counted=tuple(Counted(*c) for c in counts))
        case [_, *known]:
            try:
                return known_ticket(job.id, digest, known)
            except (Conflict, WasCancelled) as problem:
                return problem
        case _:
            raise TypeError(answer)


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
