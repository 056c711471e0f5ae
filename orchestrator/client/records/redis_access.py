"""The Redis of this installation, asked by a command itself: no gateway need run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

from contract.bus.client import RedisClient, connect
from contract.config import Config
from orchestrator.errors import UserError
from orchestrator.system.valkey import embedded_url

T = TypeVar("T")


def ask_redis(config: Config, ask: Callable[[RedisClient], Awaitable[T]]) -> T:
    """Return what Redis says. Raises `UserError` if it does not answer."""

    async def run() -> T:
        db = connect(config.redis.url or embedded_url(), connections=1)
        try:
            return await ask(db)
        except RedisError as error:
            hint = "check `redis.url`" if config.redis.url else "`./ew start` starts one"
            raise UserError(f"no Redis answers: {error}", hint) from None
        finally:
            await db.aclose()

    return asyncio.run(run())
