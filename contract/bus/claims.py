"""What a worker has of the jobs in a queue: claims, the attempts that it begins, their records."""

from __future__ import annotations

from typing import NamedTuple

from contract.messages import Job


class Claim(NamedTuple):
    """A queue entry that a worker holds, not begun yet. `job` is None if it could not be read."""

    entry: str
    job: Job | None
    job_id: str


class Attempt(NamedTuple):
    """A begun job. `number` fences: of two attempts at one job, only the higher counts, and no
    number is ever given twice. `ordinal` counts the attempts at this job from 1, as far as Redis
    knows: one that lost its last writes counts again what it does not know of."""

    job: Job
    entry: str
    number: int
    reply: str
    first: str
    left_ms: int = 0
    ordinal: int = 1


class Record(NamedTuple):
    """What is held against a job: workers that it `lost`, be it to blame or not, since it last got
    on with one to itself; and how often it did (`acquitted`)."""

    lost: int
    acquitted: int


class BeginRefused(NamedTuple):
    """A job that will not be run, though its client still waits for a word. Its attempt must be
    completed all the same, after the client was told."""

    attempt: Attempt
    reason: str
