"""Responses that are kept: what their record says of what was asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from contract.bus.background_job import BackgroundJob, JobState
from contract.messages import Delta, Done, Job
from contract.wire import decode_frame
from gateway.api.responses import response
from gateway.api.responses.items import ResponseItem
from gateway.api.responses.schemas import ResponsesRequest
from gateway.api.responses.tools import CalledAs, names_of
from gateway.api.responses.wire import ResponseShape
from gateway.http.errors import ApiError

API: Final = "responses"


class KeptRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of a request: the response as it begins, all items of the conversation before
    it, of which the last `own` are the request's, and how its answer is told."""

    begun: dict[str, Any]
    items: list[dict[str, Any]]
    own: int
    names: dict[str, CalledAs]
    shows_reasoning: bool = True
    with_others: bool = False

    @classmethod
    def of(
        cls, asked: ResponsesRequest, own: int, job: Job, status: response.ResponseStatus
    ) -> KeptRequest:
        """Return what is kept of a request, and of a job that shows its model's name."""
        return cls(
            response.begun(asked, job, status),
            [item.model_dump(exclude_defaults=True) for item in asked.input],
            own,
            names_of(asked.all_tools()),
            asked.shows_reasoning,
            bool(job.sampling.logprobs),
        )

    @classmethod
    def read(cls, record: BackgroundJob) -> KeptRequest:
        """Raises `ApiError` if a record is of no response."""
        if record.about.api != API:
            raise ApiError("job_not_found", gone(record.id))
        return msgspec.msgpack.decode(record.about.asked, type=cls)

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self)

    def shape(self, ended_s: float | None = None) -> ResponseShape:
        """Return how its answer is told, now or at the time at which it ended (Unix)."""
        return ResponseShape(
            self.begun,
            self.names,
            shows_reasoning=self.shows_reasoning,
            with_others=self.with_others,
            ended_s=ended_s,
        )

    def own_items(self) -> list[dict[str, Any]]:
        """Return the request's own items, as the API lists them."""
        own = self.items[len(self.items) - self.own :]
        job_id = self.begun["id"].removeprefix(response.ID_PREFIX)
        return [
            ResponseItem.model_validate(item).listed(f"msg_{job_id}_in{number}")
            for number, item in enumerate(own)
        ]


def gone(response_id: str) -> str:
    """The words, vLLM's, for what is no response of the key, or not any more."""
    return f"Response with id '{response_id}' not found."


def shown(record: BackgroundJob, *, is_running: bool = False) -> dict[str, Any]:
    """Return the response that a record is of, as it stands. Raises `ApiError`, `UNREADABLE`."""
    kept = KeptRequest.read(record)
    match record.state:
        case JobState.OPEN:
            return {**kept.begun, "status": "in_progress" if is_running else "queued"}
        case JobState.CANCELLED:
            return {**kept.begun, "status": "cancelled"}
        case JobState.DONE:
            return _answered(record, kept)
        case _:
            return response.failed(kept.begun, failure_of(record))


def failure_of(record: BackgroundJob) -> ApiError:
    """Return why a job has failed."""
    error = record.outcome.error
    if error is None:
        return ApiError("internal_error", "it ended without an answer")
    return ApiError(error.code, error.message, retryable=error.retryable)


def conversation(record: BackgroundJob) -> Sequence[ResponseItem]:
    """Return all items up to the end of a response, for another one to go on after. Raises
    `ApiError` if it has no answer."""
    kept = KeptRequest.read(record)
    if record.state is not JobState.DONE:
        message = "`previous_response_id`: that response has no answer to go on after"
        raise ApiError("invalid_request", message, field="previous_response_id")
    output = orjson.loads(orjson.dumps(_answered(record, kept)["output"]))
    return [ResponseItem.model_validate(item) for item in (*kept.items, *output)]


def _answered(record: BackgroundJob, kept: KeptRequest) -> dict[str, Any]:
    shape = kept.shape(record.ended_ms / 1000)
    output = shape.output()
    for envelope in decode_frame(record.answer):
        if isinstance(envelope.event, Delta):
            output.add(envelope.event)
        elif isinstance(envelope.event, Done):
            return shape.ended(output, envelope.event)
    raise ApiError("internal_error", "the answer is not whole")


def listed(
    items: Sequence[Mapping[str, Any]], *, limit: int, after: str, newest_first: bool
) -> dict[str, Any]:
    """Return a page of items, those that come after the one called `after`."""
    ordered = list(reversed(items)) if newest_first else list(items)
    ids = [item["id"] for item in ordered]
    start = ids.index(after) + 1 if after in ids else 0
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": start + limit < len(ordered),
    }
