"""Answers of OpenAI's, vLLM's and Anthropic's APIs have the shape of a real `vllm serve`'s answers.

`vllm_shapes.json` was recorded from vLLM 0.32 with the demo model, by record_shapes.py: for each
request the fields of its answer with their types, by event, and in which order a stream tells it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from contract.media import speech_head
from contract.messages import (
    Delta,
    Done,
    Event,
    PromptDelta,
    PromptToken,
    ReasoningDelta,
    TokenLogprob,
    ToolCallDelta,
)
from tests.gateway.api.agents import ONE
from tests.gateway.api.vllm.record_shapes import (
    FORMS,
    REQUESTS,
    SHAPES,
    body_of,
    form_of,
    silence,
)
from tests.gateway.api.vllm.shapes import Fields, Shape, shape_of
from tests.gateway.scripted_worker import ScriptedWorker

RECORDED: Final = json.loads(SHAPES.read_text())
#: Fields of vLLM's that no other API has, or that are null wherever there is nothing to say.
VLLMS_OWN: Final = frozenset(
    {
        "allowed_callers",
        "async",
        "cached_tokens_per_turn",
        "caller",
        "defer_loading",
        "ec_transfer_params",
        "frequency_penalty",
        "input_messages",
        "input_tokens_per_turn",
        "kv_transfer_params",
        "namespace",
        "output_messages",
        "output_schema",
        "output_tokens_per_turn",
        "phase",
        "presence_penalty",
        "prompt",
        "system_fingerprint",
        "tool_output_tokens",
        "tool_output_tokens_per_turn",
    }
)

#: An HTTP status in vLLM, and a text in OpenAI's own API.
TYPED_OTHERWISE: Final = frozenset({"error.code"})
#: vLLM tells an answer that was cut short as one that is complete.
SAME_AS: Final = {"response.incomplete": "response.completed"}
PROMPT: Final = PromptDelta(
    "",
    b"",
    prompt=array("I", [5, 6]).tobytes(),
    prompt_text="What",
    names=("Wh", "at"),
    places=((PromptToken(5, "Wh"),), (PromptToken(6, "at", -0.25, 1),)),
)


def missing(wanted: dict[str, str], told: Fields) -> set[str]:
    """Return the wanted fields that are missing, but for vLLM's own and those that say nothing."""
    return {
        name
        for name in wanted.keys() - told.keys()
        if wanted[name] != "null"
        and not VLLMS_OWN & {*name.replace("[]", "").split(".")}
        # The content of a tool's schema, or of a call's input, is the client's or the model's.
        and not any(inside in name for inside in (".parameters.", ".input."))
    }


def mistyped(wanted: dict[str, str], told: Fields) -> dict[str, tuple[set[str], set[str]]]:
    """Return the fields, with their types there and here, that have another type than theirs; a
    field may be null."""
    both = {
        name: ({*wanted[name].split("|")}, told[name])
        for name in wanted.keys() & told.keys() - TYPED_OTHERWISE
    }
    return {
        name: (theirs, ours)
        for name, (theirs, ours) in both.items()
        if theirs - {"null"} and ours - theirs - {"null"}
    }


def answer_to(name: str, body: dict[str, Any]) -> tuple[Event, ...]:
    """An answer of the kind that the demo model gave."""
    tells = body.keys() & {"echo", "prompt_logprobs", "return_token_ids", "tokens"}
    prompt = (PROMPT,) if tells or name.startswith(("tokens", "text of", "count")) else ()
    if body.keys() & {"tokens"} or name.startswith(("tokens", "count")):
        return (*prompt, Done(("stop",), 2, 0))
    said: list[Event] = []
    if "reasoning" in name or "thinking" in name:
        said.append(ReasoningDelta("Hm.", ONE))
    if "tool" in name:
        said.append(ToolCallDelta('{"city": "K', ONE, 0, None, 0, "call_a", "get_weather"))
        return (*said, Done(("tool_calls",), 16, 1))
    if body.get("stop_sequences"):
        return (Delta("ew is a ", ONE), Done(("stop",), 16, 1, stop_strings=("gateway",)))
    told = body.get("top_logprobs") or body.get("logprobs") or body.get("echo")
    chance = (TokenLogprob("ew", -0.5, (("ew", -0.5),)),) if told else None
    choices = body.get("n", 1)
    said += [Delta("ew", ONE, index, chance) for index in range(choices)]
    return (*prompt, *said, Done(("length",) * choices, 16, choices))


def shape_here(response: httpx.Response, *, is_stream: bool) -> Shape:
    shape = shape_of(response.text, is_stream=is_stream)
    fields = {SAME_AS.get(name, name): told for name, told in shape.fields.items()}
    return Shape(fields, list(fields), shape.told)


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_answer_has_the_shape_of_vllms(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, name: str
) -> None:
    recorded = RECORDED[name]
    path, body = body_of(name, model)
    asking = client.post(path, json=body)
    if recorded["status"] == 200:
        jobs = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
        response = await worker.answered_each(asking, *[answer_to(name, body)] * jobs)
    else:
        response = await asking
    is_stream = bool(body.get("stream"))
    # vLLM tells what it needs for the echo, though the request does not ask for it.
    check_shape(response, recorded, is_stream, beside="prompt_logprobs" if "echo" in body else "")


def check_shape(
    response: httpx.Response, recorded: dict[str, Any], is_stream: bool, beside: str = ""
) -> None:
    """Fail unless an answer has the recorded shape, but for the fields `beside` it."""
    assert response.status_code == recorded["status"]
    shape = shape_here(response, is_stream=is_stream)
    assert (shape.order, shape.told) == (recorded["order"], recorded["told"])
    for event, told in recorded["fields"].items():
        fields = {name: told[name] for name in told if not (beside and beside in name)}
        assert missing(fields, shape.fields[event]) == set(), event
        assert mistyped(fields, shape.fields[event]) == {}, event


@pytest.fixture
async def listener(redis_url: str, model: str) -> AsyncIterator[ScriptedWorker]:
    worker = ScriptedWorker(redis_url, model)
    worker.takes_media = ("audio",)
    async with worker:
        yield worker


@pytest.mark.parametrize("name", FORMS)
async def test_a_speech_has_the_shape_of_vllms(
    client: httpx.AsyncClient, listener: ScriptedWorker, model: str, name: str
) -> None:
    path, form = form_of(name, model)
    asking = client.post(path, data=form, files={"file": ("a.wav", silence())})
    head = Delta(speech_head(**{"from": 0.0, "seconds": 1.0, "language": "en"}), b"")
    if RECORDED[name]["status"] == 200:
        said = (head, Delta("Hm.", ONE), Done(("length",), 16, 8))
        response = await listener.answered(asking, *said)
    else:
        response = await asking
    check_shape(response, RECORDED[name], is_stream="stream" in form)
