"""One batch while it runs: its lines are asked, some at a time, and each is written once."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Any, Final

from msgspec.structs import replace

from contract.process.tasks import cancel_and_wait
from gateway.batches.answered import answers_of
from gateway.batches.asker import LineAsker
from gateway.batches.batch import BatchFault, BatchRecord, BatchStatus, BatchStore
from gateway.batches.file_store import FileRecord, FileStore
from gateway.batches.lines import (
    InputLine,
    OutputFile,
    Validation,
    mark,
    output_line,
    read_lines,
    unanswered_line,
)

log = logging.getLogger(__name__)
_LOOK_EVERY_S: Final = 0.5
_SYNC_EVERY: Final = 10
_DISK_RETRY_S: Final = 5.0
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
        self._done = bytearray()
        self._asking: set[asyncio.Task[None]] = set()
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
        config = self._files.config
        checks = Validation(
            self._input, self._batch.endpoint, config.max_batch_lines, self._longest
        )
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
        directory = self._batches.path(self._batch.id)
        self._output = OutputFile(directory / "output.jsonl", self._done)
        self._errors = OutputFile(directory / "errors.jsonl", self._done)
        watching = asyncio.create_task(self._watch())
        try:
            await self._ask_lines()
            await cancel_and_wait(self._asking)
            if self._stop is not None:
                await self._say_why_not(f"batch_{self._stop.value}", _WHY_NOT[self._stop])
            self._output.sync()
            self._errors.sync()
        finally:
            await cancel_and_wait([watching, *self._asking])
            self._output.close()
            self._errors.close()
        self._write(
            status=BatchStatus.FINALIZING,
            next_status=self._stop or BatchStatus.COMPLETED,
            finalizing_at=_now(),
            **self._counts(),
        )

    async def _ask_lines(self) -> None:
        """Return when each line is answered, or the batch is to end."""
        for line in read_lines(self._input, self._longest, self._done):
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
        if self._stop is not None:
            self._asker.cancel()

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
        file = self._output if answer.status == 200 else self._errors
        encoded = output_line(
            self._batch.id,
            line,
            status=answer.status,
            request_id=answer.request_id,
            body=answer.body,
        )
        await self._append(file, line, encoded)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = error
        self._changed.set()

    async def _say_why_not(self, code: str, message: str) -> None:
        lines = read_lines(self._input, self._longest, self._done)
        for count, line in enumerate(lines):
            encoded = unanswered_line(self._batch.id, line, code, f"This request {message}")
            await self._append(self._errors, line, encoded)
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _append(self, file: OutputFile, line: InputLine, encoded: bytes) -> None:
        """A disk that is full is waited for: a line that was answered is not lost by it."""
        while True:
            try:
                file.append(encoded)
            except OSError as error:
                log.error("%s waits for the disk: %s", self._batch.id, error)
                await asyncio.sleep(_DISK_RETRY_S)
            else:
                mark(self._done, line.number)
                return

    async def _watch(self) -> None:
        """Write how far it is, and see whether it is to end, until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            looks += 1
            if self._stop is None and self._batches.is_cancelled(self._batch.id):
                self._end_early(BatchStatus.CANCELLED)
                self._batch = replace(self._batch, cancelling_at=_now())
            elif self._stop is None and _now() >= self._batch.expires_at:
                self._end_early(BatchStatus.EXPIRED)
            try:
                if looks % _SYNC_EVERY == 0:
                    await asyncio.to_thread(self._output.sync)
                    await asyncio.to_thread(self._errors.sync)
                self._write(**self._counts())
            except OSError as error:
                log.error("the progress of %s is not written: %s", self._batch.id, error)

    def _end_early(self, status: BatchStatus) -> None:
        self._stop = status
        self._changed.set()

    def _counts(self) -> dict[str, int]:
        return {"completed": self._output.count, "failed": self._errors.count}

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
            self._batch = changed
            self._batches.write(changed)


def _file_id(batch_id: str, kind: str) -> str:
    return f"file-{hashlib.sha256(f'{batch_id} {kind}'.encode()).hexdigest()[:24]}"


def _now() -> int:
    return int(time.time())
