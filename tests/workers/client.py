"""The client's side: puts jobs as a gateway does, and answers what comes back."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable, Iterable

import msgspec
from redis.exceptions import RedisError

from contract.bus.client import connect, connect_reader
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.replies import ReplyStream, read_frames
from contract.bus.tickets import Ticket
from contract.gateway_beat import GatewayBeat
from contract.messages import Envelope, Job, Sampling
from contract.process.tasks import cancel_and_wait
from tests.contract.queue_workers import put_one, serve
from tests.workers.read_answer import ReadAnswer


class Client:
    """One gateway process of one model."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.name = f"g-{uuid.uuid4().hex[:8]}"
        self.db = connect(url)
        self.queue = JobQueue(self.db, model)
        self.stream = ReplyStream(self.db, self.name)
        self.answers: dict[str, ReadAnswer] = {}
        #: All envelopes of all jobs, in the order of the reply stream.
        self.envelopes: list[Envelope] = []
        self.first = ""
        self._ids = (f"j{n}" for n in itertools.count())
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        await serve(self.queue)
        self.first = await self.stream.open()
        await self._beat()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat_on())]

    async def close(self) -> None:
        await cancel_and_wait(self._tasks)
        await self.db.aclose()

    def stop_beating(self) -> None:
        """Its next heartbeat is some time away; it lives and reads on."""
        self._tasks.pop().cancel()

    async def leave(self) -> None:
        """The gateway process is gone; its stream stays."""
        self._tasks.pop().cancel()
        await Heartbeats(self.db, GATEWAYS).leave(self.name)

    async def fall_silent(self) -> None:
        """The lease of the gateway process ends, for an unknown reason."""
        self._tasks.pop().cancel()
        leases = f"ew:{{{GATEWAYS}}}:leases"
        seconds, _ = await self.db.time()
        await self.db.zadd(leases, {self.name: (seconds - 1) * 1000})

    async def ask(self, tokens: int, prompt: str = "count", **sampling: object) -> str:
        """Put a job; answers its id."""
        job = self.job(tokens, prompt, **sampling)
        await self.put(job)
        return job.id

    def job(self, tokens: int, prompt: str = "count", **sampling: object) -> Job:
        chosen = Sampling(max_tokens=tokens, **sampling)  # type: ignore[arg-type]
        return Job(id=next(self._ids), model=self.queue.model, sampling=chosen, prompt=prompt)

    async def ask_to_keep(self, tokens: int) -> str:
        """Put a job whose answer may be asked for again; answers its id."""
        job = msgspec.structs.replace(self.job(tokens), resumable=True)
        await self.put(job)
        return job.id

    async def put(self, job: Job) -> Ticket:
        self.answers.setdefault(job.id, ReadAnswer())
        return await put_one(
            self.queue,
            job,
            self.stream.key,
            self.first,
            max_waiting=10_000,
            deadline_ms=60_000,
        )

    async def ended(self, job_ids: Iterable[str], timeout_s: float = 40) -> None:
        """Return when the answers are complete."""
        answers = [self.answers[job_id] for job_id in job_ids]
        await self.see(lambda: all(answer.end is not None for answer in answers), timeout_s)

    async def saw_tokens(self, job_ids: Iterable[str], count: int) -> None:
        """Return when each of the answers has so many tokens."""
        answers = [self.answers[job_id] for job_id in job_ids]
        await self.see(lambda: all(len(answer.tokens) >= count for answer in answers))

    async def see(self, condition: Callable[[], bool], timeout_s: float = 40) -> None:
        """Return once the condition holds; fail the test after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            if self._tasks[0].done():
                self._tasks[0].result()
            await asyncio.sleep(0.005)

    async def state_of(self, job_id: str) -> str | None:
        """Return the state of a job in Redis: `done`, `failed`, `cancelled`, `running`,
        `queued`."""
        state = await self.db.hget(self.queue.job_key(job_id), "state")
        return state.decode() if state else None

    async def is_settled(self) -> bool:
        """Whether nothing waits in the queue, and no worker holds anything."""
        pending = await self.db.xpending(self.queue.key, "workers")
        return await self.db.xlen(self.queue.key) == 0 and pending["pending"] == 0

    async def _read(self) -> None:
        last = self.first
        reader = connect_reader(self.url)
        try:
            while True:
                try:
                    frames = await read_frames(reader, self.stream.key, last, block_ms=500)
                except RedisError:
                    await asyncio.sleep(0.02)
                    continue
                for entry, envelopes in frames:
                    last = entry
                    self._take([Envelope(*parts) for parts in envelopes])
        finally:
            await reader.aclose()

    def _take(self, envelopes: list[Envelope]) -> None:
        self.envelopes += envelopes
        for envelope in envelopes:
            self.answers[envelope.job_id].take(envelope)

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                await self._beat()
            except RedisError:
                continue

    async def _beat(self) -> None:
        heartbeat = GatewayBeat(self.name, "here", 1)
        await Heartbeats(self.db, GATEWAYS).beat(self.name, heartbeat, ready=True)
