"""A worker in the test's own loop, with an engine whose every move the test can see: the races
that processes meet once in a thousand runs, each brought about on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.asked import Guided
from contract.bus import heartbeat_sender, heartbeats
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, BeginRefused, Claim
from contract.bus.heartbeats import Heartbeats
from contract.bus.replies import publish, scan_frames
from contract.messages import (
    Delta,
    Done,
    Envelope,
    ErrorCode,
    Event,
    Failed,
    Heartbeat,
    Job,
    Started,
    State,
)
from contract.wire import encode_frame
from tests.contract.queue_workers import beat, end_lease, put_one
from tests.waiting import BUSY, until
from tests.workers.client import Client
from tests.workers.read_answer import ReadAnswer, assert_counted, counted
from tests.workers.worker_processes import a_spec
from workers import frames
from workers.answers import continuation
from workers.answers.continuation import Published, published_before
from workers.claims import inheritance
from workers.claims import job_consumer as consumer
from workers.engine import EngineReport, JobRejected
from workers.engine_state import EngineDied
from workers.engines.mock import MockEngine
from workers.outbox import Outbox
from workers.worker import Worker


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_CLAIM_BLOCK_MS", 50)
    monkeypatch.setattr(consumer, "_TAKE_OVER_EVERY_S", 0.1)


#: Those before it is ready.
FIRST_CANARIES = ("canary-0", "canary-1")


class ByHand:
    """An engine that does nothing by itself, but for the answer that makes it ready."""

    continues = True

    def __init__(self, slots: int = 8) -> None:
        self.slots = slots
        self.submitted: list[Job] = []
        self.cancelled: list[str] = []
        self.stopped = False
        #: Submitting waits for it, as for a long prompt.
        self.may_submit = asyncio.Event()
        self.may_submit.set()
        self.reject: JobRejected | None = None

    async def start(self, outbox: Outbox) -> EngineReport:
        self.outbox = outbox
        return EngineReport("1", self.slots, 1000)

    async def submit(self, job: Job) -> None:
        if job.id in FIRST_CANARIES:
            self.outbox.hear()
            return
        self.submitted.append(job)
        await self.may_submit.wait()
        if self.reject is not None:
            raise self.reject

    async def cancel(self, job_id: str) -> None:
        if job_id not in FIRST_CANARIES:
            self.cancelled.append(job_id)

    async def stop(self) -> None:
        self.stopped = True

    def say(self, job_id: str, first: int, last: int) -> None:
        for token in range(first, last):
            self.outbox.delta(job_id, f"{token} ", [token])


@asynccontextmanager
async def working(
    client: Client,
    engine: ByHand | MockEngine | None = None,
    name: str = "w",
    slots: int = 8,
    watchdog: dict[str, float] | None = None,
) -> AsyncIterator[Worker]:
    """A worker that serves; stopped without patience at the end."""
    spec = a_spec(client, name, slots=slots, drain_s=0.0, watchdog=watchdog or {})
    worker = Worker(spec, engine or MockEngine(spec))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


class Ghost:
    """A worker that does what a crashed one did before it crashed."""

    def __init__(self, client: Client, name: str = "ghost") -> None:
        self.client = client
        self.name = name

    async def begin(self, *jobs: Job) -> list[Attempt]:
        queue = self.client.queue
        await beat(self.client.db, queue.model, self.name)
        await queue.open()
        for job in jobs:
            await self.client.put(job)
        claims = await queue.claim(self.client.db, self.name, len(jobs), 1000)
        begun = await queue.begin(self.name, claims)
        return [each for each in begun if isinstance(each, Attempt)]

    async def publish(self, attempt: Attempt, *events: Event) -> None:
        envelopes = [Envelope(attempt.job.id, attempt.number, 0, Started())]
        for seq, event in enumerate(events):
            envelopes.append(Envelope(attempt.job.id, attempt.number, seq, event))
        await publish(self.client.db, [(attempt.reply, encode_frame(envelopes))])

    async def vanish(self) -> None:
        await end_lease(self.client.db, self.client.queue.model, self.name)


def deltas(first: int, last: int) -> list[Delta]:
    return [Delta(f"{k} ", k.to_bytes(4, "little")) for k in range(first, last)]


async def answer_of(client: Client, job_id: str) -> ReadAnswer:
    await client.ended([job_id])
    return client.answers[job_id]


async def test_an_end_that_was_published_but_not_completed_is_not_said_again(
    client: Client,
) -> None:
    ghost = Ghost(client)
    (attempt,) = await ghost.begin(client.job(5))
    await ghost.publish(attempt, *deltas(0, 5), Done(("length",), 1, 5))
    await ghost.vanish()
    engine = ByHand()
    async with working(client, engine):
        await until(client.is_settled)
        assert await client.state_of(attempt.job.id) == "done"
    assert engine.submitted == []
    assert_counted(client.answers[attempt.job.id], 5)
    assert [envelope.event for envelope in client.answers[attempt.job.id].of_attempt(2)] == [
        Started()
    ]


async def test_an_answer_of_which_only_the_end_was_lost_gets_its_end(client: Client) -> None:
    ghost = Ghost(client)
    (attempt,) = await ghost.begin(client.job(5))
    await ghost.publish(attempt, *deltas(0, 5))
    await ghost.vanish()
    async with working(client):
        assert_counted(await answer_of(client, attempt.job.id), 5)


async def test_a_refusal_is_not_said_after_an_end_that_was_published(client: Client) -> None:
    ghost = Ghost(client)
    (attempt,) = await ghost.begin(client.job(5))
    await ghost.publish(attempt, *deltas(0, 5), Done(("length",), 1, 5))
    await client.db.hset(client.queue.job_key(attempt.job.id), "begun", 9)
    await ghost.vanish()
    async with working(client):
        await until(client.is_settled)
    assert isinstance(client.answers[attempt.job.id].end, Done)
    assert not any(isinstance(envelope.event, Failed) for envelope in client.envelopes)


async def test_a_job_that_nobody_had_time_for_fails_as_expired(client: Client) -> None:
    job = client.job(5)
    client.answers[job.id] = ReadAnswer()
    await put_one(client.queue, job, client.stream.key, client.first, max_waiting=9, deadline_ms=0)
    async with working(client):
        end = (await answer_of(client, job.id)).end
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == (ErrorCode.EXPIRED, True)
    assert await client.is_settled()


async def test_an_answer_taken_over_from_a_published_beginning_goes_on(client: Client) -> None:
    ghost = Ghost(client)
    attempts = await ghost.begin(*(client.job(30) for _ in range(5)))
    for n, attempt in enumerate(attempts):
        await ghost.publish(attempt, *deltas(0, 5 * n))
    await ghost.vanish()
    async with working(client) as worker:
        for attempt in attempts:
            assert_counted(await answer_of(client, attempt.job.id), 30)
        assert worker.consumer.inheritance.taken_over_total == 5


async def test_what_was_published_is_read_only_after_the_fence_is_up(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fences: list[bool] = []

    async def look(db: Redis, reply: str, after: str) -> AsyncIterator[tuple[str, list[Envelope]]]:
        frames = [frame async for frame in scan_frames(db, reply, after)]
        envelopes = [envelope for _, frame in frames for envelope in frame]
        fences.append(any(envelope.attempt > attempt.number for envelope in envelopes))
        for frame in frames:
            yield frame

    async def publish_late(db: Redis, frames: list[tuple[str, bytes]]) -> None:
        await asyncio.sleep(0.1)
        await publish(db, frames)

    monkeypatch.setattr(continuation, "scan_frames", look)
    monkeypatch.setattr(frames, "publish", publish_late)
    ghost = Ghost(client)
    (attempt,) = await ghost.begin(client.job(9))
    await ghost.publish(attempt, *deltas(0, 4))
    await ghost.vanish()
    async with working(client):
        assert_counted(await answer_of(client, attempt.job.id), 9)
    assert fences == [True]


@pytest.mark.parametrize("continues", [True, False])
async def test_an_answer_that_cannot_go_on_from_tokens_starts_again_unseen(
    client: Client, continues: bool
) -> None:
    ghost = Ghost(client)
    guided = {} if not continues else {"guided": Guided("json_object")}
    (attempt,) = await ghost.begin(client.job(9, **guided))
    await ghost.publish(attempt, *deltas(0, 4))
    await ghost.vanish()
    engine = ByHand()
    engine.continues = continues
    async with working(client, engine):
        await client.see(lambda: bool(engine.submitted))
        assert engine.submitted == [attempt.job]
        engine.say(attempt.job.id, 0, 9)
        engine.outbox.done(attempt.job.id, ("length",), 1)
        assert_counted(await answer_of(client, attempt.job.id), 9)


async def test_a_restart_that_says_something_else_fails_and_stops_the_engine(
    client: Client,
) -> None:
    ghost = Ghost(client)
    (attempt,) = await ghost.begin(client.job(9, guided=Guided("json_object")))
    await ghost.publish(attempt, *deltas(0, 4))
    await ghost.vanish()
    engine = ByHand()
    async with working(client, engine):
        await client.see(lambda: bool(engine.submitted))
        engine.say(attempt.job.id, 1, 3)
        end = (await answer_of(client, attempt.job.id)).end
        assert isinstance(end, Failed)
        assert (end.code, end.retryable) == (ErrorCode.ENGINE_LOST, True)
        await client.see(lambda: engine.cancelled == [attempt.job.id])


@pytest.mark.parametrize("sampling", [{"n": 2}, {"logprobs": 1}])
async def test_an_answer_that_can_neither_go_on_nor_start_again_says_so(
    client: Client, sampling: dict[str, int]
) -> None:
    ghost = Ghost(client)
    begun = await ghost.begin(client.job(9, **sampling), client.job(9, **sampling))
    await ghost.publish(begun[0], *deltas(0, 1))
    await ghost.publish(begun[1])
    await ghost.vanish()
    async with working(client):
        lost, fresh = [await answer_of(client, attempt.job.id) for attempt in begun]
    assert isinstance(lost.end, Failed)
    assert lost.end.code == ErrorCode.ENGINE_LOST
    assert isinstance(fresh.end, Done)


async def test_cancelling_stops_the_engines_work_within_two_seconds(client: Client) -> None:
    spec = a_spec(client, "w")
    engine = MockEngine(spec)
    async with working(client, engine):
        job_id = await client.ask(100_000)
        await client.saw_tokens([job_id], 5)
        assert await Cancellations(client.db, client.queue.model).announce(job_id)
        async with asyncio.timeout(2 * BUSY):
            await client.see(lambda: engine._running == {})
            await until(client.is_settled)


async def test_a_job_cancelled_while_its_beginning_is_on_the_way_is_not_run(client: Client) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        begin = worker.queue.begin

        async def cancelled_meanwhile(
            name: str, claims: list[Claim], *, alone: bool
        ) -> list[Attempt | BeginRefused]:
            begun = await begin(name, claims, alone=alone)
            await Cancellations(client.db, client.queue.model).announce(claims[0].job_id)
            await client.see(lambda: claims[0].job_id in worker.consumer._unwanted)
            return begun

        worker.queue.begin = cancelled_meanwhile  # type: ignore[method-assign, assignment]
        job_id = await client.ask(5)
        await until(lambda: _has_state(client, job_id, "cancelled"))
        await until(client.is_settled)
        assert engine.submitted == []
        assert len(worker.outbox) == 0


async def _has_state(client: Client, job_id: str, state: str) -> bool:
    return await client.state_of(job_id) == state


async def test_a_job_cancelled_before_the_worker_listens_is_heard_of_all_the_same(
    client: Client,
) -> None:
    engine = ByHand()
    announced = asyncio.Event()
    spec = a_spec(client, "w", drain_s=0.0)
    worker = Worker(spec, engine)
    listen = worker.cancellations.listen

    async def listen_late(reader: Redis) -> AsyncIterator[str]:
        await announced.wait()
        async for job_id in listen(reader):
            yield job_id

    worker.cancellations.listen = listen_late  # type: ignore[method-assign]
    running = asyncio.create_task(worker.run())
    job_id = await client.ask(5)
    await client.see(lambda: bool(engine.submitted))
    await Cancellations(client.db, client.queue.model).announce(job_id)
    announced.set()
    await client.see(lambda: engine.cancelled == [job_id])
    worker.stop()
    await running


async def test_a_job_cancelled_while_the_engine_takes_it_is_cancelled_there_too(
    client: Client,
) -> None:
    engine = ByHand()
    engine.may_submit.clear()
    async with working(client, engine):
        job_id = await client.ask(5)
        await client.see(lambda: bool(engine.submitted))
        await Cancellations(client.db, client.queue.model).announce(job_id)
        await until(lambda: _has_state(client, job_id, "cancelled"))
        engine.cancelled.clear()
        engine.may_submit.set()
        await client.see(lambda: engine.cancelled == [job_id])


async def test_a_job_cancelled_while_it_is_taken_over_does_not_bring_the_worker_down(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = Ghost(client)
    first, second = await ghost.begin(client.job(20), client.job(20))
    for attempt in (first, second):
        await ghost.publish(attempt, *deltas(0, 3))
    await ghost.vanish()
    async with working(client) as worker:

        async def cancelled_meanwhile(db: Redis, attempts: list[Attempt]) -> dict[str, Published]:
            published = await published_before(db, attempts)
            await worker.consumer.cancel(first.job.id)
            return published

        monkeypatch.setattr(inheritance, "published_before", cancelled_meanwhile)
        assert_counted(await answer_of(client, second.job.id), 20)
        assert await client.state_of(first.job.id) == "cancelled"
        assert not worker.outbox.died.done()


async def test_jobs_are_begun_while_the_engine_takes_others(client: Client) -> None:
    engine = ByHand()
    engine.may_submit.clear()
    async with working(client, engine):
        first = await client.ask(5)
        await client.see(lambda: bool(engine.submitted))
        second = await client.ask(5)
        await until(lambda: _has_state(client, second, "running"))
        assert [job.id for job in engine.submitted] == [first]
        engine.may_submit.set()
        await client.see(lambda: len(engine.submitted) == 2)


async def test_a_job_that_the_engine_rejects_fails_with_its_reason(client: Client) -> None:
    engine = ByHand()
    engine.reject = JobRejected(ErrorCode.PROMPT_TOO_LONG, "9 tokens are too many")
    async with working(client, engine):
        job_id = await client.ask(5)
        end = (await answer_of(client, job_id)).end
    assert end == Failed(ErrorCode.PROMPT_TOO_LONG, "9 tokens are too many")
    assert await client.state_of(job_id) == "failed"


class Watched(MockEngine):
    """Remembers how many jobs it ever had at once."""

    most = 0

    async def submit(self, job: Job) -> None:
        await super().submit(job)
        self.most = max(self.most, len(self._running))


async def test_taking_over_and_claiming_together_keep_to_the_slots(client: Client) -> None:
    ghosts = [Ghost(client, f"ghost-{n}") for n in range(3)]
    ids = []
    for ghost in ghosts:
        for attempt in await ghost.begin(*(client.job(12) for _ in range(4))):
            await ghost.publish(attempt, *deltas(0, 2))
            ids.append(attempt.job.id)
        await ghost.vanish()
    ids += [await client.ask(12) for _ in range(8)]
    engine = Watched(a_spec(client, "w", slots=3))
    async with working(client, engine, slots=3):
        await client.ended(ids)
        await until(client.is_settled)
    assert engine.most == 3
    for job_id in ids:
        assert_counted(client.answers[job_id], 12)


async def test_a_full_worker_goes_on_when_what_it_took_over_turns_out_cancelled(
    client: Client,
) -> None:
    ghost = Ghost(client)
    begun = await ghost.begin(*(client.job(5) for _ in range(4)))
    for attempt in begun:
        await Cancellations(client.db, client.queue.model).announce(attempt.job.id)
    await ghost.vanish()
    async with working(client, slots=1):
        job_id = await client.ask(5)
        assert_counted(await answer_of(client, job_id), 5)
        await until(client.is_settled)


async def test_jobs_of_a_predecessor_beyond_the_slots_wait_their_turn(client: Client) -> None:
    former = Ghost(client, "w")
    ids = [attempt.job.id for attempt in await former.begin(*(client.job(8) for _ in range(7)))]
    engine = Watched(a_spec(client, "w", slots=2))
    async with working(client, engine, slots=2):
        await client.ended(ids)
    assert engine.most == 2


async def test_a_job_that_lost_every_worker_is_begun_alone_until_it_gets_on(client: Client) -> None:
    ghost = Ghost(client)
    begun = await ghost.begin(*(client.job(9) for _ in range(3)))
    for attempt in begun:
        await client.db.hset(client.queue.job_key(attempt.job.id), "begun", 2)
    await ghost.vanish()
    fresh = await client.ask(9)
    engine = ByHand()
    async with working(client, engine):
        for n in range(3):
            await client.see(lambda n=n: len(engine.submitted) == n + 1)
            await asyncio.sleep(0.15)
            assert len(engine.submitted) == n + 1
            engine.say(engine.submitted[n].id, 0, 1)
        await client.see(lambda: len(engine.submitted) == 4)
        assert engine.submitted[3].id == fresh
        job_key = client.queue.job_key(begun[0].job.id)
        assert await client.db.hmget(job_key, "begun", "forgiven") == [b"3", b"2"]


async def test_a_worker_that_lost_jobs_to_others_drops_them_and_keeps_the_rest(
    client: Client,
) -> None:
    engine = ByHand()
    async with working(client, engine) as worker:
        ids = [await client.ask(9) for _ in range(3)]
        await client.see(lambda: len(engine.submitted) == 3)
        await beat(client.db, client.queue.model, "another")
        entries = {each.job.id: each.entry for each in worker.outbox.attempts()}
        await client.db.xclaim(client.queue.key, "workers", "another", 0, [entries[ids[0]]])
        await client.db.hincrby(client.queue.job_key(ids[0]), "attempt", 1)
        await client.db.delete(client.queue.job_key(ids[1]))
        await end_lease(client.db, client.queue.model, "w")
        worker.heartbeat_sender.beat_now()
        await client.see(lambda: sorted(engine.cancelled) == ids[:2])
        assert [attempt.job.id for attempt in worker.outbox.attempts()] == ids[2:]
        assert worker.outbox.fenced_total == 2


async def test_a_job_that_was_taken_away_and_came_back_is_begun_anew(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat_sender, "BEAT_EVERY_S", 0.1)
    # A lapse may be a leap of the clock: for so long, nothing is taken over.
    monkeypatch.setattr(heartbeats, "_ALL_BEAT_WITHIN_MS", 300)
    engine = ByHand()
    async with working(client, engine) as worker:
        job_id = await client.ask(4)
        await client.see(lambda: len(engine.submitted) == 1)
        engine.say(job_id, 0, 2)
        await worker.outbox.flush()
        await end_lease(client.db, client.queue.model, "w")
        assert await client.queue.take_over("thief", 9)
        await client.see(lambda: len(engine.submitted) == 2)
        assert engine.cancelled == [job_id]
        resumed = engine.submitted[1]
        assert (resumed.sent, resumed.emitted) == (counted(0, 2), (0, 1))
        engine.outbox.suppress(job_id, "", 2)
        engine.say(job_id, 2, 4)
        engine.outbox.done(job_id, ("length",), 1)
        assert_counted(await answer_of(client, job_id), 4)
        await until(client.is_settled)


async def test_an_engine_that_dies_ends_the_worker_and_frees_its_jobs_at_once(
    client: Client,
) -> None:
    engine = ByHand()
    worker = Worker(a_spec(client, "w"), engine)
    running = asyncio.create_task(worker.run())
    job_id = await client.ask(9)
    await client.see(lambda: bool(engine.submitted))
    engine.outbox.engine_died(RuntimeError("no more"))
    with pytest.raises(EngineDied, match="no more"):
        await asyncio.wait_for(running, 30)
    assert engine.stopped
    assert await Heartbeats(client.db, client.queue.model).names() == set()
    async with working(client, name="heir"):
        assert_counted(await answer_of(client, job_id), 9)


async def test_an_engine_that_dies_while_its_worker_drains_is_told_of_and_gives_nothing_back(
    client: Client,
) -> None:
    """A job that is given back is not to blame for the engine's death."""
    engine = ByHand()
    worker = Worker(a_spec(client, "w", drain_s=30), engine)
    running = asyncio.create_task(worker.run())
    job_id = await client.ask(9)
    await client.see(lambda: bool(engine.submitted))
    worker.retire()
    await until(lambda: _is(worker, State.STOPPING))
    engine.outbox.engine_died(RuntimeError("no more"))
    with pytest.raises(EngineDied, match="no more"):
        await asyncio.wait_for(running, 30)
    assert job_id in worker.outbox


