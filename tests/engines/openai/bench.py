"""An openai worker in this process between a scripted server and a client; Valkey, HTTP and the
engine are real."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from contract.config import ModelConfig, WorkerSpec
from contract.messages import State
from tests.engines.contract.harness import Answer, Client
from tests.engines.openai.scripted_upstream import Exchange, ScriptedUpstream
from tests.waiting import until
from workers.engines.openai.engine import OpenAiEngine
from workers.worker import Worker


class Bench:
    """An upstream, workers in front of it, and a client who asks them."""

    def __init__(self, upstream: ScriptedUpstream, redis_url: str) -> None:
        self.upstream = upstream
        self.model_id = f"m-{uuid.uuid4().hex[:8]}"
        self.redis_url = redis_url
        self.client = Client(redis_url, self.model_id, 0)
        self.runs: list[asyncio.Task[None]] = []

    def worker(self, *, drain_s: float = 0.0, **model: Any) -> Worker:
        """Start a worker; it is not ready yet."""
        given = {"base_url": self.upstream.url, "upstream_model": "up", **model}
        spec = WorkerSpec(
            name=f"{self.model_id}-{len(self.runs)}",
            model_id=self.model_id,
            model=ModelConfig(engine="openai", model_path="none", **given),
            engine="openai",
            env="-",
            redis_url=self.redis_url,
            drain_s=drain_s,
        )
        worker = Worker(spec, OpenAiEngine(spec))
        self.runs.append(asyncio.create_task(worker.run()))
        return worker

    async def ready(self, **model: Any) -> Worker:
        """Start a worker, and return when it is ready."""
        worker = self.worker(**model)
        await until(lambda: worker.state is State.READY or self.runs[-1].done())
        if self.runs[-1].done():
            await self.runs[-1]
        return worker

    async def ask(self, *question: str, **how: Any) -> Answer:
        return await self.client.ask(*question, **how)

    async def close(self) -> None:
        await self.client.close()
        for run in self.runs:
            run.cancel()
        await asyncio.gather(*self.runs, return_exceptions=True)


def says(*pieces: str, then: Callable[[Exchange], Awaitable[None] | None] | None = None) -> Any:
    """Return an upstream that says the pieces and finishes, or does something else then."""

    async def answer(exchange: Exchange) -> None:
        for piece in pieces:
            await exchange.say(piece)
        after = then(exchange) if then is not None else exchange.finish()
        if after is not None:
            await after

    return answer


async def never(_: Exchange) -> None:
    await asyncio.Event().wait()
