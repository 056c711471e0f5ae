"""Bodies of answers of OpenAI's API about files and batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Generic, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from gateway.api.fields import Ignored, LenientBody
from gateway.batches.batch import BatchRecord, BatchStatus, BatchUsage
from gateway.batches.file_store import FileRecord
from gateway.http.errors import invalid

_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW_S = 30 * 86_400
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]


class ListedRecord(Protocol):
    """A record that a list shows."""

    @property
    def id(self) -> str: ...


class ListedObject(BaseModel):
    """A record as a list shows it."""

    id: str


RecordType = TypeVar("RecordType", bound=ListedRecord)
ObjectType = TypeVar("ObjectType", bound=ListedObject)


class Page(BaseModel, Generic[ObjectType]):
    """A page of a list."""

    object: Literal["list"] = "list"
    data: list[ObjectType]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(
        cls,
        records: Sequence[RecordType],
        show: Callable[[RecordType], ObjectType],
        after: str | None,
        limit: int,
    ) -> Self:
        """Return the page of those after the one with the id `after`; nothing is after an id that
        no record has."""
        if after is not None:
            ids = [each.id for each in records]
            records = records[ids.index(after) + 1 :] if after in ids else []
        data = [show(each) for each in records[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first, last_id=last, has_more=len(records) > limit)


class FileObject(ListedObject):
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, record: FileRecord) -> FileObject:
        return cls(
            id=record.id,
            bytes=record.bytes,
            created_at=record.created_unix_s,
            expires_at=record.expires_unix_s,
            filename=record.filename,
            purpose=record.purpose,
        )


class FileList(Page[FileObject]):
    """Files of a key."""


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(LenientBody):
    place = "output_expires_after."
    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchRequest(LenientBody):
    input_file_id: Annotated[str, StringConstraints(max_length=64)]
    endpoint: Annotated[str, StringConstraints(max_length=64)]
    completion_window: Annotated[str, StringConstraints(max_length=16)] = Field(
        description="OpenAI's `24h`, or another number of s, m, h or d, up to 30 days."
    )
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    prompt_cache_options: Ignored = None

    def window_s(self) -> int:
        """Return how long the batch has. Raises `ApiError`."""
        found = _WINDOW.fullmatch(self.completion_window)
        seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_WINDOW_S:
            raise invalid("completion_window", "must be like `24h`, and at most 30 days")
        return seconds


class BatchErrorBody(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchErrorBody]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class InputTokensDetails(BaseModel):
    cached_tokens: int


class OutputTokensDetails(BaseModel):
    reasoning_tokens: int


class BatchUsageBody(BaseModel):
    """The tokens of all answers."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int

    @classmethod
    def of(cls, usage: BatchUsage) -> BatchUsageBody:
        return cls(
            input_tokens=usage.input_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens),
            output_tokens=usage.output_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.input_tokens + usage.output_tokens,
        )


class BatchObject(ListedObject):
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    model: str | None
    usage: BatchUsageBody | None

    @classmethod
    def of(cls, batch: BatchRecord) -> BatchObject:
        def ended(status: BatchStatus) -> int | None:
            return batch.ended_at if batch.status is status else None

        faults = [
            BatchErrorBody(code=each.code, line=each.line, message=each.message, param=each.param)
            for each in batch.faults
        ]
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=BatchErrors(data=faults) if faults else None,
            input_file_id=batch.input_file_id,
            completion_window=batch.completion_window,
            status=batch.status,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=batch.created_at,
            in_progress_at=batch.in_progress_at,
            expires_at=batch.expires_at,
            finalizing_at=batch.finalizing_at,
            completed_at=ended(BatchStatus.COMPLETED),
            failed_at=ended(BatchStatus.FAILED),
            expired_at=ended(BatchStatus.EXPIRED),
            cancelling_at=batch.cancelling_at,
            cancelled_at=ended(BatchStatus.CANCELLED),
            request_counts=RequestCounts(
                total=batch.total, completed=batch.completed, failed=batch.failed
            ),
            metadata=batch.metadata,
            model=batch.model,
            usage=BatchUsageBody.of(batch.usage) if batch.usage else None,
        )


class BatchList(Page[BatchObject]):
    """Batches of a key."""
