"""The lines of a batch's input, and of what it makes of them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from gateway.batches.batch import BatchFault
from gateway.streams.sse import one_line

#: Of the faults of an input that are told.
_MOST_FAULTS: Final = 50
_LONGEST_CUSTOM_ID: Final = 512
_AT_ONCE: Final = 512
_NUMBER: Final = re.compile(rb'\{"id":"batch_req_[0-9a-f]+_([0-9]+)"')


class InputLine(NamedTuple):
    """One request; `number` counts lines from 1, `body` is its JSON."""

    number: int
    custom_id: str
    body: bytes


class Validation:
    """Checks an input, some lines at each step: what is kept of a line are 8 bytes."""

    def __init__(self, path: Path, endpoint: str, most_lines: int, longest: int) -> None:
        self.total = 0
        self.faults: list[BatchFault] = []
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._longest = longest
        self._seen: set[bytes] = set()
        self._lines = _numbered(path, longest)

    def step(self) -> bool:
        """Check some lines. False when there is nothing more to be checked. Raises `OSError`."""
        for _ in range(_AT_ONCE):
            found = next(self._lines, None)
            if found is None or len(self.faults) >= _MOST_FAULTS:
                self._end()
                return False
            number, line = found
            fault = self._fault_of(number, line)
            if fault is not None:
                self.faults.append(fault)
            self.total += 1
            if self.total > self._most_lines:
                message = f"a batch may have {self._most_lines} requests"
                self.faults.append(BatchFault("too_many_requests", message, number))
                return False
        return True

    def _end(self) -> None:
        if not self.total and not self.faults:
            self.faults.append(BatchFault("empty_file", "the file has no requests"))

    def _fault_of(self, number: int, line: bytes) -> BatchFault | None:
        if len(line) > self._longest:
            message = f"a line may have {self._longest} bytes"
            return BatchFault("line_too_long", message, number)
        try:
            asked = orjson.loads(line)
        except orjson.JSONDecodeError:
            return BatchFault("invalid_json_line", "this line is not valid JSON", number)
        if not isinstance(asked, dict):
            return BatchFault("invalid_json_line", "this line is no JSON object", number)
        return self._fault_of_fields(number, asked)

    def _fault_of_fields(self, number: int, asked: dict[str, Any]) -> BatchFault | None:
        custom_id = asked.get("custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _LONGEST_CUSTOM_ID:
            message = f"must be a text of 1 to {_LONGEST_CUSTOM_ID} characters"
            return BatchFault("invalid_custom_id", message, number, "custom_id")
        if asked.get("method") != "POST":
            return BatchFault("invalid_method", "must be POST", number, "method")
        if asked.get("url") != self._endpoint:
            message = f"must be the batch's endpoint, {self._endpoint}"
            return BatchFault("mismatched_endpoint", message, number, "url")
        if not isinstance(asked.get("body"), dict):
            return BatchFault("invalid_body", "must be an object", number, "body")
        digest = hashlib.blake2b(custom_id.encode(errors="replace"), digest_size=8).digest()
        if digest in self._seen:
            message = "another line has this `custom_id`"
            return BatchFault("duplicate_custom_id", message, number, "custom_id")
        self._seen.add(digest)
        return None


async def lines_left(path: Path, longest: int, done: bytearray) -> AsyncGenerator[InputLine]:
    """Yield the lines of an input that was validated, but for those that are `done` (one bit each,
    by their number). While it passes over very many, the loop turns. Raises `OSError`."""
    passed = 0
    for number, line in _numbered(path, longest):
        if is_marked(done, number):
            passed += 1
            if passed % _AT_ONCE == 0:
                await asyncio.sleep(0)
        else:
            asked = orjson.loads(line)
            yield InputLine(number, asked["custom_id"], orjson.dumps(asked["body"]))


def _numbered(path: Path, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty; of one that is too long, only its beginning."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(longest + 2):
            number += 1
            if not line.endswith(b"\n") and len(line) > longest:
                _skip_line(file, longest)
            line = line.rstrip(b"\r\n")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield number, line


def _skip_line(file: BinaryIO, longest: int) -> None:
    while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
        pass


class OutputFile:
    """The lines that were made so far. A line is there as a whole or not at all, also after a
    crash: a last one without its end is cut off when the file is opened again."""

    def __init__(self, path: Path, done: bytearray) -> None:
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

    def _mark(self, done: bytearray) -> int:
        """Answers the size of what is whole."""
        self._file.seek(0)
        size = 0
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            for line in lines:
                found = _NUMBER.match(line)
                if not line.endswith(b"\n") or found is None:
                    break
                mark(done, int(found[1]))
                self.count += 1
                size += len(line)
        return size


def is_file_at(opened: int, path: Path) -> bool:
    """Return whether an open file is still that at a path."""
    try:
        return os.path.samestat(os.fstat(opened), path.stat())
    except FileNotFoundError:
        return False


def mark(done: bytearray, number: int) -> None:
    """Note that a line is done."""
    byte, bit = divmod(number, 8)
    if byte >= len(done):
        done.extend(bytes(byte + 1 - len(done)))
    done[byte] |= 1 << bit


def is_marked(done: bytearray, number: int) -> bool:
    byte, bit = divmod(number, 8)
    return byte < len(done) and bool(done[byte] & (1 << bit))


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
