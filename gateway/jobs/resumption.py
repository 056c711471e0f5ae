"""Requests that may be sent again, for the same answer."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from msgspec.structs import replace

from contract.messages import Job
from gateway.http.errors import ApiError
from gateway.streams.sse import NOTHING, EventId

#: A request that fails again and again is not made anew under the same key for ever.
_MOST_TRIES: Final = 16
_IDEMPOTENCY_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")


class Resumption(NamedTuple):
    """A request that may be sent again, for the same answer: its `Idempotency-Key`, and the
    last event that its client has. `digest` tells one request from another. With `patience_s`
    no client waits at a connection, and the job may wait so long for a worker."""

    idempotency_key: bytes
    after: EventId = NOTHING
    digest: str = ""
    patience_s: float = 0.0

    def job_id(self, job: Job) -> str:
        """The same for every repetition by the same API key. Of another model, or adapter, it is
        another one, so that answers cannot be mixed up, whatever goes wrong."""
        model = job.moved_from or job.model
        asked = (model, job.adapter) if job.adapter else (model,)
        return _digest(job.key_id, self.idempotency_key, *asked)[:32]

    def named(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs that a request asks for, with ids that are the same for every repetition.
        Raises `ApiError`."""
        if len(jobs) > 1 and self.after != NOTHING:
            message = "the answer to several prompts is resumed from its beginning only"
            raise ApiError("invalid_header", f"`Last-Event-ID`: {message}")
        first, *others = [replace(job, id=self.job_id(job), resumable=True) for job in jobs]
        return [first, *(replace(each, id=_nth(each.id, k)) for k, each in enumerate(others, 1))]

    def name(self, key_id: str) -> str:
        """Return the name of this request for `KnownRequests`."""
        return _digest(key_id, self.idempotency_key)[:32]


def _nth(job_id: str, number: int) -> str:
    """Return the id of the job of another prompt of the same request."""
    return _digest(job_id, f"prompt {number}")[:32]


def tries_of(job: Job) -> list[Job]:
    """The jobs that a request with an `Idempotency-Key` may become, one after the other: a new one
    when the last has ended without an answer. Each has an id of its own, as a worker may still
    hold the one before."""
    ids = (hashlib.sha256(f"{job.id} {number}".encode()) for number in range(1, _MOST_TRIES))
    others = (replace(job, id=each.hexdigest()[:32]) for each in ids)
    return [job, *others]


def resumption_of(idempotency_key: bytes | None, last_event_id: bytes | None) -> Resumption | None:
    """Return the resumption that the two headers ask for. Raises `ApiError`."""
    if idempotency_key is None:
        if last_event_id is not None:
            message = "`Last-Event-ID` needs the `Idempotency-Key` of the first request"
            raise ApiError("invalid_header", message)
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        message = "`Idempotency-Key` must be 1 to 255 visible ASCII characters"
        raise ApiError("invalid_header", message)
    return Resumption(idempotency_key, last_event(last_event_id))


def last_event(given: bytes | None) -> EventId:
    """Return the event that `Last-Event-ID` gives. Raises `ApiError`."""
    if given is None:
        return NOTHING
    try:
        return EventId.parse(given)
    except ValueError:
        message = "`Last-Event-ID` must be the id of an event, as it came"
        raise ApiError("invalid_header", message) from None


def _digest(*parts: str | bytes) -> str:
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha256(b"\0".join(encoded)).hexdigest()
