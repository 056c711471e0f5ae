"""Reranking and scores: whichever model makes them, the worker says one number for each pair."""

from __future__ import annotations

import asyncio
import json
from array import array
from typing import Any

import httpx
import pytest

from contract.asked import Pooling
from contract.messages import Done, Job, VectorDelta
from gateway.api.pooling.scoring import Reranked, Scores
from tests.gateway.scripted_worker import ScriptedWorker


async def ask(
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    path: str,
    scores: tuple[float, ...],
    **body: Any,
) -> tuple[Any, Job]:
    """Return the answer of a worker that says these scores, and the job that it was given."""
    asking = asyncio.create_task(client.post(path, json=body))
    attempt = await worker.start()
    packed = [array("f", [score]).tobytes() for score in scores]
    said = (VectorDelta("", b"", 0, None, n, each) for n, each in enumerate(packed))
    await worker.say(attempt, *said, Done(("stop",), 7, 0))
    response = await asking
    assert response.status_code == 200, response.text
    return response.json(), attempt.job


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_the_most_relevant_document_comes_first(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    body = {"model": model, "query": "q", "documents": ["far", "near", "nothing"]}
    scores = (0.25, 0.75, 0.0)
    answer, job = await ask(client, worker, path, scores, **body)
    assert job.pooling == Pooling(("q", "far", "near", "nothing"), task="score", queries=1)
    Reranked.model_validate(answer)
    found = [(each["index"], each["document"]["text"]) for each in answer["results"]]
    assert found == [(1, "near"), (0, "far"), (2, "nothing")]
    assert [each["relevance_score"] for each in answer["results"]] == [0.75, 0.25, 0]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    best, _ = await ask(client, worker, path, scores, **body, top_n=1)
    assert [each["index"] for each in best["results"]] == [1]


@pytest.mark.parametrize(
    ("one", "other"),
    [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")],
)
async def test_scores_of_pairs_by_any_of_vllms_names(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, one: str, other: str
) -> None:
    pairs = {one: ["a", "b"], other: ["c", "d"]}
    answer, job = await ask(client, worker, "/score", (0.5, 1.0), model=model, **pairs)
    Scores.model_validate(answer)
    assert [each["score"] for each in answer["data"]] == [0.5, 1]
    assert job.pooling == Pooling(("a", "b", "c", "d"), task="score", queries=2)
    beside = {one: "a", other: ["c", "d"]}
    answer, job = await ask(client, worker, "/v1/score", (0.0, 0.5), model=model, **beside)
    assert [each["score"] for each in answer["data"]] == [0, 0.5]
    assert job.pooling == Pooling(("a", "c", "d"), task="score", queries=1)


async def test_what_a_reranker_may_be_told_reaches_it(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    told = {
        "use_activation": False,
        "truncate_prompt_tokens": 30,
        "truncation_side": "left",
        "max_tokens_per_query": 5,
        "max_tokens_per_doc": 6,
        "instruction": "be strict",
        "chat_template_kwargs": {"tone": "dry"},
    }
    body = {"model": model, "query": "q", "documents": ["d"], **told}
    _, job = await ask(client, worker, "/rerank", (0.5,), **body)
    assert job.pooling == Pooling(
        ("q", "d"),
        task="score",
        queries=1,
        activation=False,
        query_tokens=5,
        document_tokens=6,
        keeps="last",
    )
    assert job.truncate_prompt_tokens == 30
    assert job.template is not None
    assert json.loads(job.template.arguments) == {"instruction": "be strict", "tone": "dry"}


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("/rerank", {"query": "q", "documents": []}),
        ("/rerank", {"query": "q", "documents": ["a"], "max_tokens_per_doc": -1}),
        ("/rerank", {"query": "q", "documents": ["a"], "chat_template_kwargs": {"tools": []}}),
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
