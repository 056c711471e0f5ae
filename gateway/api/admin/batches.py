"""The batches of all keys on this host."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request

from contract.key_sharing.copies import copied_keys
from contract.keys import KeyFileError, read_keys
from contract.paths import keys_path, shared_keys_path
from gateway.api.admin.guard import note_change
from gateway.api.admin.schemas import BatchBody, BatchesBody, BatchFaultBody, CancelBody
from gateway.api.openapi import ADMIN_ERRORS
from gateway.batches.batch import ENDS, BatchRecord, BatchStore
from gateway.http.errors import ApiError

router = APIRouter(responses=ADMIN_ERRORS)


@router.get("/batches", summary="The batches of all keys, the newest first")
async def list_batches(request: Request) -> BatchesBody:
    batches = _batches_of(request)
    found, names = await asyncio.to_thread(lambda: (list(batches.all()), _names_of_keys()))
    return BatchesBody(batches=[_body(each, names.get(each.key_id, "")) for each in found])


@router.post("/batches/{batch_id}/cancel", summary="Cancel a batch, whosever it is")
async def cancel_batch(request: Request, batch_id: str) -> CancelBody:
    batches = _batches_of(request)
    batch = await asyncio.to_thread(batches.find, batch_id)
    if batch is None:
        raise ApiError("batch_not_found", f"there is no batch `{batch_id}`")
    if batch.status in ENDS:
        return CancelBody(cancelled=False)
    note_change(request, f"cancel batch {batch.id} of key {batch.key_id}")
    await asyncio.to_thread(batches.cancel, batch.id)
    return CancelBody(cancelled=True)


def _batches_of(request: Request) -> BatchStore:
    batches: BatchStore = request.app.state.batches
    return batches


def _names_of_keys() -> dict[str, str]:
    """By their ids. Without the key file the batches are worth showing all the same."""
    try:
        records = read_keys(keys_path()) | copied_keys(shared_keys_path())
        return {key_id: record.name for key_id, record in records.items()}
    except (KeyFileError, OSError):
        return {}


def _body(batch: BatchRecord, key_name: str) -> BatchBody:
    faults = [
        BatchFaultBody(code=each.code, message=each.message, line=each.line)
        for each in batch.faults
    ]
    return BatchBody(
        id=batch.id,
        key_id=batch.key_id,
        key_name=key_name,
        endpoint=batch.endpoint,
        status=batch.status,
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        created_unix_s=batch.created_at,
        expires_unix_s=batch.expires_at,
        ended_unix_s=batch.ended_at,
        faults=faults,
    )