async def test_an_engine_that_cannot_start_ends_the_worker_and_leaves_nothing(
    client: Client,
) -> None:
    class Broken(ByHand):
        async def start(self, outbox: Outbox) -> EngineReport:
            raise RuntimeError("no such model")

    engine = Broken()
    with pytest.raises(RuntimeError, match="no such model"):
        await asyncio.wait_for(Worker(a_spec(client, "w"), engine).run(), 30)
    assert engine.stopped
    assert await Heartbeats(client.db, client.queue.model).names() == set()


async def test_an_entry_that_cannot_be_read_does_not_stop_the_worker(client: Client) -> None:
    await client.queue.open()
    await client.db.xadd(client.queue.key, {"job": b"\xff"})
    job_id = await client.ask(3)
    async with working(client):
        assert_counted(await answer_of(client, job_id), 3)
        await until(client.is_settled)
    assert await client.db.xlen(client.queue.dead_letters.key) == 1


async def test_a_worker_survives_that_everything_in_redis_was_flushed(own_client: Client) -> None:
    engine = ByHand()
    async with working(own_client, engine) as worker:
        gateway, audience = own_client.stream.key, worker.audience
        await until(lambda: gateway in audience._known)
        lost = await own_client.ask(9)
        await own_client.see(lambda: len(engine.submitted) == 1)
        own_client.stop_beating()
        await own_client.db.flushall()
        worker.heartbeat_sender.beat_now()
        # It misses the gateway, which will have put a job before it beats again.
        await until(lambda: gateway in audience._departed)
        await own_client.see(lambda: engine.cancelled == [lost])
        await own_client.stream.open()
        job_id = await own_client.ask(2)
        await own_client.see(lambda: len(engine.submitted) == 2)
        assert engine.submitted[1].id == job_id
        assert len(worker.outbox) == 1


