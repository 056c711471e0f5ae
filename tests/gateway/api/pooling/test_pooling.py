"""Classes, what models say of tokens, and embeddings in Cohere's words: from a body to a job, and
from what a worker says to the answer. Answers have the shape of those that a real vLLM gave."""

from __future__ import annotations

import asyncio
import base64
from array import array
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from contract.asked import Pooling, Template
from contract.messages import ChatMessage, Done, Job, VectorDelta
from tests.engines.pooling.answers import Recorded, recorded, shape_of
from tests.gateway.scripted_worker import ScriptedWorker

#: Fields that are always null or 0 here in vLLM's answers, by their object; ew leaves them out.
_OF_VLLM_ALONE = {
    "usage": {"completion_tokens", "prompt_tokens_details", "completion_tokens_details"},
    "document": {"multi_modal"},
}


def vector(number: int, numbers: Sequence[float], **more: Any) -> VectorDelta:
    return VectorDelta("", b"", number=number, vector=array("f", numbers).tobytes(), **more)


async def ask(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, said: Any, **body: Any
) -> tuple[Any, Job]:
    asking = asyncio.create_task(client.post(path, json=body))
    attempt = await worker.start()
    await worker.say(attempt, *said, Done(("stop",), 7, 0))
    response = await asking
    assert response.status_code == 200, response.text
    return response.json(), attempt.job


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
async def test_each_input_has_the_probabilities_of_the_classes(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    said = [vector(0, [0.25, 0.75], label="glad"), vector(1, [1, 0])]
    answer, job = await ask(client, worker, path, said, model=model, input=["a", "b"])
    assert answer["data"] == [
        {"index": 0, "label": "glad", "probs": [0.25, 0.75], "num_classes": 2},
        {"index": 1, "label": None, "probs": [1, 0], "num_classes": 2},
    ]
    assert job.pooling == Pooling(("a", "b"), task="classify")


@pytest.mark.parametrize("path", ["/pooling", "/v1/pooling"])
async def test_vectors_of_tokens_come_in_pieces_and_are_put_together(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    said = [
        vector(0, [1, 2, 3, 4], row=0, rows=2),
        vector(0, [5, 6], row=2, rows=1),
        # It comes again, as when a worker is lost.
        vector(0, [5, 6], row=2, rows=1),
        vector(1, [7, 8], row=0, rows=1),
    ]
    answer, job = await ask(client, worker, path, said, model=model, input=["a", "b"])
    assert [each["data"] for each in answer["data"]] == [[[1, 2], [3, 4], [5, 6]], [[7, 8]]]
    assert job.pooling == Pooling(("a", "b"), task="any")
    body = {"model": model, "input": ["a", "b"], "encoding_format": "base64"}
    answer, job = await ask(client, worker, path, said, **body, task="token_embed")
    whole = [array("f", base64.b64decode(each["data"])).tolist() for each in answer["data"]]
    assert whole == [[1, 2, 3, 4, 5, 6], [7, 8]]
    assert job.pooling == Pooling(("a", "b"), task="token_embed")


async def test_a_chat_is_pooled_as_one_input(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    chat = [{"role": "user", "content": "hi"}]
    for path in ("/classify", "/pooling", "/v1/embeddings"):
        _, job = await ask(client, worker, path, [vector(0, [1])], model=model, messages=chat)
        assert job.messages == (ChatMessage("user", "hi"),)
        assert job.pooling is not None
        assert job.pooling.inputs == ()
        # The prompt is not left open for an answer.
        assert job.template == Template(add_generation_prompt=False)


async def test_cohere_gets_each_type_that_it_asks_for(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    numbers = [1.0, -1, 0, -2, 3, 4, -5, 6, -1]
    types = ["float", "base64", "binary", "ubinary"]
    body = {"model": model, "texts": ["a"], "embedding_types": types, "output_dimension": 9}
    said = [vector(0, numbers)]
    answer, job = await ask(client, worker, "/v2/embed", said, **body, input_type="search")
    got = answer["embeddings"]
    assert got["float"] == [numbers]
    assert base64.b64decode(got["base64"][0]) == array("f", numbers).tobytes()
    assert got["ubinary"] == [[0b10101101, 0]]
    assert got["binary"] == [[0b10101101 - 128, -128]]
    assert answer["meta"]["billed_units"]["input_tokens"] == 7
    assert job.pooling == Pooling(("a",), 9, input_type="search")
    # As much as fits, unless it is told otherwise.
    assert job.truncate_prompt_tokens == -1


@pytest.mark.parametrize(
    ("more", "cut", "keeps"),
    [
        ({"truncate": "NONE"}, None, None),
        ({"truncate": "START"}, -1, "last"),
        ({"truncate": "END", "max_tokens": 5}, 5, None),
    ],
)
async def test_cohere_says_what_is_cut(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, more: Any, cut: Any, keeps: Any
) -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {"model": model, "inputs": [{"content": content}], **more}
    _, job = await ask(client, worker, "/v2/embed", [vector(0, [1])], **body)
    assert job.truncate_prompt_tokens == cut
    assert job.pooling == Pooling(("a\nb",), keeps=keeps)


@pytest.mark.parametrize(
    ("path", "given", "param"),
    [
        ("/classify", {}, None),
        ("/classify", {"input": "a", "messages": [{"role": "user", "content": "b"}]}, None),
        ("/classify", {"input": []}, "input"),
        ("/classify", {"input": "a", "padding": "max_length"}, "padding"),
        ("/pooling", {"input": "a", "task": "plugin"}, "task"),
        ("/pooling", {"input": "a", "dimensions": 3}, "dimensions"),
        ("/pooling", {"input": "a", "encoding_format": "bytes"}, "encoding_format"),
        ("/pooling", {"input": "a", "embed_dtype": "float16"}, "embed_dtype"),
        ("/pooling", {"input": "a", "endianness": "big"}, "endianness"),
        ("/v1/embeddings", {"input": "a", "endianness": "big"}, "endianness"),
        ("/v2/embed", {}, None),
        ("/v2/embed", {"texts": ["a"], "images": ["data:"]}, "images"),
        ("/v2/embed", {"texts": ["a"], "embedding_types": ["int8"]}, "embedding_types[0]"),
        ("/v2/embed", {"texts": ["a"], "truncate": "NONE", "max_tokens": 3}, "max_tokens"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, model: str, path: str, given: dict[str, Any], param: str | None
) -> None:
    response = await client.post(path, json={"model": model, **given})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param


def _said(each: Recorded) -> list[VectorDelta]:
    """Return what a worker says for an answer of such a shape."""
    body = each.body
    if "embeddings" in body:
        count = max(len(vectors) for vectors in body["embeddings"].values() if vectors)
        return [vector(number, [1.0] * 8) for number in range(count)]
    if "results" in body:
        return [vector(number, [0.5]) for number in range(len(each.asked["documents"]))]
    said = []
    for number, item in enumerate(body["data"]):
        data = item.get("data")
        is_of_tokens = isinstance(data, list) and isinstance(data[0], list)
        rows = {"rows": 2} if is_of_tokens else {"label": "calm"}
        said.append(vector(number, [0.5, 0.5], **rows))
    return said


POOLED = [each for each in recorded() if each.status == 200 and each.path != "/tokenize"]


@pytest.mark.parametrize("each", POOLED, ids=str)
async def test_an_answer_has_the_shape_of_vllms(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, each: Recorded
) -> None:
    answer, _ = await ask(client, worker, each.path, _said(each), model=model, **each.asked)
    assert shape_of(answer) == shape_of(each.body, _OF_VLLM_ALONE)
