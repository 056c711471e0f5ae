"""Batches in OpenAI's API."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from gateway.api.batches.bodies import BatchList, BatchObject, BatchRequest
from gateway.api.batches.disk_errors import told_of_disk
from gateway.api.batches.endpoints import ENDPOINTS
from gateway.api.batches.files import files_of, own_file
from gateway.api.inference import read
from gateway.api.openapi import OPENAI_ERRORS, OPENAI_GENERATION_ERRORS, json_request
from gateway.batches.batch import (
    ENDS,
    BatchRecord,
    BatchStore,
    TooManyBatches,
    new_batch_id,
)
from gateway.http.errors import ApiError, invalid
from gateway.http.headers import context_of

router = APIRouter(prefix="/v1/batches", tags=["batches"])


def _batches_of(request: Request) -> BatchStore:
    batches: BatchStore = request.app.state.batches
    return batches


@router.post(
    "",
    summary="Begin a batch",
    openapi_extra=json_request(BatchRequest),
    responses=OPENAI_GENERATION_ERRORS,
)
async def create_batch(request: Request) -> BatchObject:
    asked = await read(request, BatchRequest)
    if asked.endpoint not in ENDPOINTS:
        raise invalid("endpoint", f"must be one of {', '.join(ENDPOINTS)}")
    file = await own_file(request, asked.input_file_id)
    window_s, now = asked.window_s(), int(time.time())
    keep_s = files_of(request).config.keep_s
    if asked.output_expires_after is not None:
        keep_s = min(keep_s, asked.output_expires_after.seconds)
    batch = BatchRecord(
        id=new_batch_id(),
        key_id=file.key_id,
        endpoint=asked.endpoint,
        input_file_id=file.id,
        completion_window=asked.completion_window,
        created_at=now,
        expires_at=now + window_s,
        output_keep_s=keep_s,
        metadata=asked.metadata,
    )
    try:
        with told_of_disk():
            await asyncio.to_thread(_batches_of(request).create, batch)
    except TooManyBatches as problem:
        raise ApiError("limit_reached", str(problem)) from None
    return BatchObject.of(batch)


@router.get("", summary="The batches of this key, the newest first", responses=OPENAI_ERRORS)
async def list_batches(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
) -> BatchList:
    key = context_of(request.scope).key
    all_of_host = await asyncio.to_thread(lambda: list(_batches_of(request).all()))
    found = [each for each in all_of_host if key is not None and each.key_id == key.id]
    return BatchList.of(found, BatchObject.of, after, limit)


@router.get("/{batch_id}", summary="A batch", responses=OPENAI_ERRORS)
async def retrieve_batch(request: Request, batch_id: str) -> BatchObject:
    return BatchObject.of(await _own_batch(request, batch_id))


@router.post("/{batch_id}/cancel", summary="Cancel a batch", responses=OPENAI_ERRORS)
async def cancel_batch(request: Request, batch_id: str) -> BatchObject:
    batch = await _own_batch(request, batch_id)
    if batch.status in ENDS:
        raise ApiError("batch_has_ended", f"the batch is {batch.status.value} already")
    with told_of_disk():
        await asyncio.to_thread(_batches_of(request).cancel, batch_id)
    return BatchObject.of(await _own_batch(request, batch_id))


async def _own_batch(request: Request, batch_id: str) -> BatchRecord:
    """Return a batch of the key that asks. Raises `ApiError`."""
    key = context_of(request.scope).key
    batch = await asyncio.to_thread(_batches_of(request).find, batch_id)
    if batch is None or key is None or batch.key_id != key.id:
        raise ApiError("batch_not_found", "there is no such batch, or it is no longer kept")
    return batch
