"""Asks for the answers to a batch's lines, as requests of the batch's key."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from contract.messages import ErrorCode, Job
from gateway.background.unattended import Errand
from gateway.batches.batch import BatchRecord, BatchWindow
from gateway.batches.endpoint import Endpoint, LineRequest
from gateway.batches.input_file import InputLine
from gateway.http.error_answers import OPENAI, answer_error
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, send_nowhere
from gateway.lifecycle.process import GatewayProcess
from gateway.streams.answers import WholeAnswer
from gateway.streams.reply import Reply

#: Lines that are asked at once: twice what the models' workers have places for, within this, of
#: all batches for the same models.
_FEWEST, _MOST = 8, 256
_LOOK_EVERY_S: Final = 0.5
_FIRST_RECHECK_S: Final = 1.0
_SLOWEST_RECHECK_S: Final = 5.0
#: A batch waits if none of its lines has been begun, and none has ended for so long.
_WAITS_AFTER_S: Final = 5.0


class LineAnswer(NamedTuple):
    """The answer that a request with a line's body would have had."""

    status: int
    request_id: str
    body: bytes


class LineAsker:
    """Asks for one batch. A line has the same job whichever process asks for it, so that its answer
    is found again after a crash, and not made again. `all_askers` has those of all batches that
    run."""

    def __init__(
        self,
        process: GatewayProcess,
        batch: BatchRecord,
        endpoint: Endpoint,
        window: BatchWindow,
        all_askers: Callable[[], Iterable[LineAsker]],
    ) -> None:
        self._process = process
        self._batch = batch
        self._endpoint = endpoint
        self.window = window
        self._all_askers = all_askers
        self._replies: dict[str, Reply] = {}
        #: How many lines are being asked.
        self._open = 0
        #: When a line ended, or the first of those that are open was asked, by the monotonic clock.
        self._progressed_at = 0.0
        #: The models that do its lines, as of a moment ago.
        self.models: frozenset[str] = frozenset()
        self._looked = 0.0
        self._most = _FEWEST

    @property
    def waits(self) -> bool:
        """Whether the lines wait for what others have, or have taken away: for their model, for
        room in its queue, or in the limits of their key."""
        is_long = self._open > 0 and time.monotonic() - self._progressed_at >= _WAITS_AFTER_S
        return is_long and not any(each.first_attempt for each in self._replies.values())

    @property
    def most_at_once(self) -> int:
        """How many lines to ask at once, to keep the models' workers busy and no more."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            self.models = frozenset(reply.model for reply in self._replies.values())
            self._most = self._share()
        return self._most

    def _share(self) -> int:
        beats = (beat for each in self.models for beat in self._process.models.status(each).workers)
        of_all = min(_MOST, 2 * sum(beat.slots for beat in beats))
        askers = sum(not self.models.isdisjoint(each.models) for each in self._all_askers())
        return max(_FEWEST, of_all // max(1, askers))

    async def ask(self, line: InputLine) -> LineAnswer:
        """Return a line's answer, which may be an error. Raises `Leaving`."""
        job_id = hashlib.sha256(f"{self._batch.id} {line.number}".encode()).hexdigest()[:32]
        if not self._open:
            self._progressed_at = time.monotonic()
        self._open += 1
        try:
            return LineAnswer(200, job_id, await self._answer(line, job_id))
        except ApiError as error:
            told = answer_error(error, job_id, OPENAI)
            return LineAnswer(told.status, job_id, told.body)
        finally:
            self._open -= 1
            self._progressed_at = time.monotonic()

    def cancel(self) -> None:
        """End all that are being asked, in their queues and workers, too."""
        for reply in list(self._replies.values()):
            error = ApiError(ErrorCode.CANCELLED.value, "the batch was ended")
            self._process.dispatcher.fail(reply, error)

    async def _answer(self, line: InputLine, job_id: str) -> bytes:
        context = RequestContext(send_nowhere, job_id.encode())
        question, job = await self._checked(line, job_id, context)
        shown = replace(job, model=self._process.models.served_name(job))
        errand = Errand(job_id, job, self._batch.key_id, job_id, self.window.left_s)
        try:
            ended = await self._process.unattended.ask(
                errand, lambda: _sink(question, shown, context), self._note(job_id)
            )
        finally:
            self._replies.pop(job_id, None)
        if ended.error is not None:
            raise ended.error
        return ended.sink.writer.gathered

    async def _checked(
        self, line: InputLine, job_id: str, context: RequestContext
    ) -> tuple[LineRequest, Job]:
        """Return the request and the job of a line, once its key can be looked up and its model can
        take it. Raises `ApiError`."""
        checks, find_key = self._process.checks, self._process.unattended.key
        question: LineRequest | None = None
        wait_s = _FIRST_RECHECK_S
        while True:
            try:
                key = find_key(self._batch.key_id)
                if question is None or key is not context.key:
                    context.key, question = key, self._endpoint(line.body, job_id, key)
                (job,) = checks.check(
                    [question.job], context, question.names, lenient=question.is_lenient
                )
                checks.check_whole(job, [job], question.names)
            except ApiError as error:
                if not error.retryable or self.window.left_s <= 0:
                    raise
                await asyncio.sleep(wait_s)
                wait_s = min(_SLOWEST_RECHECK_S, 2 * wait_s)
            else:
                return question, replace(job, resumable=True)

    def _note(self, job_id: str) -> Callable[[Reply], Awaitable[None]]:
        async def note(reply: Reply) -> None:
            self._replies[job_id] = reply

        return note


def _sink(question: LineRequest, shown: Job, context: RequestContext) -> WholeAnswer[Any]:
    """Return the answer to be, which carries another model's name if that does the job."""
    made = question.make(shown, context)
    made.renew = lambda name: question.make(replace(shown, model=name), context)
    return made
