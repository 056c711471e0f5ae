"""Embeddings as the official client asks for them and reads them."""

from __future__ import annotations

import asyncio
import base64
from array import array
from typing import Any

import httpx
import openai
import pytest

from contract.messages import Done, Started, VectorDelta
from gateway.api.pooling.embeddings import Embeddings
from tests.gateway.scripted_worker import ScriptedWorker

VECTORS = ([0.5, -1.0], [0.25, 2.0])


def vector(number: int) -> VectorDelta:
    return VectorDelta("", b"", 0, None, number, array("f", VECTORS[number]).tobytes())


async def test_the_client_reads_the_vectors_in_the_order_of_their_inputs(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    # The client itself asks for base64 where nothing is said.
    for more in ({}, {"encoding_format": "float"}, {"dimensions": 2, "user": "me"}):
        given: Any = more
        asking = asyncio.create_task(
            openai_client.embeddings.create(model=model, input=["a", "b"], **given)
        )
        attempt = await worker.next()
        # One comes again, as when a worker is lost.
        events = (vector(1), vector(1), vector(0), Done(("stop",), 5, 0))
        await worker.say(attempt, Started(), *events)
        answer = await asking
        assert [each.embedding for each in answer.data] == [*VECTORS]
        assert [each.index for each in answer.data] == [0, 1]
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 5)
        assert attempt.job.pooling is not None
        assert attempt.job.pooling.inputs == ("a", "b")
        assert attempt.job.pooling.dimensions == given.get("dimensions")


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ("a",)), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
async def test_inputs_come_in_four_forms(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, given: Any, inputs: Any
) -> None:
    body = {"model": model, "input": given, "encoding_format": "base64"}
    asking = asyncio.create_task(client.post("/v1/embeddings", json=body))
    attempt = await worker.next()
    await worker.say(attempt, Started(), vector(0), Done(("stop",), 5, 0))
    answer = (await asking).json()
    Embeddings.model_validate(answer)
    assert base64.b64decode(answer["data"][0]["embedding"]) == vector(0).vector
    assert attempt.job.pooling is not None
    assert attempt.job.pooling.inputs == inputs


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input[0].constrained-str"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, more: Any, param: str
) -> None:
    response = await client.post("/v1/embeddings", json={"model": model, **more})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
