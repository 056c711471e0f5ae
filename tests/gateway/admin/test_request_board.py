"""Open requests of a gateway with several processes, told by any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from redis.asyncio import Redis

from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.bus.views.request_board import RequestBoard
from contract.keys import make_key
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker
from tests.waiting import until

ADMIN = "/api/v1/admin"


async def _ask(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/api/v1/inference", json={"modelId": "m", "prompt": "x"})
    return answer.status_code, answer.json()


async def _serve(db: Redis, processes: int) -> bool:
    """Whether so many processes of gateways do."""
    return len(await Heartbeats(db, GATEWAYS).alive()) == processes


async def test_any_process_tells_and_cancels_the_requests_of_all(
    own_valkey: Any, new_gateway: Callable[..., Gateway]
) -> None:
    key = make_key("ops", admin=True)
    gateway = new_gateway(own_valkey.url, key, gateway={"processes": 2})
    db: Redis = connect(own_valkey.url)
    async with db, ScriptedWorker(own_valkey.url, "m") as worker, client_of(gateway) as client:
        await until(lambda: gateway.answers_ready())
        await until(lambda: _serve(db, 2))
        assert not await RequestBoard(db).is_watched()
        assert not await RequestBoard(db).read(), "written though nobody looks"
        await worker.take_none()
        asking = [asyncio.create_task(_ask(client)) for _ in range(24)]

        async def listed() -> list[dict[str, Any]]:
            # A connection of its own each time, so that both processes are asked.
            async with client_of(gateway) as other:
                found: list[dict[str, Any]] = (await other.get(f"{ADMIN}/requests")).json()["open"]
            return found

        async def all_are_listed() -> bool:
            """Return whether both processes list all: each tells the other's a moment later."""
            return all([len(await listed()) == len(asking) for _ in range(8)])

        await until(all_are_listed)
        found = await listed()
        assert {each["state"] for each in found} == {"waiting"}
        assert max(each["position"] for each in found) > 0
        assert len(await RequestBoard(db).read()) == 2
        for each in found:
            answer = await client.post(f"{ADMIN}/requests/{each['job_id']}/cancel")
            assert answer.json() == {"cancelled": True}
        ended = await asyncio.gather(*asking)
        assert {(status, body["code"]) for status, body in ended} == {(503, "cancelled")}
