"""Reranking and scores by models of embeddings."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import httpx
import pytest

from contract.messages import Done, VectorDelta
from gateway.api.vllm.scoring import Reranked, Scores
from tests.gateway.scripted_worker import ScriptedWorker

QUERY, FAR, NEAR, NOTHING = (1.0, 0.0), (0.0, 2.0), (3.0, 3.0), (0.0, 0.0)


async def ask(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, vectors: Any, **body: Any
) -> Any:
    asking = asyncio.create_task(client.post(path, json=body))
    attempt = await worker.start()
    assert attempt.job.embedding is not None
    assert len(attempt.job.embedding.inputs) == len(vectors)
    packed = [array("f", vector).tobytes() for vector in vectors]
    said = (VectorDelta("", b"", 0, None, n, each) for n, each in enumerate(packed))
    await worker.say(attempt, *said, Done(("stop",), 7, 0))
    response = await asking
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_the_most_relevant_document_comes_first(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    body = {"model": model, "query": "q", "documents": ["far", "near", "nothing"]}
    vectors = (QUERY, FAR, NEAR, NOTHING)
    answer = await ask(client, worker, path, vectors, **body)
    Reranked.model_validate(answer)
    found = [(each["index"], each["document"]["text"]) for each in answer["results"]]
    assert found == [(1, "near"), (0, "far"), (2, "nothing")]
    scores = [each["relevance_score"] for each in answer["results"]]
    assert scores == pytest.approx([0.5**0.5, 0, 0])
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    best = await ask(client, worker, path, vectors, **body, top_n=1)
    assert [each["index"] for each in best["results"]] == [1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")],
)
async def test_scores_of_pairs_by_any_of_vllms_names(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, one: str, other: str
) -> None:
    pairs = {one: ["a", "b"], other: ["c", "d"]}
    answer = await ask(client, worker, "/score", (QUERY, FAR, NEAR, FAR), model=model, **pairs)
    Scores.model_validate(answer)
    assert [each["score"] for each in answer["data"]] == pytest.approx([0.5**0.5, 1])
    beside = {one: "a", other: ["c", "d"]}
    answer = await ask(client, worker, "/v1/score", (QUERY, FAR, NEAR), model=model, **beside)
    assert [each["score"] for each in answer["data"]] == pytest.approx([0, 0.5**0.5])


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/rerank", {"query": "q", "documents": []}),
        ("/rerank", {"query": "q", "documents": ["a"], "instruction": "be strict"}),
        ("/rerank", {"query": "q", "documents": ["a"] * 2_048}),
        ("/score", {"queries": ["a", "b"], "documents": ["c", "d", "e"]}),
        ("/v2/rerank", {"query": "q"}),
    ],
)
async def test_what_cannot_be_scored_is_refused_as_openai_does(
    client: httpx.AsyncClient, model: str, path: str, given: dict[str, Any]
) -> None:
    response = await client.post(path, json={"model": model, **given})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"
