"""A background job as it is kept: what was asked, how it ended, and all that was answered."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

import msgspec

from contract.messages import Job
from contract.wire import decode_job


class JobState(str, Enum):
    """`open`: it waits or runs. The others are ends."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AboutJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts of a job that do not change: `api` names the form that its answer has, `asked`
    is for that API alone; `timeout_s` is how long it may take from its creation."""

    model: str
    request_id: str
    timeout_s: float
    api: str = "native"
    asked: bytes = b""


class Webhook(msgspec.Struct, frozen=True):
    """Where the end of a job is told, and the secret that the message is signed with."""

    url: str
    secret: str


class JobError(msgspec.Struct, frozen=True):
    """Why a job ended without an answer; `code` is a code of `gateway/http/errors.py`."""

    code: str
    message: str
    retryable: bool = False
    field: str | None = None


class JobOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a job ended. Times are Unix ms by Redis' clock; `attempts` counts what workers began."""

    attempts: int = 0
    started_ms: int = 0
    first_token_ms: int = 0
    error: JobError | None = None


class BackgroundJob(NamedTuple):
    """One record. `job` is there while it is open; `answer`, a frame of its events, once it is
    done. Times are Unix ms by Redis' clock. `queued_as` is its id in its model's queue."""

    id: str
    key_id: str
    state: JobState
    about: AboutJob
    created_ms: int
    keeper: str = ""
    queued_as: str = ""
    job: Job | None = None
    ended_ms: int = 0
    expires_ms: int = 0
    outcome: JobOutcome = JobOutcome()
    answer: bytes = b""
    webhook: Webhook | None = None
    #: How often the webhook was tried, and what came of it last.
    webhook_tries: int = 0
    webhook_word: str = ""


_decode_about = msgspec.msgpack.Decoder(AboutJob).decode
_decode_outcome = msgspec.msgpack.Decoder(JobOutcome).decode
_decode_webhook = msgspec.msgpack.Decoder(Webhook).decode
#: The fields of a record in Redis; the last two are long.
FIELDS = (
    "key",
    "state",
    "about",
    "created",
    "keeper",
    "queued_as",
    "ended",
    "expires",
    "outcome",
    "webhook",
    "webhook_tries",
    "webhook_word",
    "job",
    "answer",
)
SHORT_FIELDS = FIELDS[:-2]


def read_record(job_id: str, fields: Mapping[str, bytes | None]) -> BackgroundJob | None:
    """Return the job of a record, None if there is none. Raises `UNREADABLE`."""
    state, about = fields.get("state"), fields.get("about")
    if state is None or about is None:
        return None
    given = {name: value for name, value in fields.items() if value}
    job, outcome, webhook = (given.get(name) for name in ("job", "outcome", "webhook"))
    return BackgroundJob(
        id=job_id,
        key_id=given.get("key", b"").decode(),
        state=JobState(state.decode()),
        about=_decode_about(about),
        created_ms=int(given.get("created", 0)),
        keeper=given.get("keeper", b"").decode(),
        queued_as=given.get("queued_as", b"").decode(),
        job=decode_job(job) if job else None,
        ended_ms=int(given.get("ended", 0)),
        expires_ms=int(given.get("expires", 0)),
        outcome=_decode_outcome(outcome) if outcome else JobOutcome(),
        answer=given.get("answer", b""),
        webhook=_decode_webhook(webhook) if webhook else None,
        webhook_tries=int(given.get("webhook_tries", 0)),
        webhook_word=given.get("webhook_word", b"").decode(),
    )
