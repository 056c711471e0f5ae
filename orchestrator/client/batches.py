"""Batches of requests, asked of the gateway: a file of any size needs no more memory than its
longest line."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import msgspec

from orchestrator.client.gateway_client import Gateway, Unavailable
from orchestrator.errors import UserError
from orchestrator.system.files import put_in_place

ENDS: Final = ("completed", "failed", "expired", "cancelled")
#: A longer line is left to the gateway, which knows how long one may be.
_LONGEST_CHECKED: Final = 16 << 20
_LOOK_EVERY_S: Final = (0.2, 2.0)
#: A gateway that restarts is back within it.
_PATIENCE_S: Final = 120.0
_FORM: Final = '`{"custom_id": ..., "method": "POST", "url": ..., "body": ...}`'
Batch = dict[str, Any]
Told = Callable[[str], object]


class Batches:
    """The batches of one key. Every method may raise `UserError`, `KeyRefused`, `Unavailable`."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def begin(self, path: Path, endpoint: str, window: str, told: Told) -> Batch:
        """Upload a file of requests, and begin a batch of it."""
        with _Upload(path, told) as upload:
            form = {"file": (path.name, upload, "application/jsonl")}
            purpose = {"purpose": "batch"}
            file = self._gateway.ask("POST", "/v1/files", files=form, data=purpose)
        asked = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": window}
        try:
            batch: Batch = self._gateway.ask("POST", "/v1/batches", json=asked)
        except Unavailable:
            # It may have begun all the same.
            raise
        except UserError:
            self._gateway.ask("DELETE", f"/v1/files/{file['id']}")
            raise
        return batch

    def find(self, batch_id: str) -> Batch:
        batch: Batch = self._gateway.ask("GET", _path(batch_id))
        return batch

    def newest(self, limit: int) -> list[Batch]:
        found: list[Batch] = self._gateway.ask("GET", "/v1/batches", params={"limit": limit})[
            "data"
        ]
        return found

    def cancel(self, batch_id: str) -> Batch:
        batch: Batch = self._gateway.ask("POST", f"{_path(batch_id)}/cancel")
        return batch

    def wait(self, batch_id: str, told: Callable[[Batch | None], object]) -> Batch:
        """Return a batch when it has ended; `told` has it until then, None while the gateway does
        not answer. One that restarts meanwhile is waited for."""
        pause, answered = _LOOK_EVERY_S[0], time.monotonic()
        while True:
            try:
                batch = self.find(batch_id)
            except Unavailable:
                if time.monotonic() - answered > _PATIENCE_S:
                    raise
                told(None)
            else:
                answered = time.monotonic()
                if batch["status"] in ENDS:
                    return batch
                told(batch)
            time.sleep(pause)
            pause = min(1.5 * pause, _LOOK_EVERY_S[1])

    def write(self, file_id: str, path: Path) -> None:
        """Write a file of the gateway's to one here, which is there as a whole or not at all.
        Raises `OSError`, too."""
        scratch = path.with_name(f".{path.name}.part")
        try:
            with scratch.open("wb") as file:
                for piece in self._gateway.pieces(f"/v1/files/{quote(file_id, safe='')}/content"):
                    file.write(piece)
            put_in_place(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


def endpoint_of(path: Path, told: Told) -> str:
    """See that each line of a file is a JSON object. Return the endpoint that the first one names,
    empty if it names none; the rest is checked by the gateway. Raises `UserError`, `OSError`."""
    if not path.is_file():
        what = "is not a file" if path.exists() else "is not there"
        raise UserError(f"{path} {what}", f"name a file of requests; each line is {_FORM}")
    endpoint = None
    share = _Share("checking", path, told)
    with path.open("rb") as file:
        for number, line in _lines(file):
            share.add(len(line))
            try:
                asked = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                message = f"{path}, line {number}: not valid JSON: {error}"
                raise UserError(message, f"each line is {_FORM}") from None
            if not isinstance(asked, dict):
                raise UserError(f"{path}, line {number}: no JSON object", f"each line is {_FORM}")
            if endpoint is None:
                endpoint = str(asked.get("url") or "")
    if endpoint is None:
        raise UserError(f"{path} has no requests", f"each line is {_FORM}")
    return endpoint


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, and not too long to be checked, with their numbers."""
    number = 0
    while line := file.readline(_LONGEST_CHECKED):
        number += 1
        if not line.endswith(b"\n") and len(line) == _LONGEST_CHECKED:
            while (rest := file.readline(_LONGEST_CHECKED)) and not rest.endswith(b"\n"):
                pass
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


class _Share:
    """Tells how much of a file is done, each time that it is a percent more: a terminal is slower
    than what is told."""

    def __init__(self, doing: str, path: Path, told: Told) -> None:
        self._size = max(path.stat().st_size, 1)
        self._done = 0
        self._percent = -1
        self._doing = f"{doing} {path.name}"
        self._told = told

    def add(self, size: int) -> None:
        self._done += size
        percent = 100 * self._done // self._size
        if percent > self._percent:
            self._percent = percent
            self._told(f"{self._doing}: {percent} %")


class _Upload(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, told: Told) -> None:
        super().__init__(path)
        self._share = _Share("uploading", path, told)

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._share.add(len(piece))
        return piece


def _path(batch_id: str) -> str:
    return f"/v1/batches/{quote(batch_id, safe='')}"
