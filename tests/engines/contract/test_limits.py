"""Limits and counts: tokens are counted right, and nothing runs past what was asked."""

from __future__ import annotations

import pytest

from tests.engines.contract.harness import Client
from tests.engines.contract.questions import ANSWERS, COUNT, HELLO


async def test_max_tokens_ends_an_answer(client: Client) -> None:
    answer = await client.ask(COUNT, max_tokens=5)
    assert answer.done.finish_reasons == ("length",)
    assert answer.done.completion_tokens == 5


@pytest.mark.needs("model")
async def test_an_answer_may_fill_the_context_and_no_more(client: Client) -> None:
    answer = await client.ask(COUNT, max_tokens=100_000, ignore_eos=True)
    done = answer.done
    assert done.finish_reasons == ("length",)
    assert done.prompt_tokens + done.completion_tokens == client.max_model_len


@pytest.mark.needs("model")
@pytest.mark.parametrize("plainly", [False, True])
async def test_without_max_tokens_only_the_context_bounds_an_answer(
    client: Client, plainly: bool
) -> None:
    prompt = f"<|im_start|>user\n{COUNT}<|im_end|>\n<|im_start|>assistant\n"
    answer = await client.ask(COUNT, prompt=prompt if plainly else None)
    assert answer.text == ANSWERS[COUNT]


async def test_a_prompt_beyond_the_context_is_too_long(client: Client) -> None:
    answer = await client.ask("word " * (client.max_model_len + 50), max_tokens=5)
    assert answer.failed.code == "prompt_too_long"
    assert not answer.failed.retryable


@pytest.mark.needs("model", "min_tokens")
async def test_min_tokens_keeps_an_answer_going(client: Client) -> None:
    short = await client.ask(HELLO)
    wanted = short.done.completion_tokens + 10
    longer = await client.ask(HELLO, min_tokens=wanted, max_tokens=wanted + 20)
    assert longer.done.completion_tokens >= wanted
    assert longer.text.startswith(short.text)


@pytest.mark.needs("model")
async def test_ignore_eos_goes_on_to_max_tokens(client: Client) -> None:
    answer = await client.ask(HELLO, ignore_eos=True, max_tokens=40)
    assert answer.done.finish_reasons == ("length",)
    assert answer.done.completion_tokens == 40


async def test_usage_counts_prompt_and_answer(client: Client) -> None:
    answer = await client.ask("one two three", max_tokens=12)
    longer = await client.ask("one two three one two three", max_tokens=12)
    assert 0 < answer.done.prompt_tokens < longer.done.prompt_tokens
    assert answer.done.completion_tokens == 12


@pytest.mark.needs("tokens")
async def test_every_token_of_an_answer_is_handed_over(client: Client) -> None:
    answer = await client.ask(COUNT, max_tokens=30)
    assert len(answer.token_ids) == answer.done.completion_tokens == 30


@pytest.mark.needs("model")
@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 5.0}])
async def test_a_wrong_parameter_is_an_invalid_request_and_harms_nobody(
    client: Client, wrong: dict[str, float]
) -> None:
    bystander = await client.put(COUNT)
    answer = await client.ask(HELLO, **wrong)
    assert answer.failed.code == "invalid_request"
    assert not answer.failed.retryable
    assert (await bystander.ended()).text == ANSWERS[COUNT]


@pytest.mark.needs("model")
async def test_an_empty_prompt_is_an_invalid_request(client: Client) -> None:
    answer = await client.ask(prompt="")
    assert answer.failed.code == "invalid_request"


@pytest.mark.needs("script")
async def test_a_job_that_fails_in_the_engine_fails_alone(client: Client) -> None:
    bystander = await client.put("count", max_tokens=20)
    answer = await client.ask("count [[fail_at=3]]", max_tokens=20)
    assert answer.failed.code == "engine_failed"
    assert answer.text == "0 1 2 "
    assert (await bystander.ended()).done.completion_tokens == 20
