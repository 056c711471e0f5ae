"""The engine's events on their way out: one frame per gateway process and flush.

The next flush starts when the last one has returned, with no timer: at rest a token leaves at
once, under load the frames grow. Engines call `delta`, `done`, `failed`, `report_load` and
`engine_died`, from the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from contract.bus.claims import Attempt, Ended
from contract.bus.queue import JobQueue
from contract.bus.tickets import state_after
from contract.messages import (
    Delta,
    Done,
    Envelope,
    ErrorCode,
    Event,
    Failed,
    FinishReason,
    Started,
    Status,
    TokenLogprob,
)
from contract.usage import NO_USE, JobUse
from workers.answers.answer import Answer, Diverged
from workers.answers.continuation import Published
from workers.answers.transcript import Kind, Transcript
from workers.engine_state import EngineDied, EngineLoad
from workers.frames import FramePublisher, frames_of
from workers.usage.attempt_clock import AttemptClock
from workers.usage.engine_time import EngineTime

log = logging.getLogger(__name__)
_RETRY_S = 0.2
T = TypeVar("T")


class Outbox:
    """The open answers of one worker, and the events that wait for the next flush."""

    def __init__(self, db: Redis, queue: JobQueue, worker: str) -> None:
        self.db = db
        self.queue = queue
        self.worker = worker
        self.load = EngineLoad()
        #: For the operator, on how the engine runs, if that was found out after its start.
        self.remark = ""
        self.jobs_total = 0
        #: Tokens count when the engine has read or generated them, not when an answer ends: a
        #: rate is seen while it runs, and what fails or is cancelled counts, too.
        self.prompt_tokens_total = 0
        self.generated_tokens_total = 0
        self.fenced_total = 0
        #: Grows with every word of the engine about any job, also one that is not here any more.
        self.heard = 0
        #: Set whenever an answer has ended, so there is room for another job.
        self.freed = asyncio.Event()
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Jobs that ended though their engine goes on: the rest is of no use.
        self._abandoned: list[str] = []
        self._answers: dict[str, Answer] = {}
        self._envelopes: dict[str, list[Envelope]] = {}
        self._engine_time = EngineTime()
        self._ended: list[Ended] = []
        self._completing: list[Ended] = []
        self._publisher = FramePublisher(db)
        self._some = asyncio.Event()
        self._flushes_begun = 0
        self._flushes_ended = 0
        #: Set when a flush has ended, and when an answer is withdrawn.
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._answers

    def hear(self) -> None:
        """The engine has given a sign of life."""
        self.heard += 1

    def answers(self) -> list[Answer]:
        """The open answers."""
        return list(self._answers.values())

    def attempts(self) -> list[Attempt]:
        """The open attempts."""
        return [answer.attempt for answer in self._answers.values()]

    def entries(self) -> set[str]:
        """The queue entries of the answers that are open, or whose end Redis does not know yet."""
        ended = {each.attempt.entry for each in (*self._ended, *self._completing)}
        return ended | {attempt.entry for attempt in self.attempts()}

    def open(self, attempt: Attempt, claimed_at: float = 0.0) -> None:
        """Begin an answer and fence earlier attempts. `claimed_at` is of the monotonic clock."""
        clock = AttemptClock() if attempt.job.trace is not None else None
        answer = self._answers[attempt.job.id] = Answer(attempt, self._engine_time, clock)
        traced = (self.worker, clock.us_since(claimed_at)) if clock is not None else ()
        self._push(answer, 0, Started(*traced))

    def submitting(self, job_id: str) -> None:
        """The engine is given a job."""
        answer = self._answers.get(job_id)
        if answer is not None and answer.clock is not None:
            answer.clock.submit()

    def is_open(self, attempt: Attempt) -> bool:
        """Whether this very attempt's answer is open."""
        answer = self._answers.get(attempt.job.id)
        return answer is not None and answer.attempt is attempt

    def is_untold(self, job_id: str) -> bool:
        """Whether nothing of an open answer has been said yet, by any attempt."""
        return job_id in self._answers and self._answers[job_id].seq == 0

    def resume(self, job_id: str, published: Published) -> None:
        """Go on in an open answer after what earlier attempts published."""
        self._answers[job_id].resume(published)

    def suppress(
        self, job_id: str, text: str, tokens: int = 0, after: Transcript | None = None
    ) -> None:
        """The engine will say `text` again, which the client has: do not send it twice. It is a
        transcript, or the rest of one that goes on `after` its beginning. If the engine says
        something else, the answer fails. The first `tokens` that earlier attempts published count,
        and will not be pushed again; the others will."""
        answer = self._answers.get(job_id)
        if answer is not None:
            answer.repeat(text, tokens, after)

    def delta(
        self,
        job_id: str,
        text: str,
        token_ids: Sequence[int],
        index: int = 0,
        logprobs: tuple[TokenLogprob, ...] | None = None,
        kind: Kind = None,
    ) -> None:
        """New text. Tokens without text (part of a character, a held-back stop string) wait
        for the text that they belong to. `kind` is what the text is part of."""
        self.heard += 1
        answer = self._answers.get(job_id)
        if answer is None:
            return
        self.generated_tokens_total += len(token_ids)
        if not answer.prompt_counted:
            if answer.clock is not None:
                answer.clock.speak()
            self._count_prompt(answer)
            self.say_first(job_id, answer.opening())
        seq = answer.seq
        try:
            said = answer.say(text, token_ids, index, logprobs, kind)
        except Diverged:
            self._diverged(job_id)
            return
        if said is not None:
            self._push(answer, seq, said)

    def say_first(self, job_id: str, deltas: Sequence[Delta]) -> None:
        """Push what comes before any text, less what an earlier attempt has published of it."""
        answer = self._answers.get(job_id)
        if answer is not None:
            for delta in deltas[answer.seq :]:
                self._push(answer, answer.seq, delta)
                answer.seq += 1

    def done(
        self,
        job_id: str,
        finish_reasons: tuple[FinishReason, ...],
        prompt_tokens: int,
        cached_tokens: int = 0,
        *,
        pseudo_streamed: bool = False,
        completion_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        stop_strings: tuple[str, ...] = (),
    ) -> None:
        """The answer is complete. `completion_tokens` counts them for an engine that knows no
        token ids, as does `reasoning_tokens`. `stop_strings` are those that ended a choice."""
        self.heard += 1
        answer = self._answers.get(job_id)
        if answer is None:
            return
        if answer.owes_known_text:
            self._diverged(job_id)
            return
        if completion_tokens is not None:
            answer.tokens = completion_tokens
            self.generated_tokens_total += max(0, completion_tokens - answer.pieces)
        reasoning = answer.reasoning_tokens if reasoning_tokens is None else reasoning_tokens
        ends = (pseudo_streamed, reasoning, stop_strings)
        counts = (prompt_tokens, answer.tokens, cached_tokens)
        event = Done(finish_reasons, *counts, *ends, times=answer.times())
        answer.count(event)
        self._count_prompt(answer)
        for delta in answer.rest():
            self._push(answer, answer.seq, delta)
        self._end(answer, event)

    def expect(self, job_id: str, prompt_tokens: int) -> None:
        """How long the prompt is that the engine will have read with its first token."""
        answer = self._answers.get(job_id)
        if answer is not None:
            answer.prompt_tokens = prompt_tokens

    def count_piece(self, job_id: str) -> None:
        """A piece of text came from an engine that knows no token ids: it counts as a token until
        the answer's end says how many there were."""
        answer = self._answers.get(job_id)
        if answer is not None:
            answer.pieces += 1
            self.generated_tokens_total += 1

    def failed(
        self, job_id: str, code: ErrorCode, message: str, *, retryable: bool = False
    ) -> None:
        """The job ends without an answer."""
        self.heard += 1
        answer = self._answers.get(job_id)
        if answer is not None:
            self._end(answer, Failed(code, message, retryable, answer.times()))

    def give_up(
        self, job_id: str, code: ErrorCode, message: str, *, retryable: bool = False
    ) -> None:
        """The same, and the engine is told soon to stop working on it."""
        self.failed(job_id, code, message, retryable=retryable)
        self._abandoned.append(job_id)

    def engine_died(self, error: BaseException) -> None:
        """The engine is gone for good. Its jobs stay open, for another worker to take over."""
        if not self.died.done():
            is_told = isinstance(error, EngineDied)
            told = error if is_told else EngineDied(f"{type(error).__name__}: {error}")
            self.died.set_exception(told)

    def report_load(self, load: EngineLoad) -> None:
        self.load = load

    def settle(self, job_id: str, state: str) -> None:
        """End an answer in Redis without a word: the client has its end, or is gone."""
        answer = self._answers.pop(job_id, None)
        if answer is not None:
            self._settle(answer, state)
            self._some.set()

    def take_abandoned(self) -> list[str]:
        """The jobs whose engine should be told to stop, each once."""
        abandoned, self._abandoned = self._abandoned, []
        return abandoned

    def withdraw(self, job_id: str) -> JobUse:
        """Close an answer that another attempt will end; push and end nothing more. Returns what it
        has used."""
        answer = self._answers.pop(job_id, None)
        if answer is None:
            return NO_USE
        self.freed.set()
        self._changed.set()
        return answer.close()

    def tell(self, job_id: str, status: Status) -> None:
        """Say what a job waits for. It takes no sequence number."""
        answer = self._answers.get(job_id)
        if answer is not None:
            self._push(answer, -1, status)

    async def run(self) -> None:
        """Flush until cancelled. While Redis is away events are kept, in order."""
        while True:
            await self._some.wait()
            self._some.clear()
            self._flushes_begun += 1
            envelopes, self._envelopes = self._envelopes, {}
            self._completing, self._ended = self._ended, []
            await self._publish(envelopes)
            await self._complete(self._completing)
            self._completing = []
            self._flushes_ended += 1
            self._changed.set()

    async def flush(self) -> None:
        """Return when all that was pushed before has been published, and all that had ended
        is completed. Events that are pushed meanwhile do not hold it up."""
        last = self._flushes_begun + bool(self._envelopes or self._ended)
        while self._flushes_ended < last:
            self._changed.clear()
            await self._changed.wait()

    async def wait_for_word(self, job_id: str) -> None:
        """Return when something that the client did not have has been published of an answer,
        or when it is not open any more."""
        while (answer := self._answers.get(job_id)) is not None and not answer.has_spoken:
            self._changed.clear()
            await self._changed.wait()
        await self.flush()

    async def wait_until_empty(self) -> None:
        """Return when no answer is open."""
        while self._answers:
            self.freed.clear()
            await self.freed.wait()

    async def _publish(self, envelopes: dict[str, list[Envelope]]) -> None:
        frames = [
            (reply, frame) for reply, batch in envelopes.items() for frame in frames_of(batch)
        ]
        if frames:
            await _persist("publishing", lambda: self._publisher.append(frames))

    async def _complete(self, ended: list[Ended]) -> None:
        if ended:
            complete = self.queue.complete
            self.fenced_total += await _persist("completing", lambda: complete(self.worker, ended))

    def _push(self, answer: Answer, seq: int, event: Event) -> None:
        attempt = answer.attempt
        envelope = Envelope(attempt.job.id, attempt.number, seq, event)
        batch = self._envelopes.get(attempt.reply)
        if batch is None:
            self._envelopes[attempt.reply] = [envelope]
        else:
            batch.append(envelope)
        self._some.set()

    def _end(self, answer: Answer, event: Done | Failed) -> None:
        self._push(answer, answer.seq, event)
        del self._answers[answer.attempt.job.id]
        self._settle(answer, state_after(event))
        self.jobs_total += 1

    def _settle(self, answer: Answer, state: str) -> None:
        self._ended.append(Ended(answer.attempt, state, answer.close()))
        self.freed.set()

    def _count_prompt(self, answer: Answer) -> None:
        self.prompt_tokens_total += answer.prompt_tokens - answer.prompt_counted
        answer.prompt_counted = answer.prompt_tokens

    def _diverged(self, job_id: str) -> None:
        message = "the answer's worker was lost and the answer could not be continued"
        self.give_up(job_id, ErrorCode.ENGINE_LOST, message, retryable=True)


async def _persist(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Try until Redis answers."""
    while True:
        try:
            return await work()
        except RedisError as error:
            log.warning("%s again in %s s: %s", what, _RETRY_S, error)
        await asyncio.sleep(_RETRY_S)
