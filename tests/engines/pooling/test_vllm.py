"""Pooling models in a real vLLM: ew's worker says the numbers that vLLM's own server says of the
same checkpoint, and refuses what that refuses."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from contract.config import ModelConfig, WorkerSpec
from contract.messages import Done, Failed
from gateway.api.fields import GenerationBody, parse
from gateway.api.pooling.classes import ClassifyRequest, PoolingRequest
from gateway.api.pooling.cohere import CohereEmbedRequest
from gateway.api.pooling.embeddings import EmbeddingRequest
from gateway.api.pooling.scoring import RerankRequest, ScoreRequest
from gateway.http.errors import ApiError
from tests.engines.contract.engines import VLLM_QUICK_START, vllm_python
from tests.engines.contract.harness import Answer, Client, WorkerProcess, run_apart
from tests.engines.pooling.answers import Recorded, recorded
from tests.engines.pooling.record import CHECKPOINTS, ENVIRONMENT, REQUESTS

_START_S: Final = 240.0
_CONTEXT: Final = 128
FORMS: Final[dict[str, type[GenerationBody]]] = {
    "/v1/embeddings": EmbeddingRequest,
    "/v2/embed": CohereEmbedRequest,
    "/classify": ClassifyRequest,
    "/pooling": PoolingRequest,
    "/score": ScoreRequest,
    "/v1/score": ScoreRequest,
    "/rerank": RerankRequest,
    "/v2/rerank": RerankRequest,
}
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(2 * _START_S)]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    subprocess.run([vllm_python(), str(CHECKPOINTS), str(directory)], check=True)
    return directory


@pytest.fixture(scope="module", params=list(REQUESTS))
def worker(
    request: pytest.FixtureRequest, checkpoints: Path, redis_url: str
) -> Iterator[WorkerProcess]:
    """A worker that serves one of the checkpoints."""
    path = checkpoints / request.param
    model = ModelConfig(engine="cpu-vllm", model_path=str(path), engine_args=dict(VLLM_QUICK_START))
    name = f"{request.param}-{uuid.uuid4().hex[:8]}"
    spec = WorkerSpec(
        name=name,
        model_id=name,
        model=model,
        engine="cpu-vllm",
        env="-",
        redis_url=redis_url,
        drain_s=0.5,
    )
    process = WorkerProcess(spec, vllm_python(), ENVIRONMENT, checkpoints / f"{name}.log")
    try:
        run_apart(process.wait_until_ready(_START_S))
        yield process
    finally:
        process.kill()


@pytest.fixture
async def client(worker: WorkerProcess) -> AsyncIterator[Client]:
    client = Client(worker.spec.redis_url, worker.spec.model_id, _CONTEXT)
    await client.open()
    yield client
    await client.close()


async def test_it_says_what_vllms_server_says(client: Client, worker: WorkerProcess) -> None:
    checkpoint = worker.spec.model_id.rpartition("-")[0]
    asked = [each for each in recorded() if each.model == checkpoint and each.path in FORMS]
    assert len(asked) >= 4
    wrong = [f"{each}: {problem}" for each in asked if (problem := await _compare(client, each))]
    assert wrong == []


async def _compare(client: Client, each: Recorded) -> str:
    """Return how ew's answer differs from a recorded one; empty if it does not."""
    body = json.dumps({"model": client.model_id, **each.asked}).encode()
    try:
        job = parse(FORMS[each.path], body).job("job", "key")
    except ApiError as error:
        return f"refused: {error}" if each.status == 200 else ""
    answer = await client.ask_for(job)
    if isinstance(answer.end, Failed):
        return f"failed: {answer.end.message}" if each.status == 200 else ""
    if each.status != 200:
        return f"answered, and vLLM says {each.body}"
    assert isinstance(answer.end, Done)
    wanted, got = _numbers(each), _said(each, answer)
    if wanted is None:
        return ""
    if got != [pytest.approx(numbers, abs=2e-4) for numbers in wanted]:
        return f"{got} for {wanted}"
    usage = each.body.get("usage", {}).get("prompt_tokens", answer.end.prompt_tokens)
    counted = answer.end.prompt_tokens
    return "" if counted == usage else f"{counted} tokens for {usage}"


def _said(each: Recorded, answer: Answer) -> list[list[float]]:
    said = [array("f", vector).tolist() for _, vector in sorted(answer.whole_vectors.items())]
    if "results" in each.body:
        told = [result["index"] for result in each.body["results"]]
        return [said[index] for index in told]
    return said


def _numbers(each: Recorded) -> list[list[float]] | None:
    """Return the numbers of a recorded answer, those of each input in one list."""
    body = each.body
    if "results" in body:
        return [[result["relevance_score"]] for result in body["results"]]
    if "embeddings" in body:
        vectors = body["embeddings"]
        return vectors["float"] or [_unpacked(text) for text in vectors["base64"]]
    return [_flat(item) for item in body["data"]]


def _flat(item: dict[str, Any]) -> list[float]:
    for name in ("embedding", "probs", "data"):
        if isinstance(numbers := item.get(name), str):
            return _unpacked(numbers)
        if numbers:
            is_nested = isinstance(numbers[0], list)
            return [number for row in numbers for number in row] if is_nested else list(numbers)
    return [item["score"]]


def _unpacked(text: str) -> list[float]:
    return array("f", base64.b64decode(text)).tolist()
