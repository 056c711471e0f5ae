"""Embeddings pass through the openai engine."""

from __future__ import annotations

import json
from array import array

import pytest

from contract.asked import Pooling
from tests.engines.openai.bench import Bench
from tests.engines.openai.scripted_upstream import Exchange


async def test_vectors_come_back_in_the_order_of_their_inputs(bench: Bench) -> None:
    async def answer(exchange: Exchange) -> None:
        data = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2.5]}]
        usage = {"prompt_tokens": 7, "total_tokens": 7}
        body = json.dumps({"object": "list", "data": data, "usage": usage})
        await exchange.reply(body, "application/json")

    await bench.ready()
    bench.upstream.answer = answer
    said = await bench.ask(pooling=Pooling(("a", (1, 2)), 2))
    assert bench.upstream.exchanges[-1].path == "/v1/embeddings"
    assert bench.upstream.asked == {
        "model": "up",
        "input": ["a", [1, 2]],
        "encoding_format": "float",
        "dimensions": 2,
    }
    assert said.vectors == {0: array("f", [1, 2.5]).tobytes(), 1: array("f", [3, 4]).tobytes()}
    assert said.done.prompt_tokens == 7


@pytest.mark.parametrize(
    "body", ["{}", '{"data": [{"index": 1, "embedding": [1]}]}', '{"data": [1]}', "oops"]
)
async def test_what_are_no_vectors_ends_its_job_alone(bench: Bench, body: str) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.reply(body, "application/json")

    worker = await bench.ready()
    bench.upstream.answer = answer
    failed = (await bench.ask(pooling=Pooling(("a",)))).failed
    assert failed.code == "upstream_failed"
    assert not worker.outbox.died.done()
