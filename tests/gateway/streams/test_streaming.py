"""Answers as a client of ew's own API sees them."""

from __future__ import annotations

import asyncio

import httpx

from contract.messages import Delta, Done, Envelope, ErrorCode, Failed, Started, Status
from tests.gateway.scripted_worker import ScriptedWorker, delta, done
from tests.gateway.sse_client import collect, streaming

STREAM = "/api/v1/inference/stream"


def question(model: str, **more: object) -> dict[str, object]:
    return {"modelId": model, "prompt": "Who are you?", **more}


async def test_text_comes_in_order_with_its_numbers_and_an_end(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    answering = asyncio.create_task(worker.answer("I ", "am ", "ew."))
    async with streaming(client, STREAM, question(model), x_request_id="abc-1") as (
        response,
        events,
    ):
        *texts, end = [event async for event in events]
    await answering
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store, no-transform"
    assert [(event.id, event.json["text"]) for event in texts] == [
        ("0", "I "),
        ("1", "am "),
        ("2", "ew."),
    ]
    assert (end.name, end.id) == ("done", "3")
    body = end.json
    assert body["finishReason"] == "stop"
    assert body["usage"] == {
        "promptTokens": 5,
        "completionTokens": 3,
        "cachedTokens": 2,
        "reasoningTokens": 0,
    }
    assert body["requestId"] == "abc-1"
    assert body["modelId"] == model
    timings = body["timings"]
    assert 0 < timings["queueMs"] <= timings["firstTokenMs"] <= timings["totalMs"]


async def test_a_delta_is_sent_at_once_not_when_the_answer_is_complete(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    async def say_first() -> object:
        attempt = await worker.start()
        await worker.delta(attempt, "first")
        return attempt

    saying = asyncio.create_task(say_first())
    async with streaming(client, STREAM, question(model)) as (_, events):
        assert (await anext(events)).json == {"text": "first"}
        attempt = await saying
        await worker.done(attempt)
        assert (await anext(events)).name == "done"


async def test_the_prompt_goes_through_the_chat_template_unless_raw(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    for raw in (False, True):
        job, _ = await worker.job_of(collect(client, STREAM, question(model, raw=raw)))
        if raw:
            assert (job.prompt, job.messages) == ("Who are you?", None)
        else:
            assert job.prompt is None
            assert job.messages is not None
            assert [(turn.role, turn.content) for turn in job.messages] == [
                ("user", "Who are you?")
            ]


async def test_line_separators_in_text_do_not_end_an_event(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    text = "a\u2028b\u2029c\u0085d\r\n\n\0e data: {}\n\nevent: done"
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    await worker.answer(text)
    first, end = await asking
    assert first.json == {"text": text}
    assert end.name == "done"
    assert len(first.data.splitlines()) == 1


async def test_a_frame_published_twice_is_heard_once(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.next()
    await worker.say(attempt, Started(), delta("a"), delta("b"), times=2)
    await worker.say(attempt, delta("c"), times=3)
    await worker.say(attempt, done(attempt, 3), times=2)
    events = await asking
    assert [event.json["text"] for event in events[:-1]] == ["a", "b", "c"]
    assert events[-1].name == "done"


async def test_what_a_fenced_off_attempt_says_is_dropped(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.next()
    job = attempt.job.id
    await worker.send(
        attempt,
        Envelope(job, 1, 0, Started()),
        Envelope(job, 1, 0, delta("one ")),
        Envelope(job, 2, 0, Started()),
        Envelope(job, 1, 1, delta("late ")),
        Envelope(job, 2, 1, delta("two ")),
        Envelope(job, 1, 2, done(attempt, 1)),
        Envelope(job, 1, 2, Failed(ErrorCode.ENGINE_FAILED, "late, too")),
        Envelope(job, 2, 2, delta("three")),
        Envelope(job, 2, 3, done(attempt, 3)),
    )
    events = await asking
    assert [event.json.get("text") for event in events[:-1]] == ["one ", "two ", "three"]
    assert [event.id for event in events] == ["0", "1", "2", "3"]


async def test_an_attempt_that_does_not_know_what_the_client_has_is_not_gone_on_with(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.next()
    job = attempt.job.id
    begun = [Envelope(job, 1, 0, Started()), Envelope(job, 1, 0, delta("one "))]
    await worker.send(attempt, *begun, Envelope(job, 1, 1, delta("two ")))
    other = [Envelope(job, 2, n, delta(text)) for n, text in enumerate(("an", "other ", "end"))]
    await worker.send(attempt, Envelope(job, 2, 0, Started()), *other)
    *told, end = await asking
    assert [event.json["text"] for event in told] == ["one ", "two "]
    assert (end.name, end.json["code"]) == ("error", "lost")


async def test_a_missing_event_ends_the_answer_as_lost(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.next()
    job = attempt.job.id
    await worker.send(attempt, Envelope(job, 1, 0, Started()), Envelope(job, 1, 0, delta("a")))
    await worker.send(attempt, Envelope(job, 1, 2, delta("c")))
    first, end = await asking
    assert first.json == {"text": "a"}
    assert end.name == "error"
    assert end.json["code"] == "lost"
    assert end.json["retryable"] is True
    await worker.wait_for_cancellation(job, 2)


async def test_an_event_of_an_attempt_that_never_began_is_a_gap(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post("/api/v1/inference", json=question(model)))
    attempt = await worker.next()
    await worker.send(attempt, Envelope(attempt.job.id, 2, 0, delta("a")))
    assert (await asking).json()["code"] == "lost"


async def test_a_failure_before_the_first_text_has_its_http_status(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post(STREAM, json=question(model)))
    attempt = await worker.start()
    await worker.say(attempt, Failed(ErrorCode.PROMPT_TOO_LONG, "5000 tokens, 4096 fit"))
    response = await asking
    assert response.status_code == 422
    assert response.json()["code"] == "prompt_too_long"
    assert response.json()["message"] == "5000 tokens, 4096 fit"


async def test_a_failure_after_the_first_text_is_an_event(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.start()
    await worker.delta(attempt, "a")
    await worker.say(attempt, Failed(ErrorCode.ENGINE_LOST, "gone", retryable=True))
    first, end = await asking
    assert first.json == {"text": "a"}
    assert end.name == "error"
    body = end.json
    assert (body["code"], body["message"], body["retryable"]) == ("engine_lost", "gone", True)
    assert body["requestId"]


async def test_status_events_tell_what_a_job_waits_for(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.next()
    await worker.say(attempt, Status("loading", 3, 12.5), Started(), delta("a"))
    await worker.done(attempt)
    status, _, end = await asking
    assert (status.name, status.id) == ("status", None)
    assert status.json == {"stage": "loading", "position": 3, "etaS": 12.5}
    assert end.name == "done"


async def test_a_whole_answer_is_the_stream_put_together(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post("/api/v1/inference", json=question(model)))
    await worker.answer("I ", "am ", "ew.")
    response = await asking
    assert response.status_code == 200
    body = response.json()
    assert (body["text"], body["finishReason"]) == ("I am ew.", "stop")
    assert body["usage"]["completionTokens"] == 3
    assert "queue;dur=" in response.headers["server-timing"]


async def test_sampling_reaches_the_worker_as_it_was_asked_for(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asked = question(
        model,
        maxTokens=7,
        minTokens=2,
        temperature=0.5,
        topP=0.9,
        topK=40,
        minP=0.1,
        presencePenalty=-1,
        frequencyPenalty=1,
        repetitionPenalty=1.1,
        seed=42,
        stop=["END", "STOP"],
        ignoreEos=True,
        choices=["yes", "no"],
    )
    asking = asyncio.create_task(client.post("/api/v1/inference", json=asked))
    sampling = (await worker.answer("yes")).job.sampling
    assert (await asking).status_code == 200
    assert (sampling.max_tokens, sampling.min_tokens) == (7, 2)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 40)
    assert (sampling.min_p, sampling.seed, sampling.stop) == (0.1, 42, ("END", "STOP"))
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-1, 1)
    assert (sampling.repetition_penalty, sampling.ignore_eos) == (1.1, True)
    assert sampling.guided is not None
    assert (sampling.guided.kind, sampling.guided.value) == ("choice", '["yes","no"]')


async def test_an_answer_that_could_not_stream_says_so(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    asking = asyncio.create_task(client.post("/api/v1/inference", json=question(model)))
    attempt = await worker.start()
    await worker.say(attempt, delta("a"), Done(("length",), 5, 1, pseudo_streamed=True))
    body = (await asking).json()
    assert body["pseudoStreamed"] is True
    assert body["finishReason"] == "length"


async def test_many_deltas_of_one_frame_become_one_write(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    texts = [f"{number} " for number in range(500)]
    asking = asyncio.create_task(collect(client, STREAM, question(model)))
    attempt = await worker.start()
    await worker.say(attempt, *(Delta(text, b"") for text in texts))
    await worker.done(attempt)
    events = await asking
    assert [event.json["text"] for event in events[:-1]] == texts
    assert [event.id for event in events] == [str(number) for number in range(501)]
