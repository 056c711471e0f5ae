"""API keys: listed from the key file, made and ended by this host's supervisor."""

from __future__ import annotations

import asyncio
import time

import msgspec
from fastapi import APIRouter, Request, Response

from contract.keys import KeyFileError, KeyRecord, read_keys
from contract.paths import keys_path
from contract.supervision.control import AddKey
from gateway.admin.supervisor import make_key, revoke_key
from gateway.api.admin.guard import note_change
from gateway.api.admin.schemas import KeyAddition, KeyBody, KeysBody, NewKeyBody
from gateway.api.inference import read
from gateway.api.openapi import ADMIN_CHANGE_ERRORS, json_request
from gateway.http.errors import ApiError

router = APIRouter(responses=ADMIN_CHANGE_ERRORS)


@router.get("/keys", summary="All API keys, the newest first; their secrets are kept nowhere")
async def list_keys() -> KeysBody:
    records = (await _records()).values()
    newest_first = sorted(records, key=lambda each: each.created_unix_s, reverse=True)
    return KeysBody(keys=[_body(each) for each in newest_first])


@router.post(
    "/keys",
    status_code=201,
    summary="Make an API key",
    openapi_extra=json_request(KeyAddition),
)
async def add_key(request: Request) -> NewKeyBody:
    asked = await read(request, KeyAddition)
    now = time.time()
    addition = AddKey(
        name=asked.name,
        models=tuple(asked.models),
        expires_unix_s=None if asked.expires_in_s is None else now + asked.expires_in_s,
        metrics=asked.metrics,
        admin=asked.admin,
        weight=asked.weight,
        priority=asked.priority,
    )
    note_change(request, msgspec.json.encode(addition).decode())
    made = await make_key(addition)
    return NewKeyBody(id=made.key_id, key=made.text)


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    summary="Revoke an API key; its open answers end within a second",
)
async def delete_key(request: Request, key_id: str) -> Response:
    record = (await _records()).get(key_id)
    if record is None or not record.is_live(time.time()):
        raise ApiError("not_found", f"there is no live key `{key_id}`")
    note_change(request, f"revoke key {record.id} ({record.name})")
    await revoke_key(record.id)
    return Response(status_code=204)


async def _records() -> dict[str, KeyRecord]:
    try:
        return await asyncio.to_thread(read_keys, keys_path())
    except (KeyFileError, OSError):
        raise ApiError("keys_unreadable", "the API keys cannot be read at the moment") from None


def _body(record: KeyRecord) -> KeyBody:
    return KeyBody(
        id=record.id,
        name=record.name,
        state=record.state(time.time()),
        models=list(record.models),
        created_unix_s=record.created_unix_s,
        expires_unix_s=record.expires_unix_s,
        revoked_unix_s=record.revoked_unix_s,
        admin=record.admin,
        metrics=record.metrics,
        anonymous=bool(record.anonymous),
        priority=record.priority,
        weight=record.weight,
        group=record.group,
        limits=msgspec.to_builtins(record.limits),
    )
