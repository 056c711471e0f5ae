"""Streams of server-sent events that have no end of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import orjson
from fastapi import Request
from fastapi.responses import StreamingResponse

from gateway.http.headers import context_of
from gateway.lifecycle.process import process_of
from gateway.streams import sse

_LOOK_EVERY_S: Final = 0.5
_TEXT_HEADERS: Final = {name.decode(): value.decode() for name, value in sse.HEADERS}


def json_event(data: Any, name: str = "") -> bytes:
    """Return one event with JSON data."""
    return sse.event(orjson.dumps(data), name=name)


def endless(request: Request, look: Callable[[], Awaitable[bytes]]) -> StreamingResponse:
    """Answer with what `look` finds, again and again. It ends with the process, and with the key
    that asks."""
    return StreamingResponse(_events(request, look), headers=_TEXT_HEADERS)


async def _events(request: Request, look: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    process, key = process_of(request), context_of(request.scope).key
    # The head goes out at once, whatever is found.
    yield sse.HEARTBEAT
    spoke_at = time.monotonic()
    while not process.is_leaving and key is not None and process.keys.is_live(key):
        now = time.monotonic()
        if found := await look():
            spoke_at = now
            yield found
        elif now - spoke_at >= sse.HEARTBEAT_EVERY_S:
            spoke_at = now
            yield sse.HEARTBEAT
        await asyncio.sleep(_LOOK_EVERY_S)
