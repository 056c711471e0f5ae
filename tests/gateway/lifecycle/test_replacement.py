"""SIGHUP: what serves is replaced, and no client notices."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pytest

from contract.bus.client import connect
from contract.bus.heartbeats import GATEWAYS, Heartbeats
from contract.gateway_beat import GatewayBeat
from contract.process.tasks import cancel_and_wait
from tests.gateway.conftest import Gateway, served
from tests.gateway.sse_client import collect, have, reading
from tests.waiting import until

STREAM = "/api/v1/inference/stream"
ASK = {"modelId": "m", "prompt": "x"}


async def _serving(redis_url: str) -> dict[str, int]:
    """The gateway processes that beat, by name."""
    db = connect(redis_url)
    try:
        bodies = await Heartbeats(db, GATEWAYS).alive()
    finally:
        await db.aclose()
    beats = [msgspec.msgpack.decode(body, type=GatewayBeat) for body in bodies]
    return {beat.name: beat.pid for beat in beats}


@contextlib.asynccontextmanager
async def _knocking(gateway: Gateway) -> AsyncIterator[list[str]]:
    """Asks again and again, on new connections; whatever went wrong is in the list."""
    wrong: list[str] = []

    async def knock() -> None:
        while True:
            try:
                async with httpx.AsyncClient() as client:
                    status = (await client.get(f"{gateway.url}/health/live")).status_code
                if status != 200:
                    wrong.append(f"status {status}")
            except httpx.TransportError as error:
                wrong.append(repr(error))
            await asyncio.sleep(0.002)

    knocking = [asyncio.create_task(knock()) for _ in range(4)]
    try:
        yield wrong
    finally:
        await cancel_and_wait(knocking)


@pytest.mark.parametrize("processes", [1, 3])
async def test_open_streams_go_on_and_the_port_is_always_answered(
    new_gateway: Callable[..., Gateway], own_valkey: Any, processes: int
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": processes, "drain_timeout_s": 1})
    assert gateway.process is not None

    async def all_serve() -> dict[str, int] | None:
        found = await _serving(own_valkey.url)
        return found if len(found) == processes else None

    async with served(gateway) as (worker, client), contextlib.AsyncExitStack() as stack:
        before = await until(all_serve, 40)
        asked = [reading(client, STREAM, ASK) for _ in range(6)]
        answers = [await stack.enter_async_context(each) for each in asked]
        attempts = [await worker.start() for _ in answers]
        for attempt in attempts:
            await worker.delta(attempt, "a")
        await have(answers, "a")
        gateway.config["gateway"] = {"processes": 2, "drain_timeout_s": 1}
        gateway.write_config()

        async def two_more_serve() -> bool:
            return len((await _serving(own_valkey.url)).keys() - before.keys()) == 2

        async with _knocking(gateway) as wrong:
            gateway.process.send_signal(signal.SIGHUP)
            await until(two_more_serve, 40)
            # The answers that the former processes have open are still to come.
            for attempt in attempts:
                await worker.delta(attempt, "b")
                await worker.done(attempt)
            ended = [await answer.whole() for answer in answers]

            async def the_former_are_gone() -> bool:
                return not (await _serving(own_valkey.url)).keys() & before.keys()

            await until(the_former_are_gone, 40)
        assert not wrong
        for events in ended:
            assert [event.name for event in events if event.name != ":"] == ["", "", "done"]
        # And once more: now none of the processes is the first one.
        once = await _serving(own_valkey.url)
        gateway.process.send_signal(signal.SIGHUP)

        async def all_are_new() -> bool:
            found = (await _serving(own_valkey.url)).keys()
            return len(found) == 2 and not found & once.keys()

        await until(all_are_new, 40)
        asking = asyncio.create_task(collect(client, STREAM, ASK))
        await worker.done(await worker.start())
        await asking
    assert await asyncio.to_thread(gateway.stop) == 0
    assert "Traceback" not in gateway.log.read_text()


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_file_that_cannot_be_used_replaces_nothing(
    new_gateway: Callable[..., Gateway], own_valkey: Any, processes: int
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": processes})
    assert gateway.process is not None
    good = dict(gateway.config["gateway"])

    async def all_serve() -> bool:
        return len(await _serving(own_valkey.url)) == processes

    await until(all_serve, 40)
    gateway.config["gateway"] = {"procesess": 2}
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(
        gateway.wait_until, lambda: "nothing is replaced" in gateway.log.read_text(), 20
    )
    assert gateway.answers("/health/live")
    before = await _serving(own_valkey.url)
    gateway.config["gateway"] = good
    gateway.write_config()
    gateway.process.send_signal(signal.SIGHUP)

    async def are_replaced() -> bool:
        found = (await _serving(own_valkey.url)).keys()
        return len(found) == processes and not found & before.keys()

    await until(are_replaced, 40)
    assert await asyncio.to_thread(gateway.stop) == 0


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_stop_amid_a_replacement_leaves_nothing(
    new_gateway: Callable[..., Gateway], own_valkey: Any, processes: int
) -> None:
    gateway = new_gateway(own_valkey.url, gateway={"processes": processes})
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    assert await asyncio.to_thread(gateway.stop, 40) == 0
    assert not gateway.answers("/health/live")
    assert not await _serving(own_valkey.url)
