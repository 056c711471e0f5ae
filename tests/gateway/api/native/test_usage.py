"""The usage of a key, as its owner may ask for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from contract.bus.claims import Ended
from contract.bus.queue import JobQueue
from contract.keys import make_key
from contract.messages import Job, Sampling
from contract.usage import JobUse
from tests.contract.queue_workers import begin_one, put_one, serve
from tests.gateway.conftest import Gateway

USAGE = "/api/v1/usage"


async def use(queue: JobQueue, db: Redis, key: str, tokens: int) -> None:
    await serve(queue)
    job = Job(f"of-{key}", queue.model, Sampling(), prompt="a secret", key_id=key)
    bounds: dict[str, Any] = {"max_waiting": 9, "deadline_ms": 9999}
    await put_one(queue, job, "ew:out:g", "0", **bounds)
    attempt = await begin_one(queue, db, "w")
    await queue.complete("w", [Ended(attempt, "done", JobUse(tokens, 1, 2, 0, 1500))])


async def test_a_key_sees_what_it_used_and_nothing_of_others(
    client: httpx.AsyncClient, gateway: Gateway, db: Redis, model: str
) -> None:
    queue = JobQueue(db, model)
    key = gateway.key.record.id
    await use(queue, db, key, 10)
    await use(queue, db, "another", 70)
    answer = await client.get(USAGE)
    today = datetime.now(UTC).date()
    assert answer.status_code == 200
    body = answer.json()
    first = today - timedelta(29)
    assert (body["since"], body["until"]) == (first.isoformat(), today.isoformat())
    (row,) = [each for each in body["usage"] if each["model"] == model]
    assert row.pop("day") in (today.isoformat(), (today - timedelta(1)).isoformat())
    assert row == {
        "key": None,
        "model": model,
        "requests": 1,
        "errors": 0,
        "cancelled": 0,
        "promptTokens": 10,
        "cachedTokens": 1,
        "completionTokens": 2,
        "reasoningTokens": 0,
        "engineSeconds": 1.5,
    }
    assert "secret" not in answer.text
    by_key = (await client.get(USAGE, params={"by": "key"})).json()["usage"]
    assert [each["key"] for each in by_key] == [key]
    refused = await client.get(USAGE, params={"all": "true"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
    past = {"until": str(today - timedelta(2))}
    assert (await client.get(USAGE, params=past)).json()["usage"] == []


async def test_an_administrator_sees_what_all_keys_used(
    gateway: Gateway, db: Redis, model: str
) -> None:
    queue = JobQueue(db, model)
    await use(queue, db, "anna", 10)
    await use(queue, db, "bert", 70)
    admin = make_key("ops", admin=True)
    gateway.write_keys(gateway.key, admin)
    headers = {"X-API-Key": admin.text}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers) as client:
        found = (await client.get(USAGE, params={"all": True})).json()["usage"]
    gateway.write_keys(gateway.key)
    used = {row["key"]: row["promptTokens"] for row in found if row["model"] == model}
    assert used == {"anna": 10, "bert": 70}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"since": "2026-05-02", "until": "2026-05-01"}, "since"),
        ({"since": "2020-01-01", "until": "2026-05-01"}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"until": "0001-01-01", "since": "0001-02-01"}, "since"),
        ({"by": "prompt"}, "by"),
    ],
)
async def test_days_that_are_none_are_refused(
    client: httpx.AsyncClient, asked: dict[str, str], field: str
) -> None:
    answer = await client.get(USAGE, params=asked)
    assert answer.status_code == 422, answer.text
    assert field in answer.json()["field"]


async def test_the_first_day_of_all_is_one(client: httpx.AsyncClient) -> None:
    assert (await client.get(USAGE, params={"until": "0001-01-01"})).status_code == 200
