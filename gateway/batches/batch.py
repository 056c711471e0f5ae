"""Batches on the disk: a directory each, whose record only the process that runs batches writes
after it was made."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from contract.messages import UNREADABLE
from contract.paths import make_private

_ID: Final = re.compile(r"batch_[0-9a-f]{24}")
#: Of one key: all are looked at every second, and listed from the disk.
_MOST_OPEN: Final = 100
_MOST_ENDED: Final = 1_000


class BatchStatus(str, Enum):
    """As OpenAI's API names them."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDS: Final = frozenset(
    {BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class BatchFault(msgspec.Struct, frozen=True):
    """Why a batch cannot be run; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens of all answers of a batch."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class BatchRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A batch. Times are Unix seconds; `total` is known once it was validated. `next_status` is
    the end that it is being finalized to."""

    id: str
    key_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_keep_s: int
    metadata: dict[str, str] | None = None
    status: BatchStatus = BatchStatus.VALIDATING
    next_status: BatchStatus = BatchStatus.COMPLETED
    faults: tuple[BatchFault, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    ended_at: int | None = None
    cancelling_at: int | None = None
    #: The model of its answers, if it is one, and what they took; once it has ended.
    model: str | None = None
    usage: BatchUsage | None = None


class BatchWindow:
    """How long a batch may still take, from when a process takes it up. From then on no clock
    counts that somebody may set."""

    def __init__(self, batch: BatchRecord) -> None:
        self._ends_at = time.monotonic() + batch.expires_at - time.time()

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())


_decode = msgspec.json.Decoder(BatchRecord).decode


class TooManyBatches(Exception):
    """A key has as many batches that have not ended as it may."""

    def __init__(self) -> None:
        super().__init__(f"one key may have {_MOST_OPEN} open batches; wait until some have ended")


class BatchStore:
    """The batches of this host. All methods block on the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: Those that have ended do not change any more.
        self._ended: set[str] = set()

    def create(self, batch: BatchRecord) -> None:
        """Make a batch; of very many of its key that have ended, the oldest go. Raises
        `TooManyBatches`, `OSError`."""
        make_private(self.directory)
        own = [each for each in self.all() if each.key_id == batch.key_id]
        ended = [each for each in own if each.status in ENDS]
        if len(own) - len(ended) >= _MOST_OPEN:
            raise TooManyBatches
        for each in ended[_MOST_ENDED:]:
            self.remove(each.id)
        new = self.directory / f"{batch.id}.new"
        make_private(new)
        try:
            (new / "batch.json").write_bytes(msgspec.json.encode(batch))
            new.rename(self.path(batch.id))
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def find(self, batch_id: str) -> BatchRecord | None:
        if not _ID.fullmatch(batch_id):
            return None
        try:
            batch = _decode((self.path(batch_id) / "batch.json").read_bytes())
        except (OSError, *UNREADABLE):
            return None
        is_asked = batch.status in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS)
        if is_asked and self.is_cancelled(batch_id):
            return msgspec.structs.replace(batch, status=BatchStatus.CANCELLING)
        return batch

    def write(self, batch: BatchRecord) -> None:
        """Write a record anew. Raises `OSError`."""
        new = self.path(batch.id) / "batch.new"
        new.write_bytes(msgspec.json.encode(batch))
        new.replace(self.path(batch.id) / "batch.json")

    def all(self) -> Iterator[BatchRecord]:
        """Return the batches, the newest first."""
        found = [each for each in map(self.find, self._ids()) if each is not None]
        return iter(sorted(found, key=_age_of, reverse=True))

    def open(self) -> list[BatchRecord]:
        """Return those that have not ended, the oldest first. The others are read once."""
        ids = {*self._ids()}
        self._ended &= ids
        found = [each for each in map(self.find, ids - self._ended) if each is not None]
        self._ended |= {each.id for each in found if each.status in ENDS}
        return sorted((each for each in found if each.status not in ENDS), key=_age_of)

    def cancel(self, batch_id: str) -> None:
        """Ask for the end of a batch."""
        (self.path(batch_id) / "cancel").touch(mode=0o600)

    def is_cancelled(self, batch_id: str) -> bool:
        return (self.path(batch_id) / "cancel").exists()

    def path(self, batch_id: str) -> Path:
        """Return a batch's directory."""
        return self.directory / batch_id

    def _ids(self) -> Iterator[str]:
        names = (path.name for path in self.directory.glob("batch_*"))
        return (name for name in names if _ID.fullmatch(name))

    def remove(self, batch_id: str) -> None:
        """Remove a batch that has ended; what it made are files of their own."""
        for path in self.path(batch_id).iterdir():
            path.unlink(missing_ok=True)
        self.path(batch_id).rmdir()


def _age_of(batch: BatchRecord) -> tuple[int, str]:
    return batch.created_at, batch.id


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(12)}"
