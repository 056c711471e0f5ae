"""The official client, unchanged, against a real gateway."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from contract.messages import Done, ErrorCode, Failed, Job, Sampling, Started, Status, TokenLogprob
from gateway.api.openai.bodies import ChatCompletionChunk, TextCompletion
from gateway.api.openai.chat import ChatStream, ChatWhole
from gateway.api.openai.completions import TextWhole
from gateway.streams.answers import StreamAnswer, WholeAnswer
from gateway.streams.dialects import Timings
from tests.gateway.conftest import Gateway
from tests.gateway.scripted_worker import ScriptedWorker, delta
from tests.gateway.sse_client import collect

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": "?"}]},
]
LOGPROBS = (TokenLogprob("hé", -0.5, (("hé", -0.5), ("ho", -1.5))),)


async def test_chat_completion(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(
        openai_client.chat.completions.create(
            model=model, messages=MESSAGES, max_completion_tokens=9, temperature=0, user="u1"
        )
    )
    attempt = await worker.answer("I am ", "ew.")
    completion = await asking
    assert completion.object == "chat.completion"
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content == "I am ew."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (5, 7)
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == 2
    job = attempt.job
    assert job.messages is not None
    assert [(turn.role, turn.content) for turn in job.messages] == [
        ("system", "Be brief."),
        ("user", "Who\n?"),
    ]
    assert (job.sampling.max_tokens, job.sampling.temperature) == (9, 0)


async def test_chat_completion_streamed(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    async def read() -> list[Any]:
        stream = await openai_client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        return [chunk async for chunk in stream]

    said = delta("I am "), delta("ew."), Done(("stop",), 5, 2)
    role, *texts, usage = await worker.answered(read(), *said)
    assert role.choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in texts] == ["I am ", "ew."]
    assert [chunk.choices[0].finish_reason for chunk in texts] == [None, "stop"]
    assert all(chunk.usage is None for chunk in (role, *texts))
    assert usage.choices == []
    assert usage.usage.total_tokens == 7
    assert len({chunk.id for chunk in (role, *texts, usage)}) == 1


async def test_a_stream_is_byte_for_byte_what_clients_expect(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "stream": True}
    reading = collect(client, "/v1/chat/completions", body)
    *chunks, last = await worker.answered(reading, delta("hi"), Done(("stop",), 5, 1))
    assert last.data == "[DONE]"
    assert all(event.name == "" and event.id is None for event in chunks)
    for event in chunks:
        chunk = event.json
        assert list(chunk) == ["id", "object", "created", "model", "choices"]
        ChatCompletionChunk.model_validate(chunk)
    assert len(chunks) == 2
    # The text that leaves at once with the end has its reason.
    assert chunks[1].json["choices"] == [
        {"index": 0, "delta": {"content": "hi"}, "logprobs": None, "finish_reason": "stop"}
    ]


async def test_several_choices(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    for stream in (False, True):
        asking = asyncio.create_task(_two_choices(openai_client, model, stream))
        attempt = await worker.start()
        assert attempt.job.sampling.n == 2
        await worker.say(attempt, delta("a", 0), delta("b", 1), delta("a", 0))
        await worker.say(attempt, Done(("stop", "length"), 5, 3))
        assert await asking == {0: ("aa", "stop"), 1: ("b", "length")}


async def _two_choices(
    client: openai.AsyncOpenAI, model: str, stream: bool
) -> dict[int, tuple[str, str | None]]:
    if not stream:
        whole = await client.chat.completions.create(model=model, messages=MESSAGES, n=2)
        return {
            choice.index: (choice.message.content or "", choice.finish_reason)
            for choice in whole.choices
        }
    texts, reasons = {0: "", 1: ""}, {}
    chunks = await client.chat.completions.create(model=model, messages=MESSAGES, n=2, stream=True)
    async for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
    return {index: (text, reasons[index]) for index, text in texts.items()}


async def test_log_probabilities_of_a_chat(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    for stream in (False, True):
        asking = asyncio.create_task(_chat_logprobs(openai_client, model, stream))
        attempt = await worker.start()
        assert attempt.job.sampling.logprobs == 2
        await worker.say(attempt, delta("hé", logprobs=LOGPROBS))
        await worker.done(attempt)
        logprobs = await asking
        token = logprobs.content[0]
        assert (token.token, token.logprob, token.bytes) == ("hé", -0.5, [104, 195, 169])
        assert [top.token for top in token.top_logprobs] == ["hé", "ho"]


async def _chat_logprobs(client: openai.AsyncOpenAI, model: str, stream: bool) -> Any:
    asked: dict[str, Any] = {"model": model, "messages": MESSAGES}
    asked |= {"logprobs": True, "top_logprobs": 2}
    if not stream:
        return (await client.chat.completions.create(**asked)).choices[0].logprobs
    chunks = await client.chat.completions.create(**asked, stream=True)
    found = [chunk.choices[0].logprobs async for chunk in chunks]
    return next(logprobs for logprobs in found if logprobs)


async def test_text_completion(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(
        openai_client.completions.create(model=model, prompt=["Once"], logprobs=2)
    )
    attempt = await worker.start()
    job = attempt.job
    assert (job.prompt, job.messages) == ("Once", None)
    assert (job.sampling.max_tokens, job.sampling.logprobs) == (16, 2)
    await worker.say(attempt, delta("hé", logprobs=LOGPROBS), delta("hé", logprobs=LOGPROBS))
    await worker.done(attempt, "length")
    completion = await asking
    choice = completion.choices[0]
    assert (choice.text, choice.finish_reason) == ("héhé", "length")
    assert choice.logprobs is not None
    assert choice.logprobs.text_offset == [0, 2]
    assert choice.logprobs.top_logprobs == [{"hé": -0.5, "ho": -1.5}] * 2


async def test_text_completion_streamed(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {
        "model": model,
        "prompt": "Once",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    said = delta(" upon"), delta("hé", logprobs=LOGPROBS), Done(("stop",), 5, 2)
    read = await worker.answered(collect(client, "/v1/completions", body), *said)
    *chunks, usage, last = [event.data for event in read]
    assert last == "[DONE]"
    for chunk in (*chunks, usage):
        TextCompletion.model_validate_json(chunk)
    assert [json.loads(chunk)["choices"][0]["text"] for chunk in chunks] == [" upon", "hé"]
    assert json.loads(chunks[-1])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage)["usage"]["completion_tokens"] == 2


async def test_models_are_listed_and_found(openai_client: openai.AsyncOpenAI, model: str) -> None:
    listed = [each.id async for each in openai_client.models.list()]
    assert model in listed
    assert (await openai_client.models.retrieve(model)).id == model
    with pytest.raises(openai.NotFoundError) as caught:
        await openai_client.models.retrieve("nothing")
    assert caught.value.code == "model_not_found"


async def test_errors_are_the_exceptions_that_clients_know(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    create = openai_client.chat.completions.create
    with pytest.raises(openai.BadRequestError) as bad:
        await create(model=model, messages=MESSAGES, temperature=9)
    assert (bad.value.code, bad.value.param) == ("invalid_request", "temperature")
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError):
        await create(model="nothing", messages=MESSAGES)
    with pytest.raises(openai.AuthenticationError):
        await openai_client.with_options(api_key="ew_x").models.list()

    asking = asyncio.create_task(create(model=model, messages=MESSAGES))
    attempt = await worker.start()
    await worker.say(attempt, Failed(ErrorCode.PROMPT_TOO_LONG, "too long"))
    with pytest.raises(openai.BadRequestError) as too_long:
        await asking
    assert too_long.value.code == "context_length_exceeded"


async def test_only_errors_that_may_pass_are_tried_again(
    openai_client: openai.AsyncOpenAI, worker: ScriptedWorker, model: str
) -> None:
    patient = openai_client.with_options(max_retries=2)
    create = patient.chat.completions.create
    asking = asyncio.create_task(create(model=model, messages=MESSAGES))
    attempt = await worker.start()
    await worker.say(attempt, Failed(ErrorCode.ENGINE_FAILED, "no luck", retryable=False))
    with pytest.raises(openai.InternalServerError):
        await asking
    assert worker.attempts.empty()

    asking = asyncio.create_task(create(model=model, messages=MESSAGES))
    attempt = await worker.start()
    await worker.say(attempt, Failed(ErrorCode.ENGINE_LOST, "gone", retryable=True))
    await worker.answer("here I am")
    assert (await asking).choices[0].message.content == "here I am"


async def test_a_stream_that_fails_has_no_done(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "stream": True}
    reading = asyncio.create_task(collect(client, "/v1/chat/completions", body))
    attempt = await worker.next()
    await worker.say(attempt, Started(), delta("a"))
    await worker.say(attempt, Failed(ErrorCode.ENGINE_LOST, "gone", retryable=True))
    data = [event.data for event in await reading]
    assert "[DONE]" not in data
    assert json.loads(data[-1])["error"]["code"] == "engine_lost"


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", ""),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
                }
            },
            "json",
            '{"type":"object"}',
        ),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", '["a","b"]'),
        ({"guided_json": '{"type": "string"}'}, "json", '{"type":"string"}'),
        ({"guided_grammar": "root ::= 'a'"}, "grammar", "root ::= 'a'"),
        ({"structured_outputs": {"regex": "b"}}, "regex", "b"),
        ({"structured_outputs": {"json": {"type": "null"}}}, "json", '{"type":"null"}'),
    ],
)
async def test_constraints_on_the_output_reach_the_worker(
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    model: str,
    given: dict[str, Any],
    kind: str,
    value: str,
) -> None:
    body = {"model": model, "messages": MESSAGES, **given}
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    guided = (await worker.answer("a")).job.sampling.guided
    assert (await asking).status_code == 200
    assert guided is not None
    assert (guided.kind, guided.value) == (kind, value)


async def test_what_official_clients_send_and_does_no_harm_is_accepted(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    answered = {"role": "assistant", "content": "x", "refusal": None, "tool_calls": None}
    body = {
        "model": model,
        "messages": [*MESSAGES, {**answered, "annotations": []}, MESSAGES[1]],
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "logit_bias": {},
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "stop": None,
        "n": 1,
        "stream": False,
        "top_k": 5,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "min_tokens": 1,
        "ignore_eos": True,
    }
    asking = asyncio.create_task(client.post("/v1/chat/completions", json=body))
    await worker.answer("a")
    response = await asking
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("path", "given", "field"),
    [
        ("chat/completions", {"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ("chat/completions", {"vllm_xargs": {"kv_transfer_params": 1}}, "vllm_xargs"),
        ("chat/completions", {"max_tokens": "many"}, "max_tokens"),
        ("chat/completions", {"frobnicate": 1, "tools": [{}]}, "tools[0].function"),
        ("chat/completions", {"n": 4}, "n"),
        ("chat/completions", {"top_logprobs": 3}, "top_logprobs"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content",
        ),
        ("chat/completions", {"messages": [{"content": "x"}]}, "messages[0].role"),
        ("chat/completions", {"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ("chat/completions", {"response_format": {"type": "json_schema"}}, "response_format"),
        ("chat/completions", {"logit_bias": {"x": 5}}, "logit_bias"),
        ("chat/completions", {"thinking_token_budget": 64}, "thinking_token_budget"),
        ("chat/completions", {"watermarking": True}, "watermarking"),
        ("chat/completions", {"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
        ("chat/completions", {"media_io_kwargs": {"video": {}}}, "media_io_kwargs"),
        ("chat/completions", {"ec_transfer_params": {"a": 1}}, "ec_transfer_params"),
        ("completions", {"prompt": "a", "logprob_token_ids": [5]}, "logprob_token_ids"),
        (
            "completions",
            {"prompt": "a", "repetition_detection": {"min_count": 3}},
            "repetition_detection",
        ),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": ["a", [5]], "suffix": "b"}, "suffix"),
        ("completions", {"prompt": "a", "suffix": "b", "echo": True}, "suffix"),
        ("completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ("completions", {"prompt": "a", "n": 2, "best_of": 1}, "best_of"),
        ("completions", {"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ("completions", {"prompt": ["a"] * 1_000, "n": 3}, "prompt"),
        ("completions", {"prompt": "a", "prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ("completions", {"prompt": ["a" * 900] * 9, "prompt_logprobs": 9}, "prompt_logprobs"),
        ("chat/completions", {"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
    ],
)
async def test_what_would_change_the_answer_and_is_not_supported_is_refused_by_name(
    client: httpx.AsyncClient, model: str, path: str, given: dict[str, Any], field: str
) -> None:
    needed = {"messages": MESSAGES} if path == "chat/completions" else {}
    response = await client.post(f"/v1/{path}", json={"model": model, **needed, **given})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field
    assert error["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("path", "given", "field", "said"),
    [
        ("chat/completions", {"max_completion_tokens": 5, "min_tokens": 6}, "min_tokens", "most"),
        (
            "chat/completions",
            {"logprobs": True, "top_logprobs": 20, "max_completion_tokens": 1000, "n": 3},
            "top_logprobs",
            "lower `top_logprobs`, `n` or `max_completion_tokens`",
        ),
        (
            "chat/completions",
            {"logprobs": True, "top_logprobs": 20, "n": 3},
            "top_logprobs",
            "stream the answer",
        ),
        ("completions", {"logprobs": 20, "max_tokens": 1000, "n": 3}, "logprobs", "50000"),
    ],
)
async def test_limits_name_the_field_that_the_client_sent(
    client: httpx.AsyncClient,
    model: str,
    path: str,
    given: dict[str, Any],
    field: str,
    said: str,
) -> None:
    asked = {"messages": MESSAGES} if path == "chat/completions" else {"prompt": "x"}
    response = await client.post(f"/v1/{path}", json={"model": model, **asked, **given})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == field
    assert f"`{field}`" in error["message"]
    assert said in error["message"]


async def test_a_stream_may_have_more_log_probabilities_than_a_whole_answer(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "logprobs": True, "top_logprobs": 20}
    body |= {"n": 3, "stream": True}
    reading = asyncio.create_task(collect(client, "/v1/chat/completions", body))
    await worker.answer("a")
    assert (await reading)[-1].data == "[DONE]"


@pytest.mark.parametrize(
    ("dialect", "encoder"),
    [
        (ChatWhole, "gateway.api.openai.chat.chat_logprobs"),
        (TextWhole, "gateway.api.openai.completions.text_logprobs"),
    ],
)
async def test_log_probabilities_are_encoded_before_the_end(
    dialect: Any, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = WholeAnswer(dialect(Job("j", "m", Sampling(logprobs=2))), "r")
    for seq in range(3):
        answer.delta(seq, delta("hé", logprobs=LOGPROBS))
    monkeypatch.setattr(encoder, None)
    answer.done(3, Done(("stop",), 5, 3), Timings(0, 0, 0))
    logprobs = json.loads(answer.writer._parts[0])["choices"][0]["logprobs"]
    tokens = logprobs["tokens"] if "tokens" in logprobs else logprobs["content"]
    assert len(tokens) == 3


async def test_what_has_no_effect_is_accepted_named_and_counted(
    gateway: Gateway, worker: ScriptedWorker, model: str
) -> None:
    """As vLLM has it. Clients send back messages with all that they found in them, and routers add
    what other engines know."""
    turns = [
        {
            "role": "assistant",
            "content": "A",
            "refusal": None,
            "annotations": [],
            "parsed": {"a": 1},
        },
        {
            "role": "user",
            "content": [{"type": "text", "text": "B", "cache_control": {}}],
            "x\n,": 1,
        },
    ]
    body = {
        "model": model,
        "messages": turns,
        "max_tokens": "9",
        "temperature": 0,
        "top_k": 3.0,
        "separate_reasoning": True,
        "skip_special_tokens": True,
        "continue_final_message": False,
        "stop_token_ids": [],
        "response_format": {"type": "text", "new": 1},
    }
    async with httpx.AsyncClient(headers={"X-API-Key": gateway.key.text}) as client:
        asking = asyncio.create_task(client.post(f"{gateway.url}/v1/chat/completions", json=body))
        attempt = await worker.answer("yes")
        response = await asking
        figures = (await client.get(f"{gateway.url}/metrics")).text
    assert response.status_code == 200
    ignored = "messages[].parsed, messages[].x??, response_format.new, separate_reasoning"
    assert response.headers["x-ignored-fields"] == ignored
    assert (attempt.job.sampling.max_tokens, attempt.job.sampling.top_k) == (9, 3)
    assert 'ew_requests_ignoring_fields_total{process="0"}' in figures


@pytest.mark.parametrize("numbered", [False, True])
async def test_the_official_client_reads_over_comments_wherever_they_come(numbered: bool) -> None:
    """Once it has seen an id, it takes the empty line after a comment for an event."""
    dialect = ChatStream(
        Job("j", "m", Sampling(), prompt="x"), include_usage=False, numbered=numbered
    )
    answer = StreamAnswer(dialect, "r")
    answer.heartbeat()
    answer.delta(0, delta("a"))
    answer.heartbeat()
    answer.status(Status("waiting", eta_s=4.2))
    answer.delta(1, delta("b"))
    answer.heartbeat()
    answer.done(2, Done(("stop",), 1, 2), Timings(0, 0, 0))
    sent = b"".join(answer.writer._parts)
    assert b": waiting, about 4 s\n" in sent
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=sent))
    async with openai.AsyncOpenAI(
        api_key="k", base_url="http://m", http_client=httpx.AsyncClient(transport=transport)
    ) as client:
        chunks = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        texts = [chunk.choices[0].delta.content async for chunk in chunks]
    assert "".join(text or "" for text in texts) == "ab"
