"""The background jobs that one gateway process keeps: it asks for each, and stores the answer. What
a process that is gone has left, the others take over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec
from redis.exceptions import RedisError

from contract.bus.background import BackgroundFull, BackgroundJobs
from contract.bus.background_job import (
    AboutJob,
    BackgroundJob,
    JobError,
    JobOutcome,
    JobState,
    Webhook,
)
from contract.bus.client import RedisClient
from contract.bus.heartbeats import GATEWAYS, Heartbeats, read_beats
from contract.config import JobsConfig
from contract.gateway_beat import GatewayBeat
from contract.messages import ErrorCode, Job
from contract.process.tasks import cancel_and_wait
from gateway.background.kept_job import KeptJob
from gateway.background.patience import patiently
from gateway.background.unattended import Unattended
from gateway.http.errors import ApiError
from gateway.jobs.refusals import conflict
from gateway.streams.cancelling import cancel_for_all

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 2.0
_ADOPT_AT_ONCE: Final = 256
_decode_beat = msgspec.msgpack.Decoder(GatewayBeat).decode


class Keeper:
    """Keeps jobs until they have ended, under the name of its gateway process."""

    def __init__(
        self,
        db: RedisClient,
        name: str,
        config: JobsConfig,
        unattended: Unattended,
        is_leaving: Callable[[], bool],
    ) -> None:
        self.records = BackgroundJobs(db, config.max_bytes)
        self._db = db
        self._name = name
        self._config = config
        self._unattended = unattended
        self._is_leaving = is_leaving
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Jobs that a defect, or a fault of this process, kept from being asked for.
        self._failed: set[str] = set()

    async def accept(
        self, job_id: str, job: Job, about: AboutJob, digest: str, webhook: Webhook | None
    ) -> None:
        """Note a job and put it; safe to repeat. Return when it is in its model's queue.

        Raises `ApiError`: the job was not taken.
        """
        create = self.records.create
        try:
            known = await patiently(
                lambda: create(
                    job, about, job_id=job_id, keeper=self._name, digest=digest, webhook=webhook
                )
            )
        except KeyError:
            raise conflict() from None
        except BackgroundFull as full:
            message = f"{full} of the {self._config.max_bytes / 1_048_576:.1f} that they may"
            raise ApiError("queue_full", message) from None
        record = await self.find(job_id)
        if known or record is None or job_id in self._tasks:
            return
        is_put: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keep(record, is_put)
        await is_put

    async def keep_answer(self, job_id: str, job: Job, about: AboutJob, answer: bytes) -> None:
        """Keep the answer to a job that has ended, whose client was there; safe to repeat. Raises
        `ApiError`."""
        create, end = self.records.create, self.records.end
        try:
            await patiently(lambda: create(job, about, job_id=job_id, keeper=self._name, digest=""))
        except BackgroundFull as full:
            raise ApiError("queue_full", str(full)) from None
        except KeyError:
            raise ApiError("idempotency_conflict", "another answer has this id") from None
        keep_s = self._config.keep_s
        await patiently(
            lambda: end(job_id, JobState.DONE, JobOutcome(), keep_s=keep_s, answer=answer)
        )

    async def find(self, job_id: str) -> BackgroundJob | None:
        """Return a job. Raises `ApiError` if Redis does not say."""
        return await patiently(lambda: self.records.find(job_id))

    async def cancel(self, record: BackgroundJob) -> None:
        """End a job that is open, whichever process keeps it. Raises `ApiError`."""
        model = record.job.model if record.job else record.about.model
        await patiently(lambda: cancel_for_all(self._db, model, record.queued_as))
        outcome = JobOutcome(error=JobError(ErrorCode.CANCELLED.value, "the job was cancelled"))
        end = self.records.end
        await patiently(
            lambda: end(record.id, JobState.CANCELLED, outcome, keep_s=self._config.keep_s)
        )
        if task := self._tasks.get(record.id):
            task.cancel()

    async def run(self) -> None:
        """Look after the jobs of all processes, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self._drop_ended()
                if not self._is_leaving():
                    await self._adopt()
                await self.records.tidy()
            except (RedisError, OSError) as error:
                log.debug("background jobs are not looked at: %s", error)

    async def stop(self) -> None:
        """Leave the jobs to other processes. They go on meanwhile."""
        await cancel_and_wait(self._tasks.values())
        await self.records.release(self._name)

    async def _adopt(self) -> None:
        alive = read_beats(await Heartbeats(self._db, GATEWAYS).alive(), _decode_beat)
        names = [beat.name for beat in alive if not beat.is_adopted]
        adopted = await self.records.adopt(self._name, names, _ADOPT_AT_ONCE)
        if adopted:
            log.info("%d background jobs are taken over", len(adopted))
        failed, self._failed = self._failed, set()
        for job_id in (*adopted, *failed):
            record = await self.records.find(job_id)
            if record is not None and record.state is JobState.OPEN:
                self._keep(record)

    async def _drop_ended(self) -> None:
        """Stop asking for what another process has cancelled, or taken over."""
        own = list(self._tasks)
        for job_id in {*own} - await self.records.still_open(own, self._name):
            if task := self._tasks.get(job_id):
                task.cancel()

    def _keep(self, record: BackgroundJob, is_put: asyncio.Future[None] | None = None) -> None:
        if record.id in self._tasks:
            return
        kept = KeptJob(record, self.records, self._name, self._config.keep_s)
        task = asyncio.create_task(kept.run(self._unattended, is_put))
        self._tasks[record.id] = task
        task.add_done_callback(lambda _: self._forget(record.id, task))

    def _forget(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background job %s is asked for again soon", job_id, exc_info=error)
            self._failed.add(job_id)
