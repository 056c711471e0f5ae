"""The two files of a batch that runs, of its answers and of its errors: each line is in one of
them, once."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from gateway.batches.done_lines import DoneLines
from gateway.batches.input_file import InputLine
from gateway.batches.output_file import OutputFile

log = logging.getLogger(__name__)
_DISK_RETRY_S: Final = 5.0


class BatchOutput:
    """Written by one run at a time, of whichever process. Raises `OSError` if another one does."""

    def __init__(self, directory: Path) -> None:
        self.done = DoneLines()
        self._name = directory.name
        self._turn = asyncio.Lock()
        self._answers = OutputFile(directory / "output.jsonl", self.done)
        try:
            self._errors = OutputFile(directory / "errors.jsonl", self.done)
        except OSError:
            self._answers.close()
            raise

    def counts(self) -> dict[str, int]:
        """Return how many lines there are, as a `BatchRecord` has it."""
        return {"completed": self._answers.count, "failed": self._errors.count}

    async def append(self, line: InputLine, encoded: bytes, *, is_answer: bool) -> None:
        """Write a line. A disk that is full is waited for: what was answered is not lost by it."""
        file = self._answers if is_answer else self._errors
        async with self._turn:
            while True:
                try:
                    file.append(encoded)
                except OSError as error:
                    log.error("%s waits for the disk: %s", self._name, error)
                    await asyncio.sleep(_DISK_RETRY_S)
                else:
                    self.done.add(line.number)
                    return

    def check(self) -> None:
        """See that what is written is still there. Raises `OSError` if a file was deleted."""
        self._answers.check()
        self._errors.check()

    def sync(self) -> None:
        """Have it on the disk, whatever happens to the power. Raises `OSError`."""
        self._answers.sync()
        self._errors.sync()

    def close(self) -> None:
        self._answers.close()
        self._errors.close()
