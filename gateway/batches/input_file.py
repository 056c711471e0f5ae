"""The lines of a batch's input: one request each, checked before the batch begins."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

from gateway.batches.batch import BatchFault
from gateway.batches.done_lines import DoneLines

#: Of the faults of an input that are told.
_MOST_FAULTS: Final = 50
_LONGEST_CUSTOM_ID: Final = 512
#: Lines between which the event loop has its turn.
_AT_ONCE: Final = 512


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


async def lines_left(path: Path, longest: int, done: DoneLines) -> AsyncGenerator[InputLine]:
    """Yield the lines of an input that was validated, but for those that are `done`. While it
    passes over very many, the loop turns. Raises `OSError`."""
    passed = 0
    for number, line in _numbered(path, longest):
        if number in done:
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
