"""Asking Redis again while it does not answer: for a while, or for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis.exceptions import OutOfMemoryError, RedisError

from gateway.http.errors import ApiError
from gateway.jobs.patient_link import BackendDown

log = logging.getLogger(__name__)
_PATIENCE_S: Final = 5.0
_RETRY_S: Final = 0.1
_SLOW_RETRY_S: Final = 1.0
T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask for a few seconds, while a client waits. Raises `ApiError`."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except OutOfMemoryError:
            raise ApiError("queue_full", "the queue's memory is full") from None
        except (RedisError, OSError) as error:
            if time.monotonic() > deadline:
                raise BackendDown from error
        await asyncio.sleep(_RETRY_S)


async def persistently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until Redis answers."""
    while True:
        try:
            return await ask()
        except (RedisError, OSError) as error:
            log.warning("asking Redis again in %s s: %s", _SLOW_RETRY_S, error)
        await asyncio.sleep(_SLOW_RETRY_S)
