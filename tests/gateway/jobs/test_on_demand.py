"""Jobs for models that are loaded on demand wait for them, and their clients hear how it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from contract.bus.client import connect
from contract.bus.heartbeats import HOSTS, Heartbeats
from contract.bus.queue import JobQueue
from contract.bus.registration import Registration, end_registration, renew_registrations
from contract.condition import Condition
from contract.host_beat import HostBeat
from contract.messages import State
from contract.process.tasks import cancel_and_wait
from tests.conftest import ValkeyServer
from tests.contract.queue_workers import count_waiting
from tests.gateway.conftest import LOOK_OFTEN, Gateway, client_of, stays_open
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import streaming
from tests.waiting import until

ASK = {"modelId": "m", "prompt": "x"}
STREAM = "/api/v1/inference/stream"
MODELS = {"m": {"engine": "mock", "model_path": "none", "load": "on-demand"}}
QUEUE_TIMEOUT_S = 0.6


@pytest.fixture
def gateway(new_gateway: Callable[..., Gateway], own_valkey: ValkeyServer) -> Gateway:
    limits = {"queue_timeout_s": QUEUE_TIMEOUT_S, "total_timeout_s": 30.0}
    return new_gateway(own_valkey.url, models=MODELS, limits=limits, constants=LOOK_OFTEN)


class Supervisor:
    """Says of model `m` what a supervisor would, again and again."""

    def __init__(self) -> None:
        self.word: Registration | None = Registration()


@asynccontextmanager
async def supervising(redis_url: str) -> AsyncIterator[Supervisor]:
    supervisor, db = Supervisor(), connect(redis_url)

    async def announce() -> None:
        while True:
            stage = supervisor.word.stage if supervisor.word else ""
            beat = HostBeat("here", models={"m": Condition(State.STOPPED, stage)})
            await Heartbeats(db, HOSTS).beat("here", beat, ready=True)
            if supervisor.word is None:
                await end_registration(db, "m", "here")
            else:
                await renew_registrations(db, "here", {"m": supervisor.word})
            await asyncio.sleep(0.05)

    announcing = asyncio.create_task(announce())
    try:
        yield supervisor
    finally:
        await cancel_and_wait([announcing])
        await db.aclose()


async def until_it_is_welcome(gateway: Gateway) -> None:
    """Return once the gateway has seen the registration."""
    async with client_of(gateway) as client:
        while True:
            models = (await client.get("/api/v1/models")).json()["models"]
            if models[0]["state"] != "stopped" or models[0].get("stage"):
                return
            await asyncio.sleep(0.05)


async def until_a_job_waits(gateway: Gateway) -> None:
    """Return once a job is in the queue."""
    db = connect(gateway.redis_url)
    await until(lambda: count_waiting(JobQueue(db, "m")))
    await db.aclose()


async def test_a_job_waits_for_its_model_and_its_client_hears_how_it_goes(gateway: Gateway) -> None:
    async with supervising(gateway.redis_url) as supervisor, client_of(gateway) as client:
        supervisor.word = Registration("loading: weights", eta_s=7.0)
        await until_it_is_welcome(gateway)
        async with streaming(client, STREAM, ASK) as (_, events):
            first = await anext(events)
            # Longer than jobs may wait for a place; but this one waits for its model.
            following = asyncio.create_task(anext(events))
            await stays_open(following, 2 * QUEUE_TIMEOUT_S)
            supervisor.word = Registration("loading: graphs", eta_s=2.0)
            told = [each.json for each in (first, await following)]
            async with ScriptedWorker(gateway.redis_url, "m") as worker:
                await worker.answer("a", "b")
                rest = [event.name async for event in events]
    assert [(each["stage"], each["etaS"]) for each in told] == [
        ("loading: weights", 7.0),
        ("loading: graphs", 2.0),
    ]
    assert rest == ["", "", "done"]


async def test_who_waits_for_a_model_that_cannot_be_loaded_is_told_why(gateway: Gateway) -> None:
    async with supervising(gateway.redis_url) as supervisor, client_of(gateway) as client:
        supervisor.word = Registration("waiting for its turn")
        await until_it_is_welcome(gateway)
        asking = asyncio.create_task(client.post("/api/v1/inference", json=ASK))
        await until_a_job_waits(gateway)
        supervisor.word = Registration(problem="`m` needs 99 GiB")
        waited = await asking
        at_once = await client.post("/api/v1/inference", json=ASK)
    for refused in (waited, at_once):
        assert refused.status_code == 503
        assert refused.json()["code"] == "model_cannot_load"
        assert "`m` needs 99 GiB" in refused.json()["message"]
        assert int(refused.headers["retry-after"]) > 0


async def test_when_nobody_loads_the_model_any_more_waiting_ends(gateway: Gateway) -> None:
    async with supervising(gateway.redis_url) as supervisor, client_of(gateway) as client:
        supervisor.word = Registration("loading")
        await until_it_is_welcome(gateway)
        asking = asyncio.create_task(client.post("/api/v1/inference", json=ASK))
        await until_a_job_waits(gateway)
        supervisor.word = None
        refused = await asking
        assert (refused.status_code, refused.json()["code"]) == (504, "queue_timeout")
        refused = await client.post("/api/v1/inference", json=ASK)
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_started")


async def test_clients_of_openai_hear_nothing_that_they_do_not_know(gateway: Gateway) -> None:
    ask = {"model": "m", "prompt": "x", "stream": True}
    async with supervising(gateway.redis_url) as supervisor, client_of(gateway) as client:
        supervisor.word = Registration("loading", eta_s=7.0)
        await until_it_is_welcome(gateway)
        async with streaming(client, "/v1/completions", ask) as (_, events):
            # A comment keeps the connection busy; the rest is the answer.
            told = [await anext(events)]
            async with ScriptedWorker(gateway.redis_url, "m") as worker:
                await worker.answer("a")
                told += [event async for event in events]
    assert (told[0].name, told[0].data) == (":", "loading, about 7 s")
    assert {event.name for event in told} == {":", ""}
    assert not any("loading" in event.data for event in told if event.name == "")
