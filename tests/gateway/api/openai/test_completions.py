"""Text completions beyond one prompt and its answer: several prompts, and what is told of them."""

from __future__ import annotations

import asyncio
from array import array
from typing import Any

import httpx
import openai
import pytest

from contract.bus.claims import Attempt
from contract.messages import Done, PromptDelta, PromptToken, TokenLogprob
from gateway.api.openai.bodies import ChatCompletion, ChatCompletionChunk, TextCompletion
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.gateway.sse_client import collect

MESSAGES = [{"role": "user", "content": "Who?"}]
LOGPROBS = (TokenLogprob("!", -0.5, (("!", -0.5), ("?", -1.5))),)
PROMPT = PromptDelta(
    "",
    b"",
    prompt=array("I", [5, 6]).tobytes(),
    prompt_text="Once",
    places=(
        (PromptToken(5, "On"),),
        (PromptToken(6, "ce", -0.25, 2), PromptToken(7, "e", -0.125, 1)),
    ),
)
PLAIN_PROMPT = PromptDelta("", b"", prompt=PROMPT.prompt, prompt_text="Once")
TOP = {"6": {"logprob": -0.25, "rank": 2, "decoded_token": "ce"}} | {
    "7": {"logprob": -0.125, "rank": 1, "decoded_token": "e"}
}


async def start_all(worker: ScriptedWorker, count: int) -> list[Attempt]:
    """The jobs of one request, in the order of its prompts."""
    return [await worker.start() for _ in range(count)]


async def ask(client: httpx.AsyncClient, path: str = "/v1/completions", **body: Any) -> Any:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    form = ChatCompletion if "chat" in path else TextCompletion
    form.model_validate_json(response.content)
    return response.json()


async def chunks_of(client: httpx.AsyncClient, path: str, **body: Any) -> list[Any]:
    *events, last = await collect(client, path, {**body, "stream": True})
    assert last.data == "[DONE]"
    form = ChatCompletionChunk if "chat" in path else TextCompletion
    for event in events:
        form.model_validate_json(event.data)
    return [event.json for event in events]


