"""One batch while it runs: its lines are asked, some at a time, and each is written once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from msgspec.structs import replace

from contract.process.tasks import cancel_and_wait
from gateway.batches.answered import answers_of
from gateway.batches.asker import LineAsker
from gateway.batches.batch import BatchFault, BatchRecord, BatchStatus, BatchStore
from gateway.batches.batch_output import BatchOutput
from gateway.batches.file_store import FileRecord, FileStore
from gateway.batches.input_file import InputLine, Validation, lines_left
from gateway.batches.output_file import output_line, unanswered_line

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 0.5
_SYNC_EVERY: Final = 10
#: So long, lines that are cancelled may take to end by themselves.
_END_WITHIN_S: Final = 1.0
#: Lines between which the event loop has its turn.
_AT_ONCE: Final = 256
_GONE: Final = BatchFault("file_not_found", "the input file was deleted, or has expired")
_WHY_NOT: Final = {
    BatchStatus.EXPIRED: "could not be executed before the completion window expired.",
    BatchStatus.CANCELLED: "was not answered before the batch was cancelled.",
}


class BatchRun:
    """Takes a batch from where it is to its end. Whatever ends this run, the next goes on there."""

    def __init__(
        self,
        files: FileStore,
        batches: BatchStore,
        batch: BatchRecord,
        asker: LineAsker,
        longest_line: int,
    ) -> None:
        self._files = files
        self._batches = batches
        self._batch = batch
        self._asker = asker
        self._longest = longest_line
        self._input = files.path(batch.input_file_id)
        self._asking: set[asyncio.Task[None]] = set()
        #: Of those, the ones that have their answer, and write it.
        self._answered: set[asyncio.Task[None] | None] = set()
        self._changed = asyncio.Event()
        #: The error that ended a line's task and that no line is to blame for.
        self._broken: BaseException | None = None
        #: How the batch is to end before all lines are asked.
        self._stop: BatchStatus | None = None

    async def run(self) -> None:
        """Return when the batch has ended. Raises `Leaving` when this process is to stop, and
        `OSError`."""
        try:
            if not self._batch.in_progress_at and not await self._validate():
                return
            if self._batch.status is not BatchStatus.FINALIZING:
                await self._answer_lines()
        except FileNotFoundError:
            # The answers that there are stay.
            failed = BatchStatus.FAILED
            self._write(status=BatchStatus.FINALIZING, next_status=failed, faults=(_GONE,))
        await asyncio.to_thread(self._finalize)

    async def _validate(self) -> bool:
        most = self._files.config.max_batch_lines
        checks = Validation(self._input, self._batch.endpoint, most, self._longest)
        while await asyncio.to_thread(checks.step):
            if self._batches.is_cancelled(self._batch.id):
                self._write(status=BatchStatus.CANCELLED, ended_at=_now())
                return False
        if checks.faults:
            self._fail(*checks.faults)
            return False
        status = BatchStatus.IN_PROGRESS
        self._write(total=checks.total, status=status, in_progress_at=_now())
        return True

    def _fail(self, *faults: BatchFault) -> None:
        self._write(status=BatchStatus.FAILED, faults=faults, ended_at=_now())

    async def _answer_lines(self) -> None:
        # It reads what is there, of which there may be gigabytes.
        self._output = await asyncio.to_thread(BatchOutput, self._batches.path(self._batch.id))
        watching = asyncio.create_task(self._watch())
        try:
            await self._ask_lines()
            await self._end_lines()
            if self._stop is not None:
                await self._say_why_not(f"batch_{self._stop.value}", _WHY_NOT[self._stop])
            await asyncio.to_thread(self._output.sync)
            self._output.check()
        finally:
            await cancel_and_wait([watching, *self._asking])
            self._output.close()
        self._write(
            status=BatchStatus.FINALIZING,
            next_status=self._stop or BatchStatus.COMPLETED,
            finalizing_at=_now(),
            **self._output.counts(),
        )

    async def _ask_lines(self) -> None:
        """Return when each line is answered, or the batch is to end."""
        async for line in self._lines_left():
            while len(self._asking) >= self._asker.most_at_once and self._stop is None:
                await self._wait()
            if self._stop is not None:
                break
            task = asyncio.create_task(self._ask(line))
            self._asking.add(task)
            task.add_done_callback(self._ended)
            await asyncio.sleep(0)
        while self._asking and self._stop is None:
            await self._wait()

    def _lines_left(self) -> AsyncGenerator[InputLine]:
        return lines_left(self._input, self._longest, self._output.done)

    async def _end_lines(self) -> None:
        """End those that are still asked; what was answered is written."""
        if self._asking:
            self._asker.cancel()
            await asyncio.wait(self._asking, timeout=_END_WITHIN_S)
        await cancel_and_wait(self._asking - self._answered)
        while self._asking:
            await self._wait()

    async def _wait(self) -> None:
        """Wait for a line's end, or for the batch's. Raises what has broken a line's task."""
        self._changed.clear()
        await self._changed.wait()
        if self._broken is not None:
            raise self._broken

    async def _ask(self, line: InputLine) -> None:
        answer = await self._asker.ask(line)
        if self._stop is not None and answer.status != 200:
            return
        self._answered.add(asyncio.current_task())
        encoded = output_line(
            self._batch.id,
            line,
            status=answer.status,
            request_id=answer.request_id,
            body=answer.body,
        )
        await self._output.append(line, encoded, is_answer=answer.status == 200)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._answered.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._changed.set()

    async def _say_why_not(self, code: str, message: str) -> None:
        async for line in self._lines_left():
            encoded = unanswered_line(self._batch.id, line, code, f"This request {message}")
            await self._output.append(line, encoded, is_answer=False)
            if line.number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _watch(self) -> None:
        """Write how far it is, and see whether it is to end, until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            looks += 1
            if self._stop is None and self._batches.is_cancelled(self._batch.id):
                self._end_early(BatchStatus.CANCELLED)
                self._batch = replace(self._batch, cancelling_at=_now())
            elif self._stop is None and self._asker.window.left_s <= 0:
                self._end_early(BatchStatus.EXPIRED)
            try:
                if looks % _SYNC_EVERY == 0:
                    await asyncio.to_thread(self._output.sync)
                self._write(**self._output.counts())
            except OSError as error:
                log.error("the progress of %s is not written: %s", self._batch.id, error)
            self._look_for_output()

    def _look_for_output(self) -> None:
        try:
            self._output.check()
        except OSError as error:
            self._broken = error
            self._changed.set()

    def _end_early(self, status: BatchStatus) -> None:
        self._stop = status
        self._changed.set()

    def _finalize(self) -> None:
        """Make files of what was written. Safe to repeat."""
        ids, model, usage = {}, None, None
        for kind in ("output", "errors"):
            path = self._batches.path(self._batch.id) / f"{kind}.jsonl"
            file_id = _file_id(self._batch.id, kind)
            there = [each for each in (path, self._files.path(file_id)) if each.exists()]
            size = there[0].stat().st_size if there else 0
            if not size:
                continue
            name = f"{self._batch.id}_{kind}.jsonl"
            keep_s = self._batch.output_keep_s
            record = FileRecord(
                file_id, self._batch.key_id, name, "batch_output", size, _now(), _now() + keep_s
            )
            if kind == "output":
                model, usage = answers_of(there[0])
            self._files.take(path, record)
            ids[kind] = file_id
        self._write(
            model=model,
            usage=usage,
            status=self._batch.next_status,
            ended_at=_now(),
            output_file_id=ids.get("output"),
            error_file_id=ids.get("errors"),
        )

    def _write(self, **changes: Any) -> None:
        changed = replace(self._batch, **changes)
        if changed != self._batch:
            self._batches.write(changed)
            self._batch = changed


def _file_id(batch_id: str, kind: str) -> str:
    return f"file-{hashlib.sha256(f'{batch_id} {kind}'.encode()).hexdigest()[:24]}"


def _now() -> int:
    return int(time.time())
