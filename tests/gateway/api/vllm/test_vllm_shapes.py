"""Answers of `/v1/messages` and `/v1/responses` have the shape of a real `vllm serve`'s answers.

`vllm_shapes.json` was recorded from vLLM 0.32 with the demo model: for each request the events of
its stream in order, without repetitions, and the names of all fields, by event.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from contract.messages import Delta, Done, Event, PromptDelta, TokenLogprob, ToolCallDelta
from tests.gateway.api.agents import ONE
from tests.gateway.scripted_worker import ScriptedWorker
from tests.gateway.sse_client import collect

RECORDED: Final = json.loads(Path(__file__).with_name("vllm_shapes.json").read_text())
#: Fields of vLLM's that neither API has, or that are null wherever there is nothing to say.
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
        "tool_output_tokens",
        "tool_output_tokens_per_turn",
    }
)
#: vLLM tells an answer that was cut short as one that is complete.
SAME_AS: Final = {"response.incomplete": "response.completed"}


def fields_of(value: Any, within: str = "") -> set[str]:
    """The names of all fields, with those of the objects that they are in."""
    if isinstance(value, list):
        return set().union(*(fields_of(each, f"{within}[]") for each in value))
    if not isinstance(value, dict):
        return set()
    named = {f"{within}.{name}" if within else name: each for name, each in value.items()}
    return set(named).union(*(fields_of(each, name) for name, each in named.items()))


def missing(wanted: Sequence[str], value: Any) -> set[str]:
    """Return the wanted fields that are missing, but for vLLM's own."""
    told = {name for name in wanted if not VLLMS_OWN & {*name.replace("[]", "").split(".")}}
    # The content of a tool's schema, or of a call's input, is the client's or the model's.
    return {name for name in told - fields_of(value) if ".parameters." not in name}


def answer_to(path: str, body: dict[str, Any]) -> tuple[Event, ...]:
    """An answer of the kind that the demo model gave."""
    if path.endswith("count_tokens"):
        return (PromptDelta("", b"", prompt=ONE), Done(("stop",), 1, 0))
    if body.get("tools"):
        call = ToolCallDelta('{"city": "K', ONE, 0, None, 0, "call_a", "weather")
        return (call, Done(("length",), 16, 1))
    if body.get("stop_sequences"):
        return (Delta("ew is a ", ONE), Done(("stop",), 16, 1, stop_strings=("gateway",)))
    chance = (TokenLogprob("ew", -0.5, (("ew", -0.5),)),) if body.get("top_logprobs") else None
    return (Delta("ew", ONE, 0, chance), Done(("length",), 16, 1))


def name_of(entry: dict[str, Any]) -> str:
    asked = sorted(entry["body"].keys() - {"model", "temperature"})
    return f"{entry['path'].rpartition('/')[2]}-{','.join(asked)}-{entry['body'].get('max_tokens')}"


@pytest.mark.parametrize("entry", RECORDED, ids=name_of)
async def test_an_answer_has_the_shape_of_vllms(
    client: httpx.AsyncClient, worker: ScriptedWorker, model: str, entry: dict[str, Any]
) -> None:
    body = {**entry["body"], "model": model}
    is_stream = bool(body.get("stream"))
    path = entry["path"]
    asking: Any = collect(client, path, body) if is_stream else client.post(path, json=body)
    answer = await worker.answered(asking, *answer_to(path, body))
    if not is_stream:
        assert missing(entry["keys"], answer.json()) == set()
        return
    names = [SAME_AS.get(event.name, event.name) for event in answer]
    assert list(dict.fromkeys(names)) == list(dict.fromkeys(entry["order"]))
    for name, event in zip(names, answer, strict=True):
        assert missing(entry["keys"][name], event.json) == set(), name
