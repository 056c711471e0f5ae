"""How vLLM's own server answers where OpenAI's has no rule: its own suite of tests asks for it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from contract.bus.claims import Attempt
from contract.messages import Done
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.gateway.sse_client import collect, streaming

TURNS = [{"role": "user", "content": "Who?"}]
ENDED = Done(("length",), 5, 2)
PATHS = {
    "/v1/chat/completions": {"messages": TURNS, "stream": True},
    "/v1/completions": {"prompt": "Who?", "stream": True},
}


@pytest.mark.parametrize("path", PATHS)
async def test_the_last_text_has_the_reason_why_it_ended(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    body = {"model": model, **PATHS[path]}
    said = delta("I am "), delta("ew."), ENDED
    *_, before, last, done = await worker.answered(collect(client, path, body), *said)
    assert done.data == "[DONE]"
    assert before.json["choices"][0]["finish_reason"] is None
    assert last.json["choices"][0]["finish_reason"] == "length"
    assert "ew." in last.data


@pytest.mark.parametrize("path", PATHS)
async def test_a_text_that_has_left_is_followed_by_the_reason(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    async def begin() -> Attempt:
        attempt = await worker.start()
        await worker.say(attempt, delta("ew."))
        return attempt

    # The head of an answer comes with its first text.
    beginning = asyncio.create_task(begin())
    async with streaming(client, path, {"model": model, **PATHS[path]}) as (_, events):
        while "ew." not in (text := await anext(events)).data:
            pass
        await worker.say(await beginning, ENDED)
        last, done = [event async for event in events]
    assert text.json["choices"][0]["finish_reason"] is None
    assert last.json["choices"][0]["finish_reason"] == "length"
    assert done.data == "[DONE]"


async def test_an_answer_without_text_ends_after_its_role(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": TURNS, "stream": True}
    reading = collect(client, "/v1/chat/completions", body)
    role, last, _ = await worker.answered(reading, Done(("stop",), 5, 1))
    assert role.json["choices"][0]["finish_reason"] is None
    assert (last.json["choices"][0]["delta"], last.json["choices"][0]["finish_reason"]) == (
        {},
        "stop",
    )


async def test_events_with_ids_end_by_themselves(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    """A client that comes back after the last text must still be told the reason."""
    body = {"model": model, "messages": TURNS, "stream": True}
    reading = collect(client, "/v1/chat/completions", body, Idempotency_Key=f"end-of-{model}")
    *_, text, last, done = await worker.answered(reading, delta("ew."), ENDED)
    assert (text.id is None, last.id, done.data) == (False, None, "[DONE]")
    assert text.json["choices"][0]["finish_reason"] is None
    assert last.json["choices"][0]["finish_reason"] == "length"


async def test_several_conversations_in_one_request(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": [TURNS, [{"role": "user", "content": "What?"}]]}
    asking = client.post("/v1/chat/completions/batch", json=body | {"return_token_ids": True})
    answers = [(delta("me"), Done(("stop",), 5, 1)), (delta("that"), Done(("length",), 6, 1))]
    answer = (await worker.answered_each(asking, *answers)).json()
    told = [(each["message"]["content"], each["finish_reason"]) for each in answer["choices"]]
    assert told == [("me", "stop"), ("that", "length")]
    assert [each["token_ids"] for each in answer["choices"]] == [[7], [7]]
    assert (answer["usage"]["prompt_tokens"], answer["prompt_token_ids"]) == (11, None)


@pytest.mark.parametrize(
    "field", [{"stream": True}, {"n": 2}, {"echo": True}, {"tools": [{"type": "function"}]}]
)
async def test_several_conversations_refuse_what_has_no_place_in_their_answer(
    client: httpx.AsyncClient, model: str, field: dict[str, object]
) -> None:
    body = {"model": model, "messages": [TURNS], **field}
    response = await client.post("/v1/chat/completions/batch", json=body)
    assert response.status_code == 400
    assert next(iter(field)) in response.json()["error"]["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_options_of_a_stream_need_one(
    client: httpx.AsyncClient, model: str, path: str
) -> None:
    body = {"model": model, **PATHS[path], "stream": False, "stream_options": {}}
    response = await client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "stream_options"


async def test_a_whole_answer_has_null_where_nothing_was_asked_for(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    ended = Done(("stop",), 5, 2, stop_strings=("!",))
    chat = client.post("/v1/chat/completions", json={"model": model, "messages": TURNS})
    told = (await worker.answered(chat, delta("ew"), ended)).json()
    assert (told["prompt_logprobs"], told["prompt_token_ids"]) == (None, None)
    assert (told["choices"][0]["token_ids"], told["choices"][0]["stop_reason"]) == (None, "!")
    text = client.post("/v1/completions", json={"model": model, "prompt": "Who?"})
    (choice,) = (await worker.answered(text, delta("ew"), ENDED)).json()["choices"]
    nulls = "prompt_logprobs", "prompt_token_ids", "token_ids", "stop_reason"
    assert [choice[name] for name in nulls] == [None] * 4


@pytest.mark.parametrize("path", PATHS)
async def test_an_invocation_is_what_its_body_says(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, path: str
) -> None:
    """SageMaker knows one path alone."""
    body = {"model": model, **PATHS[path], "stream": False}
    said = delta("I am "), delta("ew."), ENDED
    asked = await worker.answered(client.post(path, json=body), *said)
    invoked = await worker.answered(client.post("/invocations", json=body), *said)
    assert invoked.status_code == 200
    assert invoked.json().keys() == asked.json().keys()
    assert invoked.json()["choices"] == asked.json()["choices"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{}", "none of `messages`, `prompt`, `documents`, `input`"),
        (b"[1]", "none of `messages`"),
        (b"{", "no JSON"),
        (b'{"input": 3.5}', "`input`"),
    ],
)
async def test_an_invocation_that_is_none_is_refused(
    client: httpx.AsyncClient, body: bytes, why: str
) -> None:
    refused = await client.post("/invocations", content=body)
    assert refused.status_code == 400
    assert why in refused.json()["error"]["message"]


async def test_a_prompt_of_null_is_told_what_a_prompt_is(
    client: httpx.AsyncClient, model: str
) -> None:
    refused = await client.post("/v1/completions", json={"model": model, "prompt": None})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "prompt")
    assert "must be a text, token ids" in error["message"]