async def test_several_prompts_are_answered_in_their_order(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(
        openai_client.completions.create(model=model, prompt=["a", "b"], n=2)
    )
    first, second = await start_all(worker, 2)
    assert (first.job.prompt, second.job.prompt) == ("a", "b")
    await worker.say(second, delta("b0"), delta("b1", 1), Done(("stop", "length"), 3, 2))
    await worker.say(first, delta("a0"), delta("a1", 1), Done(("length", "stop"), 5, 2))
    completion = await asking
    told = [(each.index, each.text, each.finish_reason) for each in completion.choices]
    assert told == [
        (0, "a0", "length"),
        (1, "a1", "stop"),
        (2, "b0", "stop"),
        (3, "b1", "length"),
    ]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (8, 4)


async def test_several_prompts_of_tokens_are_streamed_side_by_side(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": [[5, 6], [7]], "stream_options": {"include_usage": True}}
    reading = asyncio.create_task(chunks_of(client, "/v1/completions", **body))
    first, second = await start_all(worker, 2)
    assert (first.job.prompt_ids, second.job.prompt_ids) == ((5, 6), (7,))
    await worker.delta(second, "b")
    await worker.delta(first, "a")
    await worker.done(second)
    await worker.delta(first, "aa")
    await worker.done(first, "length")
    *chunks, usage = await reading
    said = [(each["choices"][0]["index"], each["choices"][0]["text"]) for each in chunks]
    assert said == [(1, "b"), (0, "a"), (0, "aa"), (0, ""), (1, "")]
    assert [each["choices"][0]["finish_reason"] for each in chunks[-2:]] == ["length", "stop"]
    assert usage["usage"]["completion_tokens"] == 3


async def test_one_prompt_that_fails_ends_the_others(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": ["a", "b", "c"]}
    asking = asyncio.create_task(client.post("/v1/completions", json=body))
    first, second, third = await start_all(worker, 3)
    await worker.delta(first, "a")
    await worker.done(first)
    await worker.fail(second, retryable=False)
    response = await asking
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"
    await worker.wait_for_cancellation(third.job.id, 2)


async def test_a_client_that_leaves_frees_all_of_its_prompts(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": ["a", "b"], "stream": True}
    asking = asyncio.create_task(client.post("/v1/completions", json=body))
    attempts = await start_all(worker, 2)
    asking.cancel()
    for attempt in attempts:
        await worker.wait_for_cancellation(attempt.job.id, 2)


async def test_the_answer_to_several_prompts_is_kept_for_who_asks_again(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": ["a", "b"]}
    key = {"Idempotency-Key": f"several-{model}"}
    asking = asyncio.create_task(client.post("/v1/completions", json=body, headers=key))
    for attempt in await start_all(worker, 2):
        await worker.delta(attempt, str(attempt.job.prompt))
        await worker.done(attempt)
    again = await client.post("/v1/completions", json=body, headers=key)
    first = (await asking).json()["choices"]
    assert [each["text"] for each in first] == ["a", "b"]
    assert again.json()["choices"] == first
    assert worker.attempts.empty()
    rest = await client.post("/v1/completions", json=body, headers={**key, "Last-Event-ID": "1"})
    assert (rest.status_code, rest.json()["error"]["code"]) == (400, "invalid_header")


async def test_echo(client: httpx.AsyncClient, worker: ScriptedWorker, model: str) -> None:
    body = {"model": model, "prompt": "Once", "echo": True}
    asking = asyncio.create_task(ask(client, **body))
    attempt = await worker.start()
    await worker.say(attempt, PLAIN_PROMPT, delta(" upon"))
    await worker.done(attempt)
    assert (await asking)["choices"][0]["text"] == "Once upon"

    asking = asyncio.create_task(chunks_of(client, "/v1/completions", **body, n=2))
    attempt = await worker.start()
    await worker.say(attempt, PLAIN_PROMPT, delta(" upon"), delta(" a", 1))
    await worker.done(attempt)
    texts = ["", ""]
    for chunk in await asking:
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == ["Once upon", "Once a"]


async def test_echo_of_the_prompt_alone_with_its_log_probabilities(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": "Once", "echo": True, "max_tokens": 0, "logprobs": 1}
    asking = asyncio.create_task(ask(client, **body))
    attempt = await worker.start()
    # No engine generates nothing, and vLLM counts that token, too.
    assert attempt.job.sampling.max_tokens == 1
    assert attempt.job.report is not None
    assert attempt.job.report.logprobs == 1
    await worker.say(attempt, PROMPT, delta("!", logprobs=LOGPROBS))
    await worker.done(attempt, "length")
    choice = (await asking)["choices"][0]
    assert choice["text"] == "Once"
    assert choice["logprobs"] == {
        "tokens": ["On", "ce"],
        "token_logprobs": [None, -0.25],
        "top_logprobs": [None, {"ce": -0.25, "e": -0.125}],
        "text_offset": [0, 2],
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_echo_with_log_probabilities_of_prompt_and_answer(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, stream: bool
) -> None:
    body = {"model": model, "prompt": "Once", "echo": True, "logprobs": 1}
    body |= {"return_tokens_as_token_ids": True}
    call = chunks_of(client, "/v1/completions", **body) if stream else ask(client, **body)
    asking = asyncio.create_task(call)
    attempt = await worker.start()
    assert attempt.job.sampling.names_tokens_by_id
    await worker.say(attempt, PROMPT, delta("!", logprobs=LOGPROBS))
    await worker.done(attempt)
    answer = await asking
    told = [each["choices"][0] for each in (answer if stream else [answer])]
    columns = [each["logprobs"] for each in told if each["logprobs"]]
    assert "".join(each["text"] for each in told) == "Once!"
    assert [name for each in columns for name in each["tokens"]] == [
        "token_id:5",
        "token_id:6",
        "!",
    ]
    assert [at for each in columns for at in each["text_offset"]] == [0, 10, 20]


async def test_what_a_prompt_was_read_as(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asked = {"prompt_logprobs": 1, "return_token_ids": True, "model": model}
    for path, prompt in (
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
    ):
        asking = asyncio.create_task(ask(client, path, **prompt, **asked))
        attempt = await worker.start()
        await worker.say(attempt, PROMPT, delta("!"), delta("!"))
        await worker.done(attempt)
        answer = await asking
        prompted = answer["choices"][0] if "prompt" in prompt else answer
        assert prompted["prompt_logprobs"] == [None, TOP]
        assert prompted["prompt_token_ids"] == [5, 6]
        assert answer["choices"][0]["token_ids"] == [7, 7]


async def test_token_ids_and_the_usage_so_far_in_each_chunk(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {
        "model": model,
        "return_token_ids": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    for path, prompt in (
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/chat/completions", {"messages": MESSAGES}),
    ):
        said = PLAIN_PROMPT, delta("a"), delta("b"), Done(("stop",), 2, 2)
        reading = chunks_of(client, path, **prompt, **body)
        first, *middle, _ = await worker.answered(reading, *said)
        prompted = first["choices"][0] if "prompt" in prompt else first
        assert prompted["prompt_token_ids"] == [5, 6]
        assert [each["choices"][0]["token_ids"] for each in middle] == [[7], [7]]
        used = [each["usage"]["completion_tokens"] for each in (first, *middle)]
        assert used == [0, 1, 2]
        assert {each["usage"]["prompt_tokens"] for each in (first, *middle)} == {2}


async def test_the_best_of_several_choices(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": ["a", "b"], "best_of": 3, "n": 2}
    asking = asyncio.create_task(ask(client, **body))
    for attempt in await start_all(worker, 2):
        assert (attempt.job.sampling.n, attempt.job.sampling.logprobs) == (3, 0)
        for index, logprob in enumerate((-2.0, -0.5, -1.0)):
            text = f"{attempt.job.prompt}{index}"
            said = (TokenLogprob(text, logprob, ((text, logprob),)),)
            await worker.say(attempt, delta(text, index, said))
        await worker.done(attempt)
    choices = (await asking)["choices"]
    assert [each["text"] for each in choices] == ["a1", "a2", "b1", "b2"]
    assert [each["index"] for each in choices] == [0, 1, 2, 3]
    assert all(each["logprobs"] is None for each in choices)


async def test_a_chat_whose_last_message_is_echoed(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    begun = [*MESSAGES, {"role": "assistant", "content": "I am"}]
    body = {"model": model, "messages": begun, "echo": True, "continue_final_message": True}
    asking = asyncio.create_task(ask(client, "/v1/chat/completions", **body))
    await worker.answer(" ew.")
    assert (await asking)["choices"][0]["message"]["content"] == "I am ew."
    reading = asyncio.create_task(chunks_of(client, "/v1/chat/completions", **body))
    await worker.answer(" ew.")
    said = [each["choices"][0]["delta"].get("content") or "" for each in await reading]
    assert "".join(said) == "I am ew."


async def test_a_gap_and_special_tokens_are_the_worker_s_to_know(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "prompt": "a", "suffix": "c", "add_special_tokens": False}
    asking = asyncio.create_task(ask(client, **body))
    job = (await worker.answer("b")).job
    assert (await asking)["choices"][0]["text"] == "b"
    assert (job.suffix, job.add_special_tokens, job.report) == ("c", False, None)
