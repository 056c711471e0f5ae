"""API keys: listed from the key file; made, changed and ended by this host's supervisor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from contract.bus.records.last_uses import read_last_uses
from contract.key_sharing.copies import copied_keys, read_copy
from contract.keys import KeyFileError, KeyRecord, read_keys
from contract.paths import keys_path, shared_keys_path
from contract.supervision.control import AddKey, ChangeKey, KeyMade, RevokeKey, RotateKey
from gateway.admin.supervisor import change_key, make_key
from gateway.api.admin.guard import note_change
from gateway.api.admin.key_bodies import (
    KeyAddition,
    KeyBody,
    KeyChange,
    KeyRotation,
    KeysBody,
    NewKeyBody,
    key_body,
)
from gateway.api.inference import read
from gateway.api.openapi import ADMIN_CHANGE_ERRORS, json_request
from gateway.http.errors import ApiError
from gateway.lifecycle.process import process_of

T = TypeVar("T")
router = APIRouter(responses=ADMIN_CHANGE_ERRORS)


@router.get("/keys", summary="All API keys, the newest first; their secrets are kept nowhere")
async def list_keys(request: Request) -> KeysBody:
    own, shared = await _read(read_keys, keys_path()), await _read(read_copy, shared_keys_path())
    copies = await _read(copied_keys, shared_keys_path())
    hosts = dict.fromkeys(copies, shared.host if shared else "")
    everything = (own | copies).values()
    newest_first = sorted(everything, key=lambda each: each.created_unix_s, reverse=True)
    uses, now = await _last_uses(request), time.time()
    keys = [key_body(each, now, uses.get(each.id), hosts.get(each.id, "")) for each in newest_first]
    return KeysBody(keys=keys)


@router.post(
    "/keys",
    status_code=201,
    summary="Make an API key",
    openapi_extra=json_request(KeyAddition),
)
async def add_key(request: Request) -> NewKeyBody:
    asked = await read(request, KeyAddition)
    sharing = process_of(request).key_sharing
    if sharing.follows:
        raise _elsewhere(f"keys are made on `{sharing.source}`")
    given = asked.model_dump(exclude={"models", "expires_in_s"})
    ends = None if asked.expires_in_s is None else time.time() + asked.expires_in_s
    addition = AddKey(models=tuple(asked.models), expires_unix_s=ends, **given)
    note_change(request, msgspec.json.encode(addition).decode())
    return _shown_once(await make_key(addition))


@router.patch(
    "/keys/{key_id}",
    summary="Change the limits of an API key, its group, or what is said of it",
    openapi_extra=json_request(KeyChange),
)
async def patch_key(request: Request, key_id: str) -> KeyBody:
    asked = await read(request, KeyChange)
    record = await _live(key_id)
    limits = asked.limits.named() if asked.limits else {}
    change = ChangeKey(record.id, asked.words(), asked.group, limits)
    note_change(request, msgspec.json.encode(change).decode())
    await change_key(change)
    uses = await _last_uses(request)
    return key_body(await _live(key_id), time.time(), uses.get(key_id))


@router.post(
    "/keys/{key_id}/rotate",
    status_code=201,
    summary="Make a new key with the rights of one, which ends after `overlap_s`",
    openapi_extra=json_request(KeyRotation),
)
async def rotate_key(request: Request, key_id: str) -> NewKeyBody:
    asked = await read(request, KeyRotation)
    record = await _live(key_id)
    rotation = RotateKey(record.id, asked.overlap_s)
    note_change(request, f"{msgspec.json.encode(rotation).decode()} ({record.name})")
    return _shown_once(await make_key(rotation))


@router.delete(
    "/keys/{key_id}",
    status_code=204,
    summary="Revoke an API key; its open answers end within a second",
)
async def delete_key(request: Request, key_id: str) -> Response:
    record = await _live(key_id)
    note_change(request, f"revoke key {record.id} ({record.name})")
    await change_key(RevokeKey(record.id))
    return Response(status_code=204)


async def _live(key_id: str) -> KeyRecord:
    record = (await _read(read_keys, keys_path())).get(key_id)
    shared = await _read(read_copy, shared_keys_path())
    if shared and any(each.id == key_id for each in shared.records):
        raise _elsewhere(f"this key is changed on `{shared.host}`")
    if record is None or not record.is_live(time.time()):
        raise ApiError("not_found", f"there is no live key `{key_id}`")
    return record


def _elsewhere(where: str) -> ApiError:
    return ApiError("refused", f"{where}, whose keys this host follows; ask the gateway there")


async def _read(read_from: Callable[[Path], T], path: Path) -> T:
    """Return what a file about keys says. Raises `ApiError`."""
    try:
        return await asyncio.to_thread(read_from, path)
    except (KeyFileError, OSError):
        raise ApiError("keys_unreadable", "the API keys cannot be read at the moment") from None


async def _last_uses(request: Request) -> dict[str, float]:
    """Return what is known of them; the keys are worth showing while Redis is away, too."""
    try:
        return await read_last_uses(process_of(request).db)
    except (RedisError, OSError):
        return {}


def _shown_once(made: KeyMade) -> NewKeyBody:
    return NewKeyBody(id=made.key_id, key=made.text)
