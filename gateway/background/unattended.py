"""Jobs whose client does not wait at a connection: put again when they fail by what may pass, until
they have an answer, or their time is up."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from contract.keys import KeyRecord
from contract.messages import Delta, Done, ErrorCode, Job, Status
from gateway.http.errors import ApiError
from gateway.http.headers import RequestContext, send_nowhere
from gateway.jobs.admission import Admission
from gateway.jobs.resumption import Resumption
from gateway.streams.answers import AnswerSink
from gateway.streams.dialects import Timings
from gateway.streams.reply import Reply
from gateway.streams.writer import Client, Writer

log = logging.getLogger(__name__)
_FIRST_RETRY_S: Final = 0.25
_SLOWEST_RETRY_S: Final = 5.0
#: A job is put so often when the fault may be its own. `lost` is among those faults: Redis may have
#: lost its data, but a part of the answer may also be such that it can never be read, and each try
#: costs a whole answer of the engine. Who lost all data three times asks again for what failed.
_MOST_FAILURES: Final = 3
#: Errors that have nothing to do with the job: it is put again for as long as it may wait.
_WAITS_FOR: Final = frozenset(
    {
        "backend_down",
        "keys_unreadable",
        "queue_full",
        "limit_reached",
        "model_not_started",
        "model_starting",
        "model_cannot_load",
        "too_many_resumes",
        ErrorCode.EXPIRED.value,
    }
)
SinkType = TypeVar("SinkType", bound=AnswerSink)


class ErrandEnd(NamedTuple, Generic[SinkType]):
    """How a job ended: `error` is None if `sink` has its answer. `reply` is None if no worker could
    be asked."""

    sink: SinkType
    reply: Reply | None
    error: ApiError | None


class Errand(NamedTuple):
    """A job to be put, whose `id` stays the same over the processes that ask for it. Each time the
    key of `key_id` counts as it is then. The job has `timeout_s` from now. `may_repeat`: it may be
    put again though a part of its answer came. Unless it `may_wait`, it ends if it is refused at
    first."""

    id: str
    job: Job
    key_id: str
    request_id: str
    timeout_s: float
    may_repeat: bool = True
    may_wait: bool = True


class Leaving(Exception):
    """This process stops. The job goes on, for another one to ask for its answer."""


class Unattended:
    """Asks for jobs without a connection."""

    def __init__(self, admission: Admission, find_key: Callable[[str], KeyRecord | None]) -> None:
        self._admission = admission
        self._find_key = find_key

    def key(self, key_id: str) -> KeyRecord:
        """Return a key as it is now. Raises `ApiError`: it has ended, or cannot be looked up."""
        key = self._find_key(key_id)
        if key is None:
            raise ApiError("key_ended", "the API key was revoked, or has expired")
        return key

    async def ask(
        self,
        errand: Errand,
        make: Callable[[], SinkType],
        on_put: Callable[[Reply], Awaitable[None]],
    ) -> ErrandEnd[SinkType]:
        """Return how the job ended. `on_put` is called whenever it was put. Raises `Leaving`."""
        deadline = time.monotonic() + errand.timeout_s
        failures, wait_s, may_wait = 0, _FIRST_RETRY_S, errand.may_wait
        while True:
            ended = await self._ask_once(errand, make(), on_put, deadline - time.monotonic())
            error = ended.error
            if error is None:
                return ended
            if error.code == ErrorCode.DRAINING.value:
                raise Leaving
            may_wait = may_wait or ended.reply is not None
            failures += error.code not in _WAITS_FOR
            is_final = not _may_pass(error, errand, ended) or failures >= _MOST_FAILURES
            if is_final or not may_wait or time.monotonic() + wait_s > deadline:
                return ended
            log.debug("job %s is put again in %.1f s: %s", errand.id, wait_s, error.code)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311
            wait_s = min(_SLOWEST_RETRY_S, 2 * wait_s)

    async def _ask_once(
        self,
        errand: Errand,
        sink: SinkType,
        on_put: Callable[[Reply], Awaitable[None]],
        left_s: float,
    ) -> ErrandEnd[SinkType]:
        answer = _Awaited(sink)
        context = RequestContext(send_nowhere, errand.request_id.encode())
        context.model = errand.job.model
        once = Resumption(errand.id.encode(), digest=errand.id, patience_s=max(1.0, left_s))
        try:
            context.key = self.key(errand.key_id)
            reply = await self._admission.admit(errand.job, answer, context, once)
        except ApiError as error:
            return ErrandEnd(sink, None, error)
        await on_put(reply)
        return ErrandEnd(sink, reply, await answer.ended)


def _may_pass(error: ApiError, errand: Errand, ended: ErrandEnd[SinkType]) -> bool:
    if not error.retryable or error.code == ErrorCode.CANCELLED.value:
        return False
    has_spoken = ended.reply is not None and ended.reply.next_seq > 0
    return errand.may_repeat or not has_spoken


class _Awaited:
    """An answer whose end can be waited for."""

    def __init__(self, sink: AnswerSink) -> None:
        self.ended: asyncio.Future[ApiError | None] = asyncio.get_running_loop().create_future()
        #: The sink's own gathers what is written to it.
        self.writer = Writer()
        self.writer.attach(Client(send_nowhere, send_nowhere, self._abandoned))
        self._sink = sink

    def begin(self, attempt: int) -> None:
        self._sink.begin(attempt)

    def rename(self, name: str) -> None:
        self._sink.rename(name)

    def delta(self, seq: int, delta: Delta) -> None:
        self._sink.delta(seq, delta)

    def status(self, status: Status) -> None:
        self._sink.status(status)

    def done(self, seq: int, done: Done, timings: Timings) -> None:
        self._sink.done(seq, done, timings)
        self._end(None)

    def fail(self, error: ApiError) -> None:
        self._end(error)

    def cut(self, error: ApiError) -> None:
        self._end(error)

    def heartbeat(self) -> None:
        """Do nothing: no client listens."""

    def _abandoned(self) -> None:
        self._end(ApiError("internal_error", "something broke here"))

    def _end(self, error: ApiError | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)
