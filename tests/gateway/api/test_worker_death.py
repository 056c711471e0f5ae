"""Streams of every API go on where their worker died, as one answer."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from contract.bus.client import connect
from contract.bus.heartbeats import Heartbeats
from contract.bus.queue import JobQueue
from contract.config import ModelConfig, WorkerSpec
from tests.engines.contract.harness import WorkerProcess
from tests.gateway.conftest import Gateway

ASKED: list[Any] = [{"role": "user", "content": "[[think=6]]"}]
THOUGHT = "".join(f"{token} " for token in range(6))
SAID = "".join(f"{token} " for token in range(6, 20))


class Pair:
    """Two workers of one model, either of which may die."""

    def __init__(self, redis_url: str, model: str, directory: Path) -> None:
        self.model = model
        self.db = connect(redis_url)
        config = ModelConfig(engine="mock", model_path="none", engine_args={"tokens_per_s": 20})
        self.workers = {
            name: WorkerProcess(
                WorkerSpec(
                    name=name,
                    model_id=model,
                    model=config,
                    engine="mock",
                    env="-",
                    redis_url=redis_url,
                ),
                sys.executable,
                {},
                directory / f"{name}.log",
            )
            for name in (f"{model}-1", f"{model}-2")
        }

    async def kill_the_busy_one(self) -> None:
        """Kill the worker that has a job, and have its lease end, as the supervisor does."""
        queue = JobQueue(self.db, self.model)
        (name,) = [each for each in self.workers if await queue.held(each)]
        self.workers.pop(name).kill()
        await Heartbeats(self.db, self.model).leave(name)


@pytest.fixture
async def pair(redis_url: str, model: str, tmp_path: Path) -> AsyncIterator[Pair]:
    made = Pair(redis_url, model, tmp_path)
    try:
        for worker in made.workers.values():
            await worker.wait_until_ready(60)
        yield made
    finally:
        for worker in made.workers.values():
            worker.kill()
        await made.db.aclose()


async def test_a_message_survives_the_death_of_its_worker(gateway: Gateway, pair: Pair) -> None:
    asked = {"model": pair.model, "messages": ASKED, "max_tokens": 20}
    pieces = 0
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key.text) as client,
        client.messages.stream(**asked) as stream,
    ):
        async for event in stream:
            pieces += event.type == "content_block_delta"
            if pieces == 9 and len(pair.workers) == 2:
                await pair.kill_the_busy_one()
        final = await stream.get_final_message()
    assert len(pair.workers) == 1
    thinking, text = final.content
    assert (thinking.type, thinking.thinking) == ("thinking", THOUGHT)  # type: ignore[union-attr]
    assert (text.type, text.text) == ("text", SAID)  # type: ignore[union-attr]
    assert final.usage.output_tokens == 20


async def test_a_response_survives_the_death_of_its_worker(gateway: Gateway, pair: Pair) -> None:
    asked: dict[str, Any] = {"model": pair.model, "input": ASKED, "max_output_tokens": 20}
    async with (
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key.text) as client,
        client.responses.stream(**asked) as stream,
    ):
        async for event in stream:
            if event.type == "response.output_text.delta" and len(pair.workers) == 2:
                await pair.kill_the_busy_one()
    assert event.type == "response.incomplete"
    final = event.response
    assert len(pair.workers) == 1
    thought, said = final.output
    assert thought.content[0].text == THOUGHT  # type: ignore[union-attr,index]
    assert said.content[0].text == SAID  # type: ignore[union-attr,index]
    assert final.usage is not None
    assert final.usage.output_tokens == 20
