"""Limits and usage while gateways, workers and the server are killed: a key never gets more than
its limit and one request for each kill, and no count of usage loses more than the last second."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from contract.bus.client import connect
from contract.bus.queue import JobQueue
from contract.bus.records.usage_accounts import UsageAccounts, UsageCounts
from contract.config import ModelConfig, WorkerSpec
from contract.keys import NewKey, make_key
from contract.limits import KeyLimits
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import count_unfinished
from tests.engines.contract.harness import WorkerProcess
from tests.gateway.conftest import Gateway
from tests.waiting import until

TOKENS = 120
TOKENS_PER_S = 60
#: Of the key that is held to requests in a minute, and of the one that has tokens for a day.
REQUESTS = 40
BUDGET = 30 * TOKENS
AT_ONCE = 4


class Asker:
    """Asks one of several gateways without pause, whatever it is answered."""

    def __init__(self, gateways: list[Gateway], key: NewKey) -> None:
        self._gateways = gateways
        self.key = key
        self.began_at: list[float] = []
        self.answered = 0
        self.refused = 0
        #: Of all answers, also of those that broke off.
        self.tokens = 0

    async def run(self, number: int) -> None:
        headers = {"x-api-key": self.key.text}
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            while True:
                number += 1
                try:
                    await self._ask(client, self._gateways[number % len(self._gateways)].url)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.02)

    async def _ask(self, client: httpx.AsyncClient, url: str) -> None:
        body = {"modelId": "m", "prompt": "count", "maxTokens": TOKENS}
        async with client.stream("POST", f"{url}/api/v1/inference/stream", json=body) as answer:
            self.refused += answer.status_code == 429
            if answer.status_code != 200:
                return
            self.began_at.append(time.monotonic())
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    self.tokens += len(event.get("text", "").split())
                    self.answered += "finishReason" in event


def a_worker(server: ValkeyServer, name: str, directory: Path) -> WorkerProcess:
    script = {"tokens_per_s": TOKENS_PER_S}
    model = ModelConfig(engine="mock", model_path="none", engine_args=script)
    names = {"name": name, "model_id": "m", "engine": "mock", "env": "-"}
    spec = WorkerSpec(model=model, redis_url=server.url, **names)
    return WorkerProcess(spec, sys.executable, {}, directory / f"{name}.log")


async def used(server: ValkeyServer, key: NewKey) -> UsageCounts:
    """Return what a key has used, once nothing of it is open any more."""
    db = connect(server.url)
    try:
        await until(lambda: _is_empty(JobQueue(db, "m")), 60)
        day = datetime.now(UTC).date()
        rows = await UsageAccounts(db).report(day - timedelta(1), day, by=(), key=key.record.id)
        return rows[0].counts
    finally:
        await db.aclose()


async def _is_empty(queue: JobQueue) -> bool:
    return await count_unfinished(queue) == 0


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(at <= each < at + 60 for each in times) for at in times)


@pytest.mark.slow
async def test_kills_give_a_key_no_more_than_its_limit_and_lose_no_usage(
    own_valkey: ValkeyServer, new_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    first = new_gateway(own_valkey.url)
    gateways = [first, new_gateway(own_valkey.url, first.key)]
    bounds = [KeyLimits(requests_per_minute=REQUESTS), KeyLimits(tokens_per_day=BUDGET)]
    askers = [Asker(gateways, make_key("limited", limits=each)) for each in bounds]
    for gateway in gateways:
        gateway.write_keys(first.key, *(asker.key for asker in askers))
    workers = [a_worker(own_valkey, f"w{n}", tmp_path) for n in range(2)]
    for worker in workers:
        await worker.wait_until_ready(60)
    tasks = [asyncio.create_task(each.run(n)) for each in askers for n in range(AT_ONCE)]
    kills = 0
    try:
        for turn in range(2):
            await until(lambda n=2 * (turn + 1): all(_has(each, n) for each in askers), 60)
            gateways[turn].kill()
            gateways[turn].start()
            workers[turn].kill()
            workers[turn] = a_worker(own_valkey, f"x{turn}", tmp_path)
            own_valkey.kill()
            own_valkey.start()
            kills += 3
        await until(lambda: all(each.refused >= 12 for each in askers), 90)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        by_requests, by_tokens = [await used(own_valkey, each.key) for each in askers]
    finally:
        for worker in workers:
            worker.kill()
    assert most_in_a_minute(askers[0].began_at) <= REQUESTS + kills
    assert by_tokens.prompt_tokens + by_tokens.completion_tokens <= BUDGET + kills * TOKENS
    for asker, counts in zip(askers, (by_requests, by_tokens), strict=True):
        assert asker.answered > kills, "hardly anything was asked"
        assert asker.answered <= counts.requests
        # Each kill may lose the last second of what ran.
        lost = kills * AT_ONCE * TOKENS_PER_S
        assert asker.tokens - lost <= counts.completion_tokens <= counts.requests * TOKENS
        assert counts.completion_tokens >= asker.answered * TOKENS


def _has(asker: Asker, answered: int) -> bool:
    return asker.answered >= answered
