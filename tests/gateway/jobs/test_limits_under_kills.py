"""Limits and usage while gateways, workers and the server are killed: a key never gets more than
its limit and one request for each kill, and all that it was answered is counted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.records.usage_accounts import UsageAccounts, UsageCounts
from contract.config import ModelConfig, WorkerSpec
from contract.keys import NewKey
from tests.conftest import ValkeyServer
from tests.engines.contract.harness import WorkerProcess
from tests.gateway.conftest import Gateway
from tests.waiting import until

LIMIT = 60
TOKENS = 30


class Asker:
    """Asks one of several gateways without pause, whatever it is answered."""

    def __init__(self, gateways: list[Gateway], key: NewKey) -> None:
        self._gateways = gateways
        self._headers = {"x-api-key": key.text}
        self.answered = 0
        self.refused = 0

    async def run(self, number: int) -> None:
        body = {"modelId": "m", "prompt": "count", "maxTokens": TOKENS}
        async with httpx.AsyncClient(timeout=30, headers=self._headers) as client:
            while True:
                number += 1
                url = self._gateways[number % len(self._gateways)].url
                try:
                    answer = await client.post(f"{url}/api/v1/inference", json=body)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                self.answered += answer.status_code == 200
                self.refused += answer.status_code == 429
                await asyncio.sleep(0.02)


def a_worker(server: ValkeyServer, name: str, directory: Path) -> WorkerProcess:
    model = ModelConfig(engine="mock", model_path="none", engine_args={"tokens_per_s": 60})
    names = {"name": name, "model_id": "m", "engine": "mock", "env": "-"}
    spec = WorkerSpec(model=model, redis_url=server.url, **names)
    return WorkerProcess(spec, sys.executable, {}, directory / f"{name}.log")


async def used(server: ValkeyServer, key: NewKey) -> UsageCounts:
    """Return what a key has used, once nothing of it is open any more."""
    db = connect(server.url)
    try:
        await until(lambda: _is_empty(JobQueue(db, "m")), 40)
        day = datetime.now(UTC).date()
        rows = await UsageAccounts(db).report(day - timedelta(1), day, by=(), key=key.record.id)
        return rows[0].counts
    finally:
        await db.aclose()


async def _is_empty(queue: JobQueue) -> bool:
    return await queue.unfinished() == 0


@pytest.mark.slow
async def test_kills_give_a_key_no_more_than_its_limit_and_lose_no_usage(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    limits = {"per_key": {"requests_per_minute": LIMIT}}
    first = new_gateway(own_valkey.url, limits=limits)
    gateways = [first, new_gateway(own_valkey.url, first.key, limits=limits)]
    workers = [a_worker(own_valkey, f"w{n}", tmp_path) for n in range(2)]
    for worker in workers:
        await worker.wait_until_ready(60)
    asker = Asker(gateways, first.key)
    tasks = [asyncio.create_task(asker.run(n)) for n in range(6)]
    kills = 0
    try:
        for turn in range(2):
            await until(lambda n=4 * (turn + 1): _reached(asker, n), 40)
            gateways[turn].kill()
            gateways[turn].start()
            workers[turn].kill()
            workers[turn] = a_worker(own_valkey, f"x{turn}", tmp_path)
            own_valkey.kill()
            own_valkey.start()
            kills += 3
        await until(lambda: _is_refused(asker), 60)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    counts = await used(own_valkey, first.key)
    for worker in workers:
        worker.kill()
    assert asker.answered >= LIMIT // 2, "hardly anything was asked"
    assert asker.answered <= counts.requests <= LIMIT + kills
    assert counts.completion_tokens >= asker.answered * TOKENS
    assert counts.completion_tokens <= counts.requests * TOKENS


async def _reached(asker: Asker, answered: int) -> bool:
    return asker.answered >= answered


async def _is_refused(asker: Asker) -> bool:
    return asker.refused >= 12
