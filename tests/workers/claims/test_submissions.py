"""Jobs on their way to an engine, with nothing else of a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from contract.bus.claims import Attempt
from contract.bus.queue import JobQueue
from contract.messages import Job, Sampling
from workers.claims.submissions import Submissions
from workers.engine import Engine
from workers.outbox import Outbox


class Slow:
    """An engine that takes its time for each job, of which nothing else has any."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.may_submit = asyncio.Event()
        self.may_submit.set()

    async def submit(self, job: Job) -> None:
        time.sleep(0.003)  # noqa: ASYNC251 - as the code of an engine does.
        self.submitted.append(job.id)
        await self.may_submit.wait()

    async def cancel(self, job_id: str) -> None:
        """Nothing is there."""


def submitting(engine: Slow) -> tuple[Submissions, Outbox]:
    db: Any = None
    outbox = Outbox(db, cast(JobQueue, None), "w")
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Any) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return Submissions(cast(JobQueue, None), cast(Engine, engine), outbox, spawn), outbox


def opened(outbox: Outbox, *job_ids: str, number: int = 1) -> list[Attempt]:
    jobs = [Job(job_id, "m", Sampling(), prompt="x") for job_id in job_ids]
    attempts = [Attempt(job, f"1-{job.id}", number, "out", "0") for job in jobs]
    for attempt in attempts:
        outbox.open(attempt)
    return attempts


async def test_tokens_have_their_turn_between_jobs_which_keep_their_order() -> None:
    engine = Slow()
    submissions, outbox = submitting(engine)
    submissions.add(opened(outbox, "a", "b"))
    submissions.add(opened(outbox, "c"))
    turns = 0
    while len(engine.submitted) < 3:
        turns += 1
        await asyncio.sleep(0)
    assert engine.submitted == ["a", "b", "c"]
    assert turns >= 3
    await submissions.wait_until_idle()


async def test_what_has_ended_before_its_turn_is_not_submitted_and_what_came_back_is_once() -> None:
    engine = Slow()
    engine.may_submit.clear()
    submissions, outbox = submitting(engine)
    submissions.add(opened(outbox, "first", "cancelled", "taken"))
    await asyncio.sleep(0)
    assert engine.submitted == ["first"]
    outbox.settle("cancelled", "cancelled")
    outbox.withdraw("taken")
    submissions.add(opened(outbox, "taken", number=2))
    waiting = asyncio.create_task(submissions.wait_until_idle())
    await asyncio.sleep(0)
    assert not waiting.done()
    engine.may_submit.set()
    await waiting
    assert engine.submitted == ["first", "taken"]


class ReadsPrompts(Slow):
    """The same, with the prompts of several jobs read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[list[str]] = []

    def read_ahead(self, jobs: Sequence[Job]) -> None:
        self.read.append([job.id for job in jobs])


async def test_prompts_are_read_in_groups_in_the_order_of_their_jobs() -> None:
    engine = ReadsPrompts()
    submissions, outbox = submitting(engine)
    names = [f"{number}" for number in range(20)]
    attempts = opened(outbox, *names)
    outbox.settle("1", "cancelled")
    submissions.add(attempts)
    await submissions.wait_until_idle()
    names.remove("1")
    assert engine.read == [names[:15], names[15:]]
    assert engine.submitted == names
