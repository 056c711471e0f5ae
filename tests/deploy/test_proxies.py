"""nginx, Caddy and Traefik by the examples of deploy/proxies, in front of a real gateway."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from contract.bus.claims import Attempt
from contract.keys import make_key
from contract.process.ports import free_port
from tests.certificates import Authority
from tests.deploy.proxies import PROXIES, Place, Proxy
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import Event, streaming

pytestmark = pytest.mark.slow
STREAM = "/api/v1/inference/stream"
BODY: dict[str, Any] = {"modelId": "m", "prompt": "x"}
#: Longer than the minute that nginx and Traefik wait, if they are not told otherwise.
SILENCE_S = 64.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def behind(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that knows its proxies, and itself by the name that clients use."""
    gateway = Gateway(
        tmp_path_factory.mktemp("behind"),
        redis_url,
        {
            "models": {"m": {"engine": "mock", "model_path": "none"}},
            "gateway": {
                "processes": 1,
                "trusted_proxies": ["127.0.0.1"],
                "allowed_hosts": ["localhost"],
            },
            "limits": {"token_gap_timeout_s": 4 * SILENCE_S},
        },
    )
    gateway.start()
    yield gateway
    assert gateway.stop() == 0, gateway.log.read_text()


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    behind: Gateway,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp(request.param)
    certificate = authority.issue(request.param, "localhost")
    place = Place(directory, free_port(), behind.port, certificate)
    started = PROXIES[request.param](place)
    yield started
    started.stop()


def connect(proxy: Proxy, gateway: Gateway, authority: Authority) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=proxy.url,
        headers={"X-API-Key": gateway.key.text},
        verify=authority.client(),
        timeout=SILENCE_S + 30,
    )


async def _begin(worker: ScriptedWorker, text: str) -> Attempt:
    attempt = await worker.start()
    await worker.delta(attempt, text)
    return attempt


async def test_each_token_comes_before_the_next_is_made(
    proxy: Proxy, behind: Gateway, authority: Authority
) -> None:
    async with (
        ScriptedWorker(behind.redis_url, "m") as worker,
        connect(proxy, behind, authority) as client,
    ):
        saying = asyncio.create_task(_begin(worker, "0"))
        async with streaming(client, STREAM, BODY) as (answer, events):
            assert answer.status_code == 200
            attempt = await saying
            for number in range(1, 20):
                assert (await anext(events)).json["text"] == str(number - 1)
                await worker.delta(attempt, str(number))
            await worker.done(attempt)


async def test_a_client_that_leaves_frees_its_worker(
    proxy: Proxy, behind: Gateway, authority: Authority
) -> None:
    async with ScriptedWorker(behind.redis_url, "m") as worker:
        async with connect(proxy, behind, authority) as client:
            saying = asyncio.create_task(_begin(worker, "a"))
            async with streaming(client, STREAM, BODY) as (_, events):
                attempt = await saying
                await anext(events)
        await worker.wait_for_cancellation(attempt.job.id, 3)


async def test_a_new_configuration_cuts_no_answer(
    proxy: Proxy, behind: Gateway, authority: Authority
) -> None:
    if proxy.reloads_by_itself:
        pytest.skip("Traefik reads its routes again by itself")
    async with (
        ScriptedWorker(behind.redis_url, "m") as worker,
        connect(proxy, behind, authority) as client,
    ):
        saying = asyncio.create_task(_begin(worker, "before"))
        async with streaming(client, STREAM, BODY) as (_, events):
            attempt = await saying
            assert (await anext(events)).json["text"] == "before"
            await asyncio.to_thread(proxy.reload)
            async with connect(proxy, behind, authority) as another:
                assert (await another.get("/health/ready")).status_code == 200
            await worker.delta(attempt, "after")
            assert (await anext(events)).json["text"] == "after"
            await worker.done(attempt)


async def test_wrong_keys_are_counted_by_the_clients_own_address(
    proxy: Proxy, behind: Gateway, authority: Authority
) -> None:
    async def guess(client: httpx.AsyncClient, claimed: str) -> int:
        headers = {"X-API-Key": make_key("wrong").text, "X-Forwarded-For": claimed}
        return (await client.get("/api/v1/models", headers=headers)).status_code

    number = list(PROXIES).index(proxy.log.parent.name.rstrip("0123456789"))

    def from_address(last: int) -> httpx.AsyncClient:
        # Each proxy has its own guessers: all are in front of one gateway.
        transport = httpx.AsyncHTTPTransport(
            verify=authority.client(), local_address=f"127.0.{number}.{last}"
        )
        return httpx.AsyncClient(base_url=proxy.url, transport=transport, timeout=30)

    async with from_address(2) as guesser, from_address(3) as other:
        codes = [await guess(guesser, f"6.6.6.{claim}") for claim in range(40)]
        assert 429 in codes
        assert await guess(other, "6.6.6.6") == 401


def test_clients_get_http_2(proxy: Proxy, authority: Authority) -> None:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_version}", "--http2"]
    command += ["--cacert", str(authority.file), f"{proxy.url}/health/live"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2"


@pytest.mark.timeout(200)
async def test_a_long_silence_cuts_no_answer(
    behind: Gateway, authority: Authority, tmp_path: Path
) -> None:
    """Neither a stream, which has comments meanwhile, nor an answer that comes whole: through all
    proxies at once."""
    started: list[Proxy] = []
    try:
        for name, start in PROXIES.items():
            directory = tmp_path / name
            directory.mkdir()
            certificate = authority.issue(f"{name}-2", "localhost")
            started.append(start(Place(directory, free_port(), behind.port, certificate)))
        async with ScriptedWorker(behind.redis_url, "m") as worker, AsyncExitStack() as stack:
            silent = [await _silent(each, behind, authority, worker, stack) for each in started]
            await asyncio.sleep(SILENCE_S)
            for each in silent:
                await each.is_whole(worker)
    finally:
        for each in started:
            each.stop()


class _Silent(NamedTuple):
    """A stream of which the first word is there, and an answer that comes whole."""

    streams: Attempt
    events: AsyncIterator[Event]
    waits: Attempt
    answer: asyncio.Task[httpx.Response]

    async def is_whole(self, worker: ScriptedWorker) -> None:
        await worker.delta(self.streams, "b")
        comments = 0
        while (event := await anext(self.events)).name == ":":
            comments += 1
        assert comments >= 5
        assert event.json["text"] == "b"
        await worker.done(self.streams)
        await worker.done(self.waits)
        assert (await self.answer).json()["text"] == "a"


async def _silent(
    proxy: Proxy,
    gateway: Gateway,
    authority: Authority,
    worker: ScriptedWorker,
    stack: AsyncExitStack,
) -> _Silent:
    client = await stack.enter_async_context(connect(proxy, gateway, authority))
    answer = asyncio.create_task(client.post("/api/v1/inference", json=BODY))
    waits = await _begin(worker, "a")
    saying = asyncio.create_task(_begin(worker, "a"))
    _, events = await stack.enter_async_context(streaming(client, STREAM, BODY))
    assert (await anext(events)).json["text"] == "a"
    return _Silent(await saying, events, waits, answer)
