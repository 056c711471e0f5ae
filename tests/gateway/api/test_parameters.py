"""Parameters of vLLM's API that not every engine knows: they reach the worker as they are meant."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from contract.messages import Job, TokenLogprob
from tests.gateway.scripted_worker import ScriptedWorker, delta

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


async def asked(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, body: dict[str, Any]
) -> tuple[Job, dict[str, Any]]:
    """Return the job that a request becomes, and the answer to it."""
    asking = asyncio.create_task(client.post(f"/v1/{path}", json=body))
    attempt = await worker.start()
    logprobs = (TokenLogprob("a", -0.5, (("a", -0.5),)),)
    wants = attempt.job.sampling.logprobs is not None
    await worker.say(attempt, delta("a", logprobs=logprobs if wants else None))
    await worker.done(attempt)
    response = await asking
    assert response.status_code == 200, response.text
    return attempt.job, response.json()


async def test_what_chooses_tokens_reaches_the_worker(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    given = {
        "logit_bias": {"5": -100, "7": 2.5},
        "stop_token_ids": [3, 4],
        "bad_words": ["no"],
        "allowed_token_ids": [5, 6],
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "spaces_between_special_tokens": False,
        "vllm_xargs": {"penalty": 1.5, "names": ["a", 2]},
        "add_special_tokens": True,
        "truncate_prompt_tokens": 8,
        "truncation_side": "right",
        "cache_salt": "mine",
    }
    job, _ = await asked(
        client, worker, "chat/completions", {"model": model, "messages": MESSAGES, **given}
    )
    sampling = job.sampling
    assert sampling.logit_bias == {5: -100, 7: 2.5}
    assert (sampling.stop_token_ids, sampling.bad_words) == ((3, 4), ("no",))
    assert sampling.allowed_token_ids == (5, 6)
    assert sampling.include_stop_str_in_output
    assert not sampling.skip_special_tokens
    assert not sampling.spaces_between_special_tokens
    assert sampling.vllm_xargs == {"penalty": 1.5, "names": ["a", 2]}
    assert job.add_special_tokens
    assert (job.truncate_prompt_tokens, job.cache_salt) == (8, "mine")
    assert job.keeps_beginning


async def test_arguments_that_vllm_itself_would_read_are_no_extension_s(
    client: httpx.AsyncClient, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "vllm_xargs": {"kv_transfer_params": "x"}}
    refused = await client.post("/v1/chat/completions", json=body)
    assert (refused.status_code, "`kv_transfer_params`" in refused.text) == (400, True)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]]])
async def test_a_prompt_may_be_token_ids(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, prompt: Any
) -> None:
    job, _ = await asked(client, worker, "completions", {"model": model, "prompt": prompt})
    assert (job.prompt, job.prompt_ids, job.messages) == (None, (1, 2, 3), None)


async def test_all_keys_of_a_bias_that_are_no_tokens_are_named_together(
    client: httpx.AsyncClient, model: str
) -> None:
    biased = {"model": model, "messages": MESSAGES, "logit_bias": {"bad": 1, "5": 1, "-5": 1}}
    told = (await client.post("/v1/chat/completions", json=biased)).json()["error"]
    message = "`logit_bias`: keys are token ids, and these are none: `bad`, `-5`"
    assert (told["param"], told["message"]) == ("logit_bias", message)


async def test_log_probabilities_alone_have_no_others_beside_them(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "logprobs": True}
    _, answer = await asked(client, worker, "chat/completions", body)
    token = answer["choices"][0]["logprobs"]["content"][0]
    assert (token["token"], token["top_logprobs"]) == ("a", [])


async def test_more_tokens_than_there_may_be_are_as_many_as_there_may_be(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    body = {"model": model, "messages": MESSAGES, "max_tokens": 32_000}
    job, _ = await asked(client, worker, "chat/completions", body)
    assert job.sampling.max_tokens == 1_000


async def test_a_conversation_may_end_with_the_beginning_of_the_answer(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str
) -> None:
    messages = [*MESSAGES, {"role": "assistant", "content": "I say"}]
    body = {"model": model, "messages": messages, "continue_final_message": True}
    job, _ = await asked(client, worker, "chat/completions", body)
    assert job.template is not None
    assert job.template.continue_final_message
    assert not job.template.add_generation_prompt
