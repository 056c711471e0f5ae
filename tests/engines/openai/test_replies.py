"""Replies of a server, also those that no server should give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.engines.openai.bench import Bench, never, says
from tests.engines.openai.scripted_upstream import Exchange


async def test_the_answer_and_its_counts_are_passed_on(bench: Bench) -> None:
    worker = await bench.ready()
    answer = await bench.ask("hi")
    assert [delta.text for delta in answer.deltas] == ["Hel", "lo ", "you."]
    assert answer.done.finish_reasons == ("stop",)
    assert (answer.done.prompt_tokens, answer.done.completion_tokens) == (7, 5)
    assert worker.heartbeat().generated_tokens_total == 5


async def test_the_stop_string_that_ended_an_answer_is_passed_on(bench: Bench) -> None:
    """vLLM and SGLang say which, or the number of a token that ended it; others say nothing."""

    def ends(**said: Any) -> Callable[[Exchange], Awaitable[None]]:
        async def answer(exchange: Exchange) -> None:
            choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", **said}
            await exchange.event(choices=[choice])
            await exchange.end()

        return answer

    await bench.ready()
    for said, told in (
        ({"stop_reason": "END"}, "END"),
        ({"stop_reason": 7}, ""),
        ({"matched_stop": "END"}, "END"),
        ({"matched_stop": 7}, ""),
        ({}, ""),
    ):
        bench.upstream.answer = ends(**said)
        assert (await bench.ask("hi")).done.stop_strings == (told,)


async def test_without_counts_the_pieces_are_counted(bench: Bench) -> None:
    bench.upstream.answer = says("a", "b", "c")
    await bench.ready()
    assert (await bench.ask("hi")).done.completion_tokens == 3


async def test_a_stream_may_be_cut_anywhere(bench: Bench) -> None:
    async def in_single_bytes(exchange: Exchange) -> None:
        event = {"choices": [{"index": 0, "delta": {"content": "Grüße 🙂"}}]}
        text = f": ping\r\n\r\ndata:{json.dumps(event, ensure_ascii=False)}\r\n\r\n"
        for byte in text.encode():
            await exchange.send(bytes([byte]))
        await exchange.finish("length")

    bench.upstream.answer = in_single_bytes
    await bench.ready()
    answer = await bench.ask("hi")
    assert answer.text == "Grüße 🙂"
    assert answer.done.finish_reasons == ("length",)


async def test_a_stream_without_done_is_complete_when_all_choices_are(bench: Bench) -> None:
    async def stops_there(exchange: Exchange) -> None:
        await exchange.say("a", finish_reason="stop")
        await exchange.end()

    bench.upstream.answer = stops_there
    await bench.ready()
    assert (await bench.ask("hi")).done.finish_reasons == ("stop",)


async def test_reasoning_is_progress_but_not_the_answer(bench: Bench) -> None:
    async def thinks(exchange: Exchange) -> None:
        for _ in range(4):
            await exchange.event(choices=[{"delta": {"reasoning_content": "hm"}}])
            await asyncio.sleep(0.2)
        await exchange.say("42")
        await exchange.finish()

    bench.upstream.answer = thinks
    await bench.ready(engine_args={"first_token_timeout_s": 0.7, "token_gap_timeout_s": 0.7})
    assert (await bench.ask("hi")).text == "42"


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (400, '{"error": {"message": "bad top_p"}}', "invalid_request", False),
        (422, '{"detail": "bad top_p"}', "invalid_request", False),
        (400, '{"message": "maximum context length is 9"}', "prompt_too_long", False),
        (401, '{"error": "who are you"}', "upstream_failed", False),
        (404, '{"error": {"message": "no such model"}}', "upstream_failed", False),
        (429, '{"error": {"message": "slow down"}}', "upstream_failed", True),
        (500, "oops", "upstream_failed", True),
        (503, "", "upstream_failed", True),
    ],
)
async def test_a_refusal_becomes_an_error_that_says_why(
    bench: Bench, status: int, body: str, code: str, retryable: bool
) -> None:
    bench.upstream.answer = lambda exchange: exchange.refuse(status, body)
    await bench.ready()
    failed = (await bench.ask("hi")).failed
    assert (failed.code, failed.retryable) == (code, retryable)
    if code != "upstream_failed":
        assert failed.message in body


async def test_an_adapter_that_the_server_lacks_is_an_invalid_request(bench: Bench) -> None:
    bench.upstream.answer = lambda exchange: exchange.refuse(404, '{"message": "no `x`"}')
    await bench.ready()
    assert (await bench.ask("hi", adapter="x")).failed.code == "invalid_request"


@pytest.mark.parametrize(
    ("code", "expected", "is_told"),
    [(400, "invalid_request", True), (500, "upstream_failed", False)],
)
async def test_an_error_within_the_stream_counts_as_its_status(
    bench: Bench, code: int, expected: str, is_told: bool
) -> None:
    async def stumbles(exchange: Exchange) -> None:
        await exchange.event(error={"message": "no such regex", "code": code})
        await exchange.end()

    bench.upstream.answer = stumbles
    await bench.ready()
    failed = (await bench.ask("hi")).failed
    assert failed.code == expected
    assert ("no such regex" in failed.message) is is_told


@pytest.mark.parametrize(
    "end",
    [Exchange.break_off, Exchange.end, lambda exchange: exchange.finish("abort")],
    ids=["connection lost", "no end", "aborted"],
)
async def test_a_broken_stream_fails_the_job_and_asks_to_try_again(bench: Bench, end: Any) -> None:
    bench.upstream.answer = says("half of ", "it", then=end)
    await bench.ready()
    answer = await bench.ask("hi")
    assert answer.text == "half of it"
    assert answer.failed.code == "upstream_failed"
    assert answer.failed.retryable


async def test_a_connection_closed_before_any_answer_is_tried_once_more(bench: Bench) -> None:
    async def answers_the_second_time(exchange: Exchange) -> None:
        if len(bench.upstream.exchanges) == 1:
            exchange.break_off()
        else:
            await says("here")(exchange)

    bench.upstream.answer = answers_the_second_time
    await bench.ready()
    assert (await bench.ask("hi")).text == "here"


@pytest.mark.parametrize(
    ("pieces", "code"), [((), "first_token_timeout"), (("a",), "token_gap_timeout")]
)
async def test_silence_ends_a_job_and_its_request(
    bench: Bench, pieces: tuple[str, ...], code: str
) -> None:
    bench.upstream.answer = says(*pieces, then=never)
    await bench.ready(engine_args={"first_token_timeout_s": 0.4, "token_gap_timeout_s": 0.4})
    failed = (await bench.ask("hi")).failed
    assert (failed.code, failed.retryable) == (code, True)
    await asyncio.wait_for(bench.upstream.exchanges[-1].left.wait(), 30)


async def test_cancelling_closes_the_request(bench: Bench) -> None:
    bench.upstream.answer = says("a", then=never)
    worker = await bench.ready()
    answer = await bench.client.put("hi")
    await answer.speaks()
    await bench.client.cancel(answer)
    await asyncio.wait_for(bench.upstream.exchanges[-1].left.wait(), 30)
    assert len(worker.outbox) == 0
