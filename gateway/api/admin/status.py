"""The status of this host."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Request, Response

from gateway.admin.host_status import HostStatusChanges, read_host_status
from gateway.api.admin.events import endless, json_event
from gateway.api.openapi import ADMIN_ERRORS, HOST_STATUS, HOST_STATUS_STREAM

router = APIRouter()


@router.get(
    "/status",
    summary="What runs on the gateway's host, as `./ew status --json` prints it",
    responses={200: HOST_STATUS, **ADMIN_ERRORS},
    response_class=Response,
)
def get_status() -> Response:
    return Response(msgspec.json.encode(read_host_status()), media_type="application/json")


@router.get(
    "/status/stream",
    summary="The same, and then what changes",
    responses={200: HOST_STATUS_STREAM, **ADMIN_ERRORS},
    response_class=Response,
)
async def stream_status(request: Request) -> Response:
    changes = HostStatusChanges()
    name = "status"

    async def look() -> bytes:
        nonlocal name
        if not (changed := await asyncio.to_thread(changes.look)):
            return b""
        found, name = json_event(changed, name), "change"
        return found

    return endless(request, look)
