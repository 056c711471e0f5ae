"""The lines that a batch has made of its input, as OpenAI has them, and the file that keeps them
through crashes."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.batches.done_lines import DoneLines
from gateway.batches.input_file import InputLine
from gateway.streams.sse import one_line

_NUMBER: Final = re.compile(rb'\{"id":"batch_req_[0-9a-f]+_([0-9]+)"')


class OutputFile:
    """The lines that were made so far. A line is there as a whole or not at all, also after a
    crash: a last one without its end is cut off when the file is opened again."""

    def __init__(self, path: Path, done: DoneLines) -> None:
        """Open it, and mark the lines that are there as done. Raises `OSError`, also if another
        process has it open."""
        self.count = 0
        self._path = path
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(opened, "a+b", buffering=0)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = self._mark(done)
            self._file.truncate(self._size)
        except OSError as error:
            self._file.close()
            if isinstance(error, BlockingIOError):
                raise OSError(error.errno, "another process writes it", str(path)) from None
            raise

    def append(self, line: bytes) -> None:
        """Raises `OSError`; the line is then not there."""
        data = one_line(line) + b"\n"
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)
        self.count += 1

    def check(self) -> None:
        """Raises `OSError` if it was deleted, or another is in its place."""
        if not is_file_at(self._file.fileno(), self._path):
            raise OSError(errno.ESTALE, "it was deleted while the batch ran", str(self._path))

    def sync(self) -> None:
        """Have it on the disk, whatever happens to the power. Raises `OSError`."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _mark(self, done: DoneLines) -> int:
        """Note which lines are there. Return the size of those that are whole."""
        self._file.seek(0)
        size = 0
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                found = _NUMBER.match(line)
                if not line.endswith(b"\n") or found is None:
                    break
                done.add(int(found[1]))
                self.count += 1
                size += len(line)
        return size


def is_file_at(opened: int, path: Path) -> bool:
    """Return whether an open file is still that at a path."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def output_line(
    batch_id: str, line: InputLine, *, status: int, request_id: str, body: bytes
) -> bytes:
    """A request that was answered, be it with an error. The id comes first: lines are counted by
    it."""
    answer = {"status_code": status, "request_id": request_id, "body": orjson.Fragment(body)}
    return _encoded(batch_id, line, answer, None)


def unanswered_line(batch_id: str, line: InputLine, code: str, message: str) -> bytes:
    """A request that no model was asked."""
    return _encoded(batch_id, line, None, {"code": code, "message": message})


def _encoded(
    batch_id: str, line: InputLine, response: dict[str, Any] | None, error: dict[str, str] | None
) -> bytes:
    return orjson.dumps(
        {
            "id": f"batch_req_{batch_id.removeprefix('batch_')}_{line.number}",
            "custom_id": line.custom_id,
            "response": response,
            "error": error,
        }
    )