async def test_a_worker_that_waits_for_jobs_leaves_at_once(
    own_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "_CLAIM_BLOCK_MS", 60_000)
    monkeypatch.setattr(consumer, "_TAKE_OVER_EVERY_S", 60.0)
    async with working(own_client) as worker:
        await own_client.ended([await own_client.ask(3)])
        await until(lambda: _someone_waits_for_jobs(own_client))
        worker.stop()
        await until(lambda: worker.state is State.STOPPING, timeout_s=30)


async def _someone_waits_for_jobs(client: Client) -> bool:
    return any(each["cmd"] == "blpop" for each in await client.db.client_list())


async def test_the_heartbeat_says_how_it_is(client: Client) -> None:
    async with working(client, slots=5) as worker:
        ids = [await client.ask(3) for _ in range(2)]
        await client.ended(ids)
        running = await client.ask(100_000)
        await client.saw_tokens([running], 1)
        beat_seen: Heartbeat | None = None
        # Three tokens each of two answers, and those of the one that runs.
        while beat_seen is None or beat_seen.running != 1 or beat_seen.generated_tokens_total <= 6:
            worker.heartbeat_sender.beat_now()
            await asyncio.sleep(0.02)
            (body,) = await Heartbeats(client.db, client.queue.model).alive()
            beat_seen = msgspec.msgpack.decode(body, type=Heartbeat)
        assert (beat_seen.slots, beat_seen.state.value, beat_seen.engine) == (5, "ready", "mock")
        assert beat_seen.jobs_total == 2
        assert beat_seen.kv_cache_usage == 0.2


