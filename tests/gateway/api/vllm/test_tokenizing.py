"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import httpx
import pytest

from contract.messages import Done, PromptDelta
from tests.gateway.scripted_worker import ScriptedWorker

TOLD = PromptDelta("", b"", prompt=array("I", [5, 6]).tobytes(), prompt_text="hi", names=("a", "b"))
DONE = Done(("stop",), 2, 0)
MESSAGES = [{"role": "user", "content": "Who?"}]


async def test_the_tokens_of_a_prompt(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    while (await client.get(f"/v1/models/{model}")).json()["max_model_len"] is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    body = {"model": model, "prompt": "", "return_token_strs": True, "add_special_tokens": False}
    asking = asyncio.create_task(client.post("/tokenize", json=body))
    attempt = await worker.start()
    await worker.say(attempt, TOLD, DONE)
    job = attempt.job
    assert (job.prompt, job.add_special_tokens) == ("", False)
    assert job.report is not None
    assert (job.report.only, job.report.names) == (True, True)
    answer = {"count": 2, "max_model_len": 4096, "tokens": [5, 6], "token_strs": ["a", "b"]}
    assert (await asking).json() == answer


async def test_the_tokens_of_a_chat(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    body = {"model": model, "messages": MESSAGES, "tools": [tool], "add_generation_prompt": False}
    asking = asyncio.create_task(client.post("/tokenize", json=body))
    attempt = await worker.start()
    await worker.say(attempt, TOLD, DONE)
    assert attempt.job.tools is not None
    assert attempt.job.template is not None
    assert not attempt.job.template.add_generation_prompt
    assert (await asking).json()["token_strs"] is None


async def test_the_text_of_tokens(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "tokens": [5, 6]}
    asking = asyncio.create_task(client.post("/detokenize", json=body))
    attempt = await worker.start()
    await worker.say(attempt, TOLD, DONE)
    assert attempt.job.prompt_ids == (5, 6)
    assert (await asking).json() == {"prompt": "hi"}


@pytest.mark.parametrize(
    ("path", "given", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, 400),
        ("/tokenize", {"messages": MESSAGES, "add_special_tokens": True}, 400),
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": [1], "model": "nothing"}, 404),
    ],
)
async def test_errors_are_openais(
    client: httpx.AsyncClient, model: str, path: str, given: dict[str, Any], status: int
) -> None:
    response = await client.post(path, json={"model": model, **given})
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
