"""One bad input ends one request, and no process: seen from outside, with answers beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
import redis.asyncio

from contract.messages import Delta, Envelope
from contract.process.ports import free_port
from contract.wire import encode_frame
from tests.e2e.upstream_scenarios import SCENARIOS, play_named
from tests.engines.openai.scripted_upstream import ScriptedUpstream
from tests.gateway.api.test_hostile_bodies import CHAT, NATIVE
from tests.running_ew import Ew

pytestmark = pytest.mark.timeout(300)

log = logging.getLogger(__name__)
STREAM = "/api/v1/inference/stream"
CHAT_PATH = "/v1/chat/completions"
#: So many at once go through the one worker.
_SCENARIOS_AT_ONCE = 6
#: The most that any of the processes may have grown by when all is over.
_MOST_GROWTH_BYTES = 50 * 2**20
#: Two busy cores are slow; without load it answers in milliseconds.
_SLOWEST_LIVE_S = 10.0


class Site(NamedTuple):
    """An installation with a mock model `steady`, and `up` in front of a scripted upstream."""

    ew: Ew
    key: str
    upstream: ScriptedUpstream

    def client(self) -> httpx.AsyncClient:
        headers = {"X-API-Key": self.key}
        return httpx.AsyncClient(base_url=self.ew.url, headers=headers, timeout=60)

    async def all_pids(self) -> dict[str, int]:
        """The same, once the processes of the gateway are known: their heartbeats tell of them."""
        deadline = time.monotonic() + 20
        while "gateway 1" not in (found := await self.pids()):
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)
        return found

    async def pids(self) -> dict[str, int]:
        """Every process that serves, by what it is."""
        status = await asyncio.to_thread(self.ew.status)
        gateway = {f"gateway {i}": pid for i, pid in enumerate(status["gateway"]["processes"])}
        workers = {
            worker["slot"]: worker["pid"]
            for model in status["models"]
            for worker in model["workers"]
        }
        servers = {"gateway": status["gateway"]["pid"], "valkey": status["redis"]["pid"]}
        return {**servers, **gateway, **workers}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    upstream = ScriptedUpstream()
    upstream.answer = play_named
    await upstream.start()
    steady = {"engine": "mock", "model_path": "none", "engine_args": {"tokens_per_s": 50}}
    up = {"engine": "openai", "model_path": "none", "base_url": upstream.url}
    config = {"models": {"steady": steady, "up": {**up, "upstream_model": "up"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ew = Ew(tmp_path / "state", free_port())
    ew.environment |= {"EW_CONFIG": str(tmp_path / "config.json"), "EW_GATEWAY__PROCESSES": "2"}
    started = await asyncio.to_thread(ew.run, "start")
    assert started.returncode == 0, started.stderr
    key = (await asyncio.to_thread(ew.run, "keys", "add")).stdout.strip()
    yield Site(ew, key, upstream)
    await asyncio.to_thread(ew.run, "stop", "--now")
    await upstream.stop()


class Bystander:
    """Reads one answer after the other, and asks whether the gateway is alive."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.ends: list[str] = []
        self.slowest_live_s = 0.0
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._knock())]

    async def leave(self) -> None:
        """Read the last answer to its end."""
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _read(self) -> None:
        body = {"modelId": "steady", "prompt": "x", "maxTokens": 100}
        async with self._site.client() as client:
            while not self._over.is_set():
                async with client.stream("POST", STREAM, json=body) as answer:
                    lines = [line async for line in answer.aiter_lines()]
                ids = [line for line in lines if line.startswith("id: ")]
                assert ids == [f"id: {number}" for number in range(len(ids))]
                (end,) = [line for line in lines if line.startswith("event: ")]
                self.ends.append(end)

    async def _knock(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            async with self._site.client() as client:
                assert (await client.get("/health/live")).status_code == 200
            self.slowest_live_s = max(self.slowest_live_s, time.monotonic() - began)
            await asyncio.sleep(0.05)


async def test_no_input_ends_a_process_or_an_answer_beside_it(site: Site) -> None:
    await _play(site, "CRLF")
    before = await site.all_pids()
    rss = {pid: psutil.Process(pid).memory_info().rss for pid in before.values()}
    bystander = Bystander(site)
    await _pipeline(site)
    await _send_hostile_bodies(site)
    await _break_frames(site)
    await _play(site, *SCENARIOS)
    await bystander.leave()

    assert await site.pids() == before
    assert set(bystander.ends) == {"event: done"}
    growth = {
        name: psutil.Process(pid).memory_info().rss - rss[pid] for name, pid in before.items()
    }
    log.info("/health/live took %.3f s at most; growth: %s", bystander.slowest_live_s, growth)
    assert max(growth.values()) < _MOST_GROWTH_BYTES, growth
    assert bystander.slowest_live_s < _SLOWEST_LIVE_S


async def _pipeline(site: Site) -> None:
    """More requests in one connection than are queued, by a client without a key."""
    asked = b"GET /api/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5_000
    for _ in range(8):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.ew.port)
        writer.write(asked)
        answers = await _read_to_end(reader)
        assert 1 <= answers.count(b"HTTP/1.1 401") < 100
        writer.close()


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    data = b""
    try:
        while part := await reader.read(65_536):
            data += part
    except ConnectionResetError:
        pass
    return data


