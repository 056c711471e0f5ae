"""A worker that says exactly what a test tells it to, over the real bus."""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections.abc import Awaitable
from typing import TypeVar

from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from contract.asked import MediaKind
from contract.bus.cancellations import Cancellations
from contract.bus.claims import Attempt, Ended
from contract.bus.client import RedisClient, connect, connect_reader
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.replies import publish
from contract.bus.tickets import RETRYABLE
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
    TokenLogprob,
)
from contract.process.tasks import cancel_and_wait
from contract.wire import encode_frame
from tests.contract.queue_workers import count_waiting
from tests.waiting import BUSY, until

Result = TypeVar("Result")


class ScriptedWorker:
    """Beats, claims and begins by itself; events are published one frame per call."""

    def __init__(self, redis_url: str, model: str, name: str = "w1") -> None:
        self.redis_url = redis_url
        self.model = model
        self.name = name
        self.state = State.READY
        self.stage = ""
        self.db = connect(redis_url)
        self.queue = JobQueue(self.db, model)
        self._cancellations = Cancellations(self.db, model)
        self.attempts: asyncio.Queue[Attempt] = asyncio.Queue()
        self.cancelled: dict[str, float] = {}
        self.slots = 64
        #: Whether it takes jobs; it is ready all the same.
        self.takes = True
        self._rests = asyncio.Event()
        #: The media that its model takes.
        self.takes_media: tuple[MediaKind, ...] = ()
        #: Whether it gives signs of life.
        self.beats = True
        self._seqs: dict[str, int] = {}
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> ScriptedWorker:
        await self.queue.open()
        await self._beat_once()
        await self._cancellations.open()
        self._tasks = [
            asyncio.create_task(loop) for loop in (self._beat(), self._claim(), self._listen())
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        claiming = self._tasks[1]
        await asyncio.wait([claiming], timeout=30)
        was_cut = not claiming.done()
        await cancel_and_wait(self._tasks)
        with contextlib.suppress(RedisError, OSError):
            await self.leave()
        await self.db.aclose()
        assert not was_cut, "its last claim did not end"
        claiming.result()

    async def leave(self) -> None:
        """Be gone, as a worker that stopped."""
        await Heartbeats(self.db, self.model).leave(self.name)

    async def take_none(self) -> None:
        """Claim nothing any more, until `takes` is set; return once no claim is under way."""
        self._rests.clear()
        self.takes = False
        await asyncio.wait_for(self._rests.wait(), 30)

    async def next(self) -> Attempt:
        """The next job, begun; its client has not been told."""
        return await asyncio.wait_for(self.attempts.get(), 30)

    async def start(self) -> Attempt:
        """The next job, begun and announced."""
        attempt = await self.next()
        await self.say(attempt, Started())
        return attempt

    async def say(self, attempt: Attempt, *events: Event, times: int = 1) -> None:
        """Publish events in one frame, numbered on, `times` times."""
        envelopes = [self._envelope(attempt, event) for event in events]
        await self.send(attempt, *envelopes, times=times)

    async def send(self, attempt: Attempt, *envelopes: Envelope, times: int = 1) -> None:
        """Publish envelopes as they are; until Redis answers, as a worker does."""
        frames = [(attempt.reply, encode_frame(list(envelopes)))]
        for _ in range(times):
            await until(lambda: self._published(frames))

    async def _published(self, frames: list[tuple[str, bytes]]) -> bool:
        try:
            await publish(self.db, frames)
        except LostConnection:
            return False
        return True

    async def delta(self, attempt: Attempt, *texts: str) -> None:
        await self.say(attempt, *(delta(text) for text in texts))

    async def done(self, attempt: Attempt, reason: str = "stop") -> None:
        await self.say(attempt, done(attempt, self._seqs.get(attempt.job.id, 0), reason))
        await self.queue.complete(self.name, [Ended(attempt, "done")])

    async def fail(self, attempt: Attempt, *, retryable: bool) -> None:
        await self.say(attempt, Failed(ErrorCode.ENGINE_FAILED, "scripted", retryable))
        state = RETRYABLE if retryable else "failed"
        await self.queue.complete(self.name, [Ended(attempt, state)])

    async def answer(self, *texts: str) -> Attempt:
        """Answer the next job."""
        attempt = await self.start()
        await self.delta(attempt, *texts)
        await self.done(attempt)
        return attempt

    async def answered(self, asking: Awaitable[Result], *events: Event) -> Result:
        """Return the result of a call, once its job was answered so."""
        task = asyncio.ensure_future(asking)
        attempt = await self.next()
        await self.say(attempt, Started(), *events)
        return await task

    async def answered_each(self, asking: Awaitable[Result], *answers: tuple[Event, ...]) -> Result:
        """Return the result of a call, once each of its jobs was answered so."""
        task = asyncio.ensure_future(asking)
        attempts = [await self.start() for _ in answers]
        for attempt, events in zip(attempts, answers, strict=True):
            await self.say(attempt, *events)
        return await task

    async def job_of(self, asking: Awaitable[Result]) -> tuple[Job, Result]:
        """Return the job that a call makes, and the call's result when the answer is `x`."""
        task = asyncio.ensure_future(asking)
        attempt = await self.answer("x")
        return attempt.job, await task

    async def wait_for_cancellation(self, job_id: str, timeout_s: float) -> None:
        """Return once a job's end was announced, which is promised within `timeout_s`."""
        await until(lambda: job_id in self.cancelled, BUSY * timeout_s)

    async def wait_for_waiting(self, count: int) -> None:
        """Return once so many jobs wait unclaimed."""

        async def wait() -> bool:
            return await count_waiting(self.queue) >= count

        await until(wait)

    def _envelope(self, attempt: Attempt, event: Event) -> Envelope:
        job_id = attempt.job.id
        seq = self._seqs.setdefault(job_id, 0)
        if isinstance(event, Delta | Done):
            self._seqs[job_id] += 1
        return Envelope(job_id, attempt.number, seq, event)

    async def _beat_once(self) -> None:
        beat = Heartbeat(
            name=self.name,
            model=self.model,
            engine="mock",
            host="here",
            pid=1,
            state=self.state,
            stage=self.stage,
            slots=self.slots,
            max_model_len=4096,
            running=len(self._seqs),
            takes=self.takes_media,
        )
        heartbeats = Heartbeats(self.db, self.model)
        await heartbeats.beat(self.name, beat, ready=self.state is State.READY)

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                if self.beats:
                    await self._beat_once()
            await asyncio.sleep(0.1)

    async def _claim(self) -> None:
        async with contextlib.aclosing(connect_reader(self.redis_url)) as reader:
            while not self._stopping:
                if not self.takes:
                    self._rests.set()
                    await asyncio.sleep(0.02)
                    continue
                try:
                    claims = await self.queue.claim(reader, self.name, self.slots, 100)
                    for attempt in await self.queue.begin(self.name, claims):
                        assert isinstance(attempt, Attempt)
                        self.attempts.put_nowait(attempt)
                except (RedisError, OSError):
                    await asyncio.sleep(0.05)

    async def _listen(self) -> None:
        while True:
            reader = connect_reader(self.redis_url)
            try:
                async for job_id in self._cancellations.listen(reader):
                    self.cancelled[job_id] = time.monotonic()
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
            finally:
                await reader.aclose()


def delta(text: str, index: int = 0, logprobs: tuple[TokenLogprob, ...] | None = None) -> Delta:
    """Text of one token."""
    return Delta(text, array("I", [7]).tobytes(), index, logprobs)


def done(attempt: Attempt, tokens: int, reason: str = "stop") -> Done:
    reasons = (reason,) * attempt.job.sampling.n
    return Done(reasons, prompt_tokens=5, completion_tokens=tokens, cached_tokens=2)  # type: ignore[arg-type]


async def blocked_clients(db: RedisClient) -> int:
    """How many connections read from streams."""
    clients = await db.client_list()
    return sum(each["cmd"] == "xread" for each in clients)
