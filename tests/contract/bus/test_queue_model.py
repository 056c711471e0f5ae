"""The queue against a model of it: any order of claims, lapses, takeovers and late words, on the
real server, keeps every job until it ends, and lets only its last attempt end it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, BeginRefused, Claim, Ended
from contract.bus.client import connect
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import MAX_ATTEMPTS, JobQueue
from contract.bus.tickets import WasCancelled
from tests.contract.queue_workers import beat, claim, count_waiting, end_lease, put, serve

WORKERS: Final = ("w0", "w1", "w2")
JOBS: Final = ("a", "b", "c")
RELEASED: Final = "released"
#: As no supervisor says what ended these workers (`scripts/blame.lua`).
_OUTSIDE: Final = 1
_CONVINCED: Final = 4
T = TypeVar("T")


@dataclass
class ModelJob:
    """The invariants of a job."""

    holder: str | None = None
    owner: tuple[str, int] | None = None
    number: int = 0
    begun: int = 0
    forgiven: int = 0
    #: The worker that it had to itself, and what those that it lost so weigh.
    alone: str = ""
    evidence: int = 0
    is_poison: bool = False
    cancelled: bool = False
    ended: str | None = None


workers = st.sampled_from(WORKERS)
jobs = st.sampled_from(JOBS)
#: How far to look back: mostly the last, at times one that should have been forgotten long ago.
ago = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
ends = st.sampled_from(["done", "failed"])


class QueueMachine(RuleBasedStateMachine):
    """Workers never forget what they claimed and began, so every late word is tried, too."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.db = connect(url, connections=1)
        self.queue = JobQueue(self.db, f"m-{uuid.uuid4().hex[:8]}")
        self.cancellations = Cancellations(self.db, self.queue.model)
        self.jobs: dict[str, ModelJob] = {}
        self.leased: set[str] = set()
        self.lapsed: set[str] = set()
        #: A worker has beaten whose lease had lapsed: the clock may have leapt.
        self.may_have_leapt = False
        self.claims: list[tuple[str, Claim]] = []
        self.attempts: list[tuple[str, Attempt]] = []

    @property
    def _leap_key(self) -> str:
        return f"{self.queue.leases_key}:lapsed"

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.do(self.queue.open())
        self.do(serve(self.queue))
        self.put("a")

    @rule(job_id=jobs)
    def put(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        is_cancelled = job is not None and job.cancelled and job.ended in (None, "cancelled")
        if is_cancelled:
            with pytest.raises(WasCancelled):
                self.do(put(self.queue, job_id))
            return
        assert self.do(put(self.queue, job_id)).known == (job_id in self.jobs)
        self.jobs.setdefault(job_id, ModelJob())

    @precondition(lambda self: self.waiting())
    @rule(name=workers, count=st.integers(1, 2))
    def claim(self, name: str, count: int) -> None:
        waiting = self.waiting()
        claims = self.do(claim(self.queue, self.db, name, count))
        assert [each.job_id for each in claims] == waiting[:count]
        self.hold(name, claims)

    @rule(name=workers, count=st.integers(1, 2))
    def take_over(self, name: str, count: int) -> None:
        keep = {None, name, *self.leased}
        lost = {job_id for job_id, job in self.jobs.items() if job.holder not in keep}
        if self.may_have_leapt or name in self.lapsed:
            lost.clear()
        claims = self.do(self.queue.take_over(name, count))
        assert len(claims) == min(count, len(lost))
        assert {each.job_id for each in claims} <= lost
        self.hold(name, claims)

    @rule(name=workers)
    def look_for_missed(self, name: str) -> None:
        held = [job_id for job_id, job in self.jobs.items() if job.holder == name]
        claims = self.do(self.queue.claimed_before(self.db, name, 100))
        assert {each.job_id for each in claims} == set(held)
        self.claims += [(name, each) for each in claims]

    @precondition(lambda self: self.claims)
    @rule(ago=ago, alone=st.booleans())
    def begin(self, ago: int, alone: bool) -> None:
        name, chosen = self.claims[-1 - ago % len(self.claims)]
        begun = self.do(self.queue.begin(name, [chosen], alone=alone))
        job = self.jobs[chosen.job_id]
        if job.holder != name:
            assert begun == []
        elif job.cancelled:
            assert begun == []
            job.holder, job.ended = None, "cancelled"
        else:
            self.check_begun(name, job, begun)
            job.alone = name if alone else ""

    def check_begun(self, name: str, job: ModelJob, begun: list[Attempt | BeginRefused]) -> None:
        (each,) = begun
        if job.alone and job.alone != name:
            job.evidence += _OUTSIDE
            is_convincing = job.evidence >= _CONVINCED
            job.is_poison |= is_convincing and job.begun - job.forgiven >= MAX_ATTEMPTS
        is_poison = job.is_poison
        assert isinstance(each, BeginRefused) == is_poison
        attempt = each.attempt if isinstance(each, BeginRefused) else each
        assert attempt.number > job.number
        assert attempt.ordinal == job.begun + 1
        job.number, job.owner = attempt.number, (name, attempt.number)
        job.begun += 1
        self.attempts.append((name, attempt))

    @precondition(lambda self: self.attempts)
    @rule(ago=ago, state=ends)
    def complete(self, ago: int, state: str) -> None:
        name, attempt = self.attempts[-1 - ago % len(self.attempts)]
        job = self.jobs[attempt.job.id]
        is_owner = job.owner == (name, attempt.number)
        assert self.do(self.queue.complete(name, [Ended(attempt, state)])) == (not is_owner)
        if is_owner and not job.ended:
            job.ended, job.holder = state, None

    @precondition(lambda self: self.attempts)
    @rule(ago=ago)
    def release(self, ago: int) -> None:
        name, attempt = self.attempts[-1 - ago % len(self.attempts)]
        job = self.jobs[attempt.job.id]
        self.do(self.queue.release(name, [attempt]))
        if job.owner == (name, attempt.number) and job.cancelled and not job.ended:
            job.ended, job.holder = "cancelled", None
        elif job.owner == (name, attempt.number):
            job.owner = None
            job.forgiven += 1
            job.alone = ""
            job.holder = None if job.ended else RELEASED

    @precondition(lambda self: self.attempts)
    @rule(ago=ago)
    def yield_place(self, ago: int) -> None:
        name, attempt = self.attempts[-1 - ago % len(self.attempts)]
        job = self.jobs[attempt.job.id]
        is_open = not job.ended and not job.cancelled
        is_owner = job.owner == (name, attempt.number)
        assert self.do(self.queue.yield_place(name, attempt)) == (is_owner and is_open)
        if is_owner and is_open:
            job.owner = job.holder = None
            job.forgiven += 1
            job.alone = ""

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        is_open = job is not None and not job.ended
        assert self.do(self.cancellations.announce(job_id)) == is_open
        if job is not None and is_open:
            job.cancelled = True
            if job.owner is None or job.owner[0] not in self.leased:
                job.ended, job.holder = "cancelled", None

    @rule(name=workers)
    def beat(self, name: str) -> None:
        assert self.do(beat(self.db, self.queue.model, name)) == (name not in self.leased)
        self.leased.add(name)
        if name in self.lapsed:
            self.lapsed.discard(name)
            self.may_have_leapt = True
            # Here, time passes only where it is told to.
            assert self.do(self.db.persist(self._leap_key))

    @precondition(lambda self: self.leased)
    @rule(name=workers)
    def lapse(self, name: str) -> None:
        self.do(end_lease(self.db, self.queue.model, name))
        self.leased.discard(name)
        self.lapsed.add(name)

    @rule()
    def all_have_had_time_to_beat(self) -> None:
        self.do(self.db.delete(self._leap_key))
        self.may_have_leapt = False

    def leave(self, name: str) -> None:
        self.do(Heartbeats(self.db, self.queue.model).leave(name))
        self.leased.discard(name)
        self.lapsed.discard(name)

    @precondition(lambda self: any(job.holder for job in self.jobs.values()))
    @rule(heir=workers)
    def lose_all_others(self, heir: str) -> None:
        """Everything moves to one worker, which begins it all: a whole life of jobs in one step."""
        for name in WORKERS:
            self.lapse(name)
        self.leave(heir)
        self.all_have_had_time_to_beat()
        self.take_over(heir, 100)
        held = [job_id for job_id, job in self.jobs.items() if job.holder == heir]
        for _ in held:
            self.begin(len(held) - 1, alone=True)

    @invariant()
    def redis_knows_what_the_model_knows(self) -> None:
        entries, pending, *states = self.do(self._look())
        assert len(entries) == sum(not job.ended for job in self.jobs.values())
        held_by = sorted(each["consumer"].decode() for each in pending)
        assert held_by == sorted(job.holder for job in self.jobs.values() if job.holder)
        for job, state in zip(self.jobs.values(), states, strict=True):
            assert state.decode() == job.ended if job.ended else state in (b"queued", b"running")

    async def _look(self) -> list[Any]:
        pipe = self.db.pipeline(transaction=False)
        pipe.xrange(self.queue.key)
        pipe.xpending_range(self.queue.key, "workers", "-", "+", 100)
        for job_id in self.jobs:
            pipe.hget(self.queue.job_key(job_id), "state")
        return await pipe.execute()

    def teardown(self) -> None:
        try:
            for name in WORKERS:
                self.lapse(name)
            self.all_have_had_time_to_beat()
            self.do(self._end_all_that_is_open("last"))
        finally:
            self.do(self.db.aclose())
            self.runner.close()

    async def _end_all_that_is_open(self, worker: str) -> None:
        """Whatever happened before: one good worker can."""
        held = await self.queue.take_over(worker, 100)
        if await count_waiting(self.queue):
            held += await claim(self.queue, self.db, worker, 100)
        begun = await self.queue.begin(worker, held)
        attempts = [each.attempt if isinstance(each, BeginRefused) else each for each in begun]
        assert await self.queue.complete(worker, [Ended(each, "done") for each in attempts]) == 0
        assert await self.db.xlen(self.queue.key) == 0
        assert (await self.db.xpending(self.queue.key, "workers"))["pending"] == 0

    def waiting(self) -> list[str]:
        return [j for j, job in self.jobs.items() if job.holder is None and not job.ended]

    def hold(self, name: str, claims: list[Claim]) -> None:
        self.claims += [(name, each) for each in claims]
        for each in claims:
            self.jobs[each.job_id].holder = name


def test_no_order_of_events_loses_a_job_or_ends_it_twice(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(redis_url),
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
