"""The queue of one model: jobs are put, claimed, begun, and completed or released."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from redis.exceptions import ResponseError

from contract.bus.claims import (
    Attempt,
    BeginRefused,
    Claim,
    Ended,
    JobWait,
    Waiting,
    read_job,
)
from contract.bus.client import LuaScript, RedisClient, batches, entries_of, mapping_of, raised
from contract.bus.clock import LEAP_MS
from contract.bus.connection.puts import Put, put_apart, put_gathered
from contract.bus.heartbeats import Heartbeats
from contract.bus.records.dead_letters import DeadLetters
from contract.bus.records.trials import Trials
from contract.bus.registration import registrations
from contract.bus.tickets import Conflict, Ticket, WasCancelled, put_words, read_tickets
from contract.bus.turns import QueuePlace
from contract.endings import LETTER_DAYS, TRACE_DAYS
from contract.limits import Consumption
from contract.media import media_of
from contract.messages import Job
from contract.usage import KEEP_DAYS, NO_USE, JobUse

GROUP: Final = "workers"
#: Holds, without ever having a lease, what was given back.
RELEASED: Final = "released"
#: How long a finished job's state can still be read.
KEEP_MS: Final = 300_000
MAX_ATTEMPTS: Final = 3
#: For so long, no other worker makes room for the same job.
_ROOM_MADE_MS: Final = 1_000

#: The parts of every script that may end a job.
_ENDING: Final = ("apart", "jobs", "turns", "media", "limits", "lives", "usage")
_claim = LuaScript("claim", "apart", "turns", even_if_full=True)
_peek = LuaScript("peek", "apart", "turns")
_begin = LuaScript("begin", *_ENDING, "blame", even_if_full=True)
_complete = LuaScript("complete", *_ENDING, even_if_full=True)
_release = LuaScript("release", *_ENDING, even_if_full=True)
_yield_place = LuaScript("yield_place", *_ENDING, even_if_full=True)
_take_over = LuaScript("take_over", even_if_full=True)


class JobQueue:
    """The jobs of one model; the usage of a day is kept for `usage_days`, a dead letter for
    `letter_days`, and what became of a job for `trace_days`."""

    def __init__(
        self,
        db: RedisClient,
        model: str,
        usage_days: int = KEEP_DAYS,
        letter_days: int = LETTER_DAYS,
        trace_days: int = TRACE_DAYS,
    ) -> None:
        self.db = db
        self.model = model
        self._kept_days = (usage_days, trace_days)
        self.key = f"ew:{{{model}}}:queue"
        self.dead_letters = DeadLetters(db, model, letter_days)
        self.trials = Trials(db, self.key)
        self.job_wait = JobWait(db, model)
        #: With the keys of those that can do a job: workers now, hosts once they have loaded it.
        ready_keys = (Heartbeats(db, model).ready_key, registrations(db, model).ready_key)
        self._put_keys = (self.key, *ready_keys)
        self.leases_key = f"ew:{{{model}}}:leases"

    def job_key(self, job_id: str) -> str:
        return f"ew:{{{self.model}}}:job:{job_id}"

    async def put_all(
        self,
        jobs: Sequence[Job],
        reply: str,
        first: str,
        *,
        max_waiting: int,
        deadline_ms: int,
        consumptions: Sequence[Consumption],
        was_served: bool = False,
        max_bytes: int = 0,
        digest: str = "",
    ) -> list[Ticket | Conflict | WasCancelled]:
        """Put the jobs of one request, all or none, each once: for one with the id of a job that is
        there already, the answer is that job's ticket. Their consumptions have the same limits. If
        the model `was_served` just now, lapsed leases count, as the clock may have leapt.

        Raises `QueueFull`, `QueueTooLarge` (with `max_bytes`), `NotServed`, `LimitReached`,
        `RedisError`, `TimeoutError`.
        """
        bounds = [max_waiting, deadline_ms, KEEP_MS + LEAP_MS, int(was_served), max_bytes]
        words = [len(jobs), reply, first, *bounds, consumptions[0].limits_word()]
        for job, consumption in zip(jobs, consumptions, strict=True):
            words += put_words(job, digest, consumption.tokens)
        put = Put(self._put_keys, [self.job_key(job.id) for job in jobs], GROUP, words)
        # A large one does not hold up those that share a round trip.
        is_small = len(jobs) == 1 and not media_of(jobs[0])
        answer = await (put_gathered if is_small else put_apart)(self.db, put)
        return read_tickets(answer, jobs, digest, reply, first)

    async def open(self) -> None:
        """Make the group, from the first entry on. A group that is there stays as it is."""
        try:
            await self.db.xgroup_create(self.key, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def claim(
        self, reader: RedisClient, worker: str, count: int, block_ms: int
    ) -> list[Claim]:
        """Claim at most `count` jobs, in the order of their turns; if there are none, wait up to
        `block_ms` for some, or until interrupted. Never cancel this call."""
        claims = await self._claim_now(worker, count)
        if not claims and await self.job_wait.wait(reader, worker, block_ms):
            claims = await self._claim_now(worker, count)
        return claims

    async def _claim_now(self, worker: str, count: int) -> list[Claim]:
        try:
            answer = await _claim(self.db, [self.key], [GROUP, worker, count])
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.open()
            return []
        entries = [(entry.decode(), mapping_of(flat), aged) for entry, flat, aged in answer]
        return [self._claim(entry, read_job(f), bool(aged)) for entry, f, aged in entries]

    async def peek(self) -> Waiting | None:
        """Return the job whose turn it is, for a worker that has no room for it. For a while, the
        workers of this model are told of each key that begins to wait (`Cancellations.listen`)."""
        answer = await _peek(self.db, [self.key], [])
        if not answer:
            return None
        entry, place = answer
        return Waiting(entry.decode(), QueuePlace.read(place.decode()))

    async def make_room_for(self, waiting: Waiting) -> bool:
        """Whether this worker is the one to make room for a job: only one does at a time."""
        key = f"{self.key}:room:{waiting.entry}"
        return bool(await self.db.set(key, 1, nx=True, px=_ROOM_MADE_MS))

    async def yield_place(self, worker: str, attempt: Attempt, use: JobUse = NO_USE) -> bool:
        """Let a job that runs, and has used so much, wait again in its place, so that another has
        its turn."""
        keys = [self.key, self.job_key(attempt.job.id)]
        args = [GROUP, attempt.entry, worker, attempt.number, use.words()]
        return bool(await _yield_place(self.db, keys, args))

    async def claimed_before(self, reader: RedisClient, worker: str, count: int) -> list[Claim]:
        """The oldest entries delivered to this worker and not ended: after a reconnect, those
        whose delivery was lost on the way are among them."""
        command = ["XREADGROUP", "GROUP", GROUP, worker, "COUNT", count]
        try:
            answer = await reader.execute_command(*command, "STREAMS", self.key, "0")
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.open()
            return []
        return self._claims(entries_of(answer))

    async def take_over(self, worker: str, count: int) -> list[Claim]:
        """Claim jobs of workers whose lease has ended."""
        keys = [self.key, self.leases_key, f"{self.leases_key}:lapsed"]
        answer = await _take_over(self.db, keys, [GROUP, worker, count])
        return self._claims((entry.decode(), mapping_of(flat)) for entry, flat in answer)

    async def begin(
        self,
        worker: str,
        claims: Sequence[Claim],
        max_attempts: int = MAX_ATTEMPTS,
        *,
        alone: bool = False,
    ) -> list[Attempt | BeginRefused]:
        """Begin an attempt at each claim; what was cancelled or ended meanwhile, or claimed by
        another worker, is left out. `alone`: until `trials.end`, the worker has nothing else to
        do; if it is lost by then, the job may be to blame (`scripts/blame.lua`)."""
        readable = [claim for claim in claims if claim.job is not None]
        for claim in claims:
            if claim.job is None:
                await self.dead_letters.take(self.key, GROUP, claim, "its entry cannot be read")
        head = [GROUP, worker, max_attempts, KEEP_MS, int(alone), *self.dead_letters.bounds]
        calls = [
            (
                [self.key, self.dead_letters.key, *(self.job_key(each.job_id) for each in some)],
                [*head, *(each.entry for each in some)],
            )
            for some in batches(readable)
        ]
        answers = [each for some in await _begin.map(self.db, calls) for each in some]
        begun: list[Attempt | BeginRefused] = []
        for claim, answer in zip(readable, answers, strict=True):
            verdict = answer[0].decode()
            if verdict == "failed":
                await self.dead_letters.take(self.key, GROUP, claim, answer[1].decode())
            if verdict in ("drop", "failed") or claim.job is None:
                continue
            number, ordinal, reply, first, left_ms = answer[1:]
            where = (reply.decode(), first.decode())
            counts = (left_ms, ordinal, claim.aged)
            attempt = Attempt(claim.job, claim.entry, number, *where, *counts)
            begun.append(attempt if verdict == "run" else BeginRefused(attempt, verdict))
        return begun

    async def keep(self, job_ids: Iterable[str], for_ms: int) -> None:
        """Remember for so long that these jobs were put."""
        pipe = self.db.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.pexpire(self.job_key(job_id), for_ms)
        await pipe.execute()

    async def complete(self, worker: str, ended: Iterable[Ended]) -> int:
        """End attempts, if they still own their jobs. Returns how many were fenced off. Safe to
        repeat. One whose record cannot be read stays with the worker, which begins it again and
        so gives it up."""
        head = [GROUP, worker, KEEP_MS, *self._kept_days]
        calls = [
            (
                [self.key, *(self.job_key(attempt.job.id) for attempt, _, _ in some)],
                [*head, *(word for each in some for word in each.words())],
            )
            for some in batches(list(ended))
        ]
        return sum(each == 0 for some in await _complete.map(self.db, calls) for each in some)

    async def release(
        self, worker: str, attempts: Iterable[Attempt], uses: Mapping[str, JobUse] | None = None
    ) -> None:
        """Give attempts back unfinished: another worker may take their jobs over at once. `uses`
        has, by job, what they used."""
        use_of = (uses or {}).get
        await _release.map(
            self.db,
            [
                (
                    [self.key, self.job_key(attempt.job.id)],
                    [
                        *(GROUP, attempt.entry, worker, attempt.number, KEEP_MS),
                        use_of(attempt.job.id, NO_USE).words(),
                    ],
                )
                for attempt in attempts
            ],
        )

    async def hand_back(self, claims: Iterable[Claim]) -> None:
        """Give back claims that were not begun: any worker may take them over."""
        pipe = self.db.pipeline(transaction=False)
        for claim in claims:
            # Said as raw words, redis-py takes the ids of its answer for whole entries.
            pipe.xclaim(self.key, GROUP, RELEASED, 0, [claim.entry], justid=True)
        await pipe.execute()

    async def current_attempts(self, job_ids: Sequence[str]) -> dict[str, int]:
        """By job that is not over, the number of the attempt that runs; 0 while it waits. A job
        whose record cannot be read is over: no worker will begin it."""
        found: dict[str, int] = {}
        # Of ten thousand, the parts let what runs beside them have its turn.
        for some in batches(job_ids):
            commands = [("HMGET", self.job_key(job_id), "state", "attempt") for job_id in some]
            answers = await self.db.direct.run(commands)
            for job_id, answer in zip(some, answers, strict=True):
                if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
                    continue
                ((state, attempt),) = raised([answer])
                if state in (b"queued", b"running"):
                    found[job_id] = int(attempt or 0) if state == b"running" else 0
        return found

    async def held(self, worker: str) -> set[str]:
        """The entries that Redis says a worker holds."""
        found = await self.db.xpending_range(self.key, GROUP, "-", "+", 10_000, worker)
        return {each["message_id"].decode() for each in found}

    async def owners(self, job_ids: Sequence[str]) -> dict[str, int]:
        """The current attempt number of each job that still exists."""
        pipe = self.db.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hget(self.job_key(job_id), "attempt")
        numbers = await pipe.execute()
        return {
            job_id: int(number)
            for job_id, number in zip(job_ids, numbers, strict=True)
            if number is not None
        }

    def _claims(self, entries: Iterable[tuple[str, Mapping[bytes, bytes]]]) -> list[Claim]:
        return [self._claim(entry, read_job(fields)) for entry, fields in entries]

    def _claim(self, entry: str, job: Job | None, aged: bool = False) -> Claim:
        """A job of another model is unreadable: its client reads no answer of these workers."""
        if job is None or job.model != self.model:
            return Claim(entry, None, "")
        return Claim(entry, job, job.id, aged)