class DeadInItsSleep(ByHand):
    """Its own process dies, so that a wait for that never ends."""

    def __init__(self, *, dies: str) -> None:
        super().__init__()
        self.dies = dies
        self.steps: list[str] = []

    async def sleep(self) -> None:
        await self._step("asleep")

    async def wake(self) -> None:
        await self._step("awake")

    async def _step(self, step: str) -> None:
        self.steps.append(step)
        if step == self.dies:
            self.outbox.engine_died(RuntimeError("the core is gone"))
            await asyncio.Event().wait()


@pytest.mark.parametrize("dies", ["asleep", "awake"])
async def test_an_engine_that_dies_on_its_way_to_sleep_or_back_ends_the_worker(
    client: Client, dies: str
) -> None:
    engine = DeadInItsSleep(dies=dies)
    worker = Worker(a_spec(client, "w"), engine)
    running = asyncio.create_task(worker.run())
    await until(lambda: _is(worker, State.READY))
    worker.sleep()
    if dies == "awake":
        await until(lambda: _is(worker, State.SLEEPING))
        worker.wake()
    with pytest.raises(EngineDied, match="the core is gone"):
        async with asyncio.timeout(10):
            await running
    assert engine.steps[-1] == dies
    assert engine.stopped


async def _is(worker: Worker, state: State) -> bool:
    return worker.state is state


