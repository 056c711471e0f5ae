"""Runs the batches of this host, in one gateway process at a time: the one that holds the lock on
their directory. The kernel takes the lock from a process that has died: there is no lease to wait
for, and no clock that could give it to two."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from msgspec.structs import replace

from contract.paths import make_private
from contract.process.tasks import cancel_and_wait
from gateway.background.unattended import Leaving
from gateway.batches.asker import LineAsker
from gateway.batches.batch import (
    BatchFault,
    BatchRecord,
    BatchStatus,
    BatchStore,
    BatchWindow,
)
from gateway.batches.endpoint import Endpoints
from gateway.batches.file_store import FileStore
from gateway.batches.output_file import is_file_at
from gateway.batches.run import BatchRun
from gateway.lifecycle.process import GatewayProcess

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 1.0
_AGAIN_AFTER_S: Final = 5.0
_TIDY_EVERY_S: Final = 600.0
#: Batches of one key, and of all, that may make progress at once.
_PROGRESSING_OF_A_KEY: Final = 4
_PROGRESSING_OF_ALL: Final = 32
#: Those that may run, with those that wait for their model or in limits. A key of which none runs
#: may have one beyond the bound of all.
_RUNNING_OF_A_KEY: Final = 16
_RUNNING_OF_ALL: Final = 256
#: The fields of an input line beside its body.
_ENVELOPE_BYTES: Final = 4096


class BatchRunner:
    """The batches of this host, as far as this process runs them."""

    def __init__(
        self, process: GatewayProcess, files: FileStore, batches: BatchStore, endpoints: Endpoints
    ) -> None:
        self._process = process
        self._files = files
        self._batches = batches
        self._endpoints = endpoints
        self._lock: int | None = None
        self._lock_path = batches.directory / "lock"
        #: When those that ended by an error are taken up again, by the monotonic clock.
        self._again: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._askers: dict[str, LineAsker] = {}
        self._tidied = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except OSError as error:
                    log.error("batches cannot be run: %s", error)
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            await self._leave()

    async def _look(self) -> None:
        if self._process.dispatcher.draining:
            await self._leave()
            return
        if self._lock is not None and not is_file_at(self._lock, self._lock_path):
            log.warning(
                "%s was deleted: the batches are left to who locks it next", self._lock_path
            )
            await self._leave()
        if not self._batches.directory.is_dir() or not self._leads():
            return
        found = await asyncio.to_thread(self._batches.open)
        now = time.monotonic()
        ready = [each for each in found if now >= self._again.get(each.id, now)]
        progressing = {each for each, asker in self._askers.items() if not asker.waits}
        for batch in next_batches(ready, self._running, progressing):
            self._start(batch)
        if time.monotonic() - self._tidied > _TIDY_EVERY_S:
            self._tidied = time.monotonic()
            await asyncio.to_thread(self._tidy)

    def _leads(self) -> bool:
        if self._lock is None:
            make_private(self._batches.directory)
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
            log.info("this process runs the batches")
        return True

    def _start(self, batch: BatchRecord) -> None:
        endpoint = self._endpoints.get(batch.endpoint)
        if endpoint is None:
            fault = BatchFault("invalid_endpoint", f"no batch can ask {batch.endpoint}")
            self._batches.write(_failed(batch, fault))
            return
        asker = LineAsker(self._process, batch, endpoint, BatchWindow(batch), self._askers.values)
        self._askers[batch.id] = asker
        run = BatchRun(
            self._files,
            self._batches,
            batch,
            asker,
            self._process.models.limits.max_body_bytes + _ENVELOPE_BYTES,
        )
        task = self._running[batch.id] = asyncio.create_task(run.run())
        task.add_done_callback(lambda _: self._ended(batch.id, task))

    def _ended(self, batch_id: str, task: asyncio.Task[None]) -> None:
        del self._running[batch_id], self._askers[batch_id]
        self._again.pop(batch_id, None)
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, Leaving):
            return
        self._again[batch_id] = time.monotonic() + _AGAIN_AFTER_S
        # The system's own errors say what an operator can do something about.
        is_systems = isinstance(error, OSError)
        cause, trace = (f": {error}", None) if is_systems else ("", error)
        log.error(
            "%s is taken up again in %.0f s%s", batch_id, _AGAIN_AFTER_S, cause, exc_info=trace
        )

    async def _leave(self) -> None:
        """Leave the batches to another process. Lines that are being asked go on meanwhile."""
        await cancel_and_wait(list(self._running.values()))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _tidy(self) -> None:
        self._files.tidy()
        for batch in self._batches.all():
            if batch.ended_at and time.time() - batch.ended_at > self._files.config.keep_s:
                self._batches.remove(batch.id)


def next_batches(
    found: Sequence[BatchRecord], running: Collection[str], progressing: Collection[str]
) -> list[BatchRecord]:
    """Return which batches to begin of those that have not ended, the oldest first, beside the ones
    that run (their ids), of which some are `progressing`: a key that has fewer goes first, so that
    none waits for another's."""
    of_key = Counter(each.key_id for each in found if each.id in running)
    progressing_of_key = Counter(each.key_id for each in found if each.id in progressing)
    waiting = [each for each in found if each.id not in running]
    chosen: list[BatchRecord] = []

    def has_place(batch: BatchRecord) -> bool:
        own = of_key[batch.key_id]
        if progressing_of_key[batch.key_id] >= _PROGRESSING_OF_A_KEY or own >= _RUNNING_OF_A_KEY:
            return False
        return not own or len(running) + len(chosen) < _RUNNING_OF_ALL

    while len(progressing) + len(chosen) < _PROGRESSING_OF_ALL:
        fitting = (each for each in waiting if has_place(each))
        batch = min(fitting, key=lambda each: of_key[each.key_id], default=None)
        if batch is None:
            break
        of_key[batch.key_id] += 1
        progressing_of_key[batch.key_id] += 1
        waiting.remove(batch)
        chosen.append(batch)
    return chosen


def _failed(batch: BatchRecord, fault: BatchFault) -> BatchRecord:
    now = int(time.time())
    return replace(batch, status=BatchStatus.FAILED, faults=(fault,), ended_at=now)