async def _send_hostile_bodies(site: Site) -> None:
    """All at once."""
    bodies = [(CHAT_PATH, body) for body in CHAT.values()]
    bodies += [(STREAM, body) for body in NATIVE.values()]
    async with site.client() as client:
        posts = (client.post(path, content=body) for path, body in bodies)
        statuses = [answer.status_code for answer in await asyncio.gather(*posts)]
    assert set(statuses) <= {400, 422}


async def _break_frames(site: Site) -> None:
    """Entries that no worker writes, in the streams of all gateway processes."""
    frame = encode_frame([Envelope("xyz", 1, 0, Delta("xyz", b""))])
    broken = frame.replace(b"xyz", b"\xff\xfe\xfd")
    valkey = psutil.Process((await site.pids())["valkey"])
    path = next(each.laddr for each in valkey.net_connections("unix") if each.laddr)
    async with redis.asyncio.Redis(unix_socket_path=str(path)) as db:
        streams = [key async for key in db.scan_iter("ew:out:*")]
        assert streams
        for key in streams:
            await db.xadd(key, {b"x": b"y"})
            await db.xadd(key, {b"f": broken})


async def _play(site: Site, *names: str) -> None:
    """Have the upstream play scenarios, each for a client that reads along and for one that waits,
    and see that both are told what came of it."""
    at_once = asyncio.Semaphore(_SCENARIOS_AT_ONCE)

    async def ask(client: httpx.AsyncClient, name: str, read: Read) -> Told:
        async with at_once:
            return await read(client, name)

    async with site.client() as client:
        for read in (_read_stream, _read_whole):
            told = await asyncio.gather(*(ask(client, name, read) for name in names))
            assert dict(zip(names, told, strict=True)) == {name: _expected(name) for name in names}


class Told(NamedTuple):
    """The end of an answer as its client knows it: all of the text, or a failure."""

    text: str = ""
    reason: str = ""
    error: str = ""


def _expected(name: str) -> Told:
    scenario = SCENARIOS[name]
    if scenario.error:
        return Told(error=scenario.error)
    return Told(scenario.text, scenario.reason)


Read = Callable[[httpx.AsyncClient, str], Awaitable[Told]]


def _question(name: str, *, stream: bool) -> dict[str, Any]:
    return {"model": "up", "messages": [{"role": "user", "content": name}], "stream": stream}


async def _read_stream(client: httpx.AsyncClient, name: str) -> Told:
    text, reason, error = "", "", ""
    async with client.stream("POST", CHAT_PATH, json=_question(name, stream=True)) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return Told(error=answer.json()["error"]["code"])
        lines = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
    for event in (json.loads(line.removeprefix("data: ")) for line in lines):
        error = event.get("error", {}).get("code", error)
        for choice in event.get("choices", ()):
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    return Told(reason=reason, error=error) if error else Told(text, reason)


async def _read_whole(client: httpx.AsyncClient, name: str) -> Told:
    answer = await client.post(CHAT_PATH, json=_question(name, stream=False))
    if answer.status_code != 200:
        return Told(error=answer.json()["error"]["code"])
    (choice,) = answer.json()["choices"]
    return Told(choice["message"]["content"], choice["finish_reason"])