class LongAsleep(ByHand):
    """Falls asleep when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.falling, self.may_fall = asyncio.Event(), asyncio.Event()

    async def sleep(self) -> None:
        self.falling.set()
        await self.may_fall.wait()

    async def wake(self) -> None:
        raise AssertionError("it was told to leave")


async def test_who_was_told_to_leave_does_not_hear_that_it_should_sleep(client: Client) -> None:
    engine = LongAsleep()
    worker = Worker(a_spec(client, "w"), engine)
    running = asyncio.create_task(worker.run())
    await until(lambda: _is(worker, State.READY))
    worker.sleep()
    await engine.falling.wait()
    worker.stop()
    worker.sleep()
    engine.may_fall.set()
    async with asyncio.timeout(10):
        await running
    assert engine.stopped


async def test_who_leaves_gives_back_only_what_goes_on_elsewhere_as_it_would_here(
    client: Client,
) -> None:
    engine = ByHand()
    engine.continues = False
    worker = Worker(a_spec(client, "w", drain_s=0.1), engine)
    running = asyncio.create_task(worker.run())
    by_chance = await client.ask(9, temperature=0.7)
    greedy = await client.ask(9, temperature=0.0)
    untold = await client.ask(9, temperature=0.7)
    await client.see(lambda: len(engine.submitted) == 3)
    for job_id in (by_chance, greedy):
        engine.say(job_id, 0, 2)
    await client.saw_tokens([by_chance, greedy], 2)
    worker.retire()
    await client.see(lambda: sorted(engine.cancelled) == sorted([greedy, untold]))
    assert [attempt.job.id for attempt in worker.outbox.attempts()] == [by_chance]
    engine.say(by_chance, 2, 9)
    engine.outbox.done(by_chance, ("length",), 1)
    await running
    assert_counted(await answer_of(client, by_chance), 9)
    given_back = await client.queue.take_over("another", 9)
    assert {claim.job_id for claim in given_back} == {greedy, untold}


async def test_what_a_sleeper_could_not_give_back_it_takes_up_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DeadInItsSleep(dies="never")
    worker = Worker(a_spec(client, "w", drain_s=0.0), engine)
    running = asyncio.create_task(worker.run())
    job_id = await client.ask(4)
    await client.see(lambda: len(engine.submitted) == 1)

    async def release(*_: object) -> None:
        raise RedisError("away")

    monkeypatch.setattr(worker.queue, "release", release)
    worker.sleep()
    await until(lambda: _is(worker, State.SLEEPING))
    assert engine.cancelled == [job_id]
    worker.wake()
    await client.see(lambda: len(engine.submitted) == 2)
    assert engine.submitted[1].id == job_id
    monkeypatch.undo()
    worker.stop()
    await running
