"""The access log of a real gateway: a line for each request, and what is in it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.logs.file import LogFile, logs_of
from tests.gateway.conftest import Gateway, client_of
from tests.gateway.scripted_worker import ScriptedWorker
from tests.waiting import eventually

INFER, STREAM = "/api/v1/inference", "/api/v1/inference/stream"
ASK = {"modelId": "m", "prompt": "secret words"}


@pytest.fixture(scope="module")
def logging_gateway(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that writes JSON."""
    config = {
        "models": {"access-test": {"engine": "mock", "model_path": "none"}},
        "gateway": {"processes": 1},
        "logs": {"format": "json"},
    }
    started = Gateway(tmp_path_factory.mktemp("gateway"), redis_url, config)
    started.start()
    yield started
    assert started.stop() == 0


def path_of(gateway: Gateway) -> Path:
    return gateway.directory / "logs" / "access.log"


def lines_of(gateway: Gateway) -> list[dict[str, Any]]:
    path = path_of(gateway)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def line_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        return next((each for each in lines_of(gateway) if each["request_id"] == request_id), None)

    line: dict[str, Any] = await asyncio.to_thread(eventually, found)
    return line


async def test_a_line_says_who_asked_what_and_how_it_went(logging_gateway: Gateway) -> None:
    body = {"modelId": "access-test", "prompt": "secret words"}
    async with (
        ScriptedWorker(logging_gateway.redis_url, "access-test") as worker,
        client_of(logging_gateway) as client,
    ):
        await asyncio.to_thread(logging_gateway.wait_until_ready)
        asking = asyncio.create_task(client.post(f"{INFER}?token=secret", json=body))
        attempt = await worker.answer("hidden", "words")
        answer = await asking
    line = await line_of(logging_gateway, answer.headers["x-request-id"])
    usage = answer.json()["usage"]
    assert {key: line[key] for key in ("method", "path", "status", "model", "finish")} == {
        "method": "POST",
        "path": INFER,
        "status": 200,
        "model": "access-test",
        "finish": "stop",
    }
    assert line["key_id"] == logging_gateway.key.record.id
    assert line["job_id"] == attempt.job.id
    assert (line["prompt_tokens"], line["completion_tokens"]) == (usage["promptTokens"], 2)
    assert 0 <= line["queue_ms"] <= line["first_token_ms"] <= line["duration_ms"]
    assert "error" not in line
    assert not re.search("secret|hidden|words", path_of(logging_gateway).read_text())
    assert logging_gateway.key.text not in path_of(logging_gateway).read_text()


async def test_a_refusal_has_its_code(logging_gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=logging_gateway.url) as client:
        answer = await client.post(INFER, json=ASK)
    line = await line_of(logging_gateway, answer.headers["x-request-id"])
    assert (line["status"], line["error"]) == (401, "missing_api_key")
    assert "key_id" not in line


async def test_a_client_that_leaves_is_told_from_an_end(logging_gateway: Gateway) -> None:
    body = {"modelId": "access-test", "prompt": "x"}
    async with (
        ScriptedWorker(logging_gateway.redis_url, "access-test") as worker,
        client_of(logging_gateway) as client,
    ):
        await asyncio.to_thread(logging_gateway.wait_until_ready)
        headers = {"x-request-id": "leaver"}
        async with client.stream("POST", STREAM, json=body, headers=headers) as answer:
            attempt = await worker.start()
            await worker.delta(attempt, "a")
            assert answer.status_code == 200
        line = await line_of(logging_gateway, "leaver")
    assert (line["status"], line["error"]) == (200, "client_left")


async def test_probes_have_no_lines_unless_they_fail(logging_gateway: Gateway) -> None:
    async with client_of(logging_gateway) as client:
        await client.get("/health/live", headers={"x-request-id": "probe"})
        await client.get("/nowhere", headers={"x-request-id": "after"})
    assert (await line_of(logging_gateway, "after"))["status"] == 404
    assert "probe" not in {each["request_id"] for each in lines_of(logging_gateway)}


async def test_the_processes_own_lines_are_json_too(logging_gateway: Gateway) -> None:
    lines = logging_gateway.log.read_text().splitlines()
    mine = [json.loads(line) for line in lines if line.startswith('{"time":')]
    said = next(each for each in mine if "serves" in each["message"])
    assert (said["level"], said["logger"]) == ("INFO", "gateway.lifecycle.process")


async def test_logs_are_read_in_either_form(
    logging_gateway: Gateway, new_gateway: Callable[..., Gateway]
) -> None:
    texts = new_gateway(logging_gateway.redis_url)
    for gateway in (logging_gateway, texts):
        async with client_of(gateway) as client:
            await client.get("/nowhere", headers={"x-request-id": "read"})
        directory = path_of(gateway).parent
        await asyncio.to_thread(eventually, lambda d=directory: logs_of(d, "access"))
        (path,) = logs_of(directory, "access")
        line = LogFile(path).last(1)[0]
        assert (line.process, line.level) == ("gateway[0]", "INFO")
        assert line.message.startswith("access: GET /nowhere 404")
        assert logs_of(directory, None) == []
    assert "request_id=read client=127.0.0.1 duration_ms=" in path_of(texts).read_text()


async def test_it_can_be_turned_off(redis_url: str, new_gateway: Callable[..., Gateway]) -> None:
    gateway = new_gateway(redis_url, logs={"access": False})
    async with client_of(gateway) as client:
        assert (await client.get("/nowhere")).status_code == 404
    await asyncio.to_thread(gateway.stop)
    assert not path_of(gateway).exists()


async def test_the_last_lines_are_written_at_a_stop(
    redis_url: str, new_gateway: Callable[..., Gateway]
) -> None:
    gateway = new_gateway(redis_url)
    async with client_of(gateway) as client:
        await client.get("/nowhere")
    await asyncio.to_thread(gateway.stop)
    assert "GET /nowhere 404" in path_of(gateway).read_text()
    assert path_of(gateway).stat().st_mode & 0o777 == 0o600
