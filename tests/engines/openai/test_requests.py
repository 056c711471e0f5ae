"""Requests of the openai engine to a server."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

import pytest

from contract.asked import Guided, Media, TraceContext
from contract.messages import ChatMessage, Job, Sampling
from tests.engines.openai.bench import Bench
from workers.engine import JobRejected
from workers.engines.openai.upstream import Server
from workers.engines.openai.wire import media_taken, request_body


async def test_a_chat_asks_for_what_the_job_asks_for_and_no_more(bench: Bench) -> None:
    await bench.ready(share_prefix_cache=True)
    await bench.ask("hi", temperature=0.5, top_k=3, max_tokens=9, stop=("a", "b"), seed=4)
    assert bench.upstream.exchanges[-1].path == "/v1/chat/completions"
    assert bench.upstream.asked == {
        "model": "up",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_k": 3,
        "max_tokens": 9,
        "stop": ["a", "b"],
        "seed": 4,
    }


async def test_a_server_may_go_on_with_the_trace_of_a_job(bench: Bench) -> None:
    await bench.ready()
    trace = TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b")
    await bench.ask("hi", trace=trace)
    headers = bench.upstream.exchanges[-1].headers
    assert (headers["traceparent"], headers["tracestate"]) == (trace.traceparent, "a=b")
    await bench.ask("hi")
    assert "traceparent" not in bench.upstream.exchanges[-1].headers


def test_images_go_as_data_urls_at_their_places() -> None:
    data = b"a picture"
    digest = hashlib.sha256(data).hexdigest()
    media = (
        Media("image", 4, "image/png", digest, len(data), data),
        Media("audio", 7, "audio/wav", digest, len(data), data),
    )
    said = ChatMessage("user", "see, or hear", media=media)
    encoded = base64.b64encode(data).decode()
    body = request_body(Job("j", "m", Sampling(), messages=(said,)), Server(), None)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see,"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
                {"type": "text", "text": " or"},
                {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
                {"type": "text", "text": " hear"},
            ],
        }
    ]
    kinds = {kind: media_taken(Server(kind=kind)) for kind in ("vllm", "", "llamacpp")}
    assert kinds == {
        "vllm": ("image", "audio", "video"),
        "": ("image", "audio"),
        "llamacpp": (),
    }


async def test_a_plain_prompt_may_fill_the_context_that_the_server_names(bench: Bench) -> None:
    bench.upstream.models = [{"id": "up", "owned_by": "vllm", "max_model_len": 500}]
    worker = await bench.ready()
    await bench.ask(prompt="hi")
    assert bench.upstream.exchanges[-1].path == "/v1/completions"
    assert bench.upstream.asked["prompt"] == "hi"
    assert bench.upstream.asked["max_tokens"] == 500
    assert worker.report.max_model_len == 500


async def test_no_more_is_asked_for_than_the_configuration_allows(bench: Bench) -> None:
    await bench.ready(max_output_len=64)
    await bench.ask("hi", max_tokens=1000)
    assert bench.upstream.asked["max_tokens"] == 64


async def test_the_key_comes_from_the_variable_that_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sesame")
    await bench.ready(api_key_env="UPSTREAM_KEY")
    await bench.ask("hi")
    assert bench.upstream.exchanges[-1].headers["authorization"] == "Bearer sesame"


async def test_engine_args_bend_the_requests(bench: Bench) -> None:
    await bench.ready(
        engine_args={
            "include_usage": False,
            "max_tokens_name": "max_completion_tokens",
            "extra_body": {"safe_prompt": True},
        }
    )
    await bench.ask("hi", max_tokens=5)
    asked = bench.upstream.asked
    assert asked["max_completion_tokens"] == 5
    assert asked["safe_prompt"] is True
    assert not {"max_tokens", "stream_options"} & asked.keys()


async def test_a_vllm_keeps_the_prompts_of_keys_apart(bench: Bench) -> None:
    await bench.ready()
    await bench.ask("hi")
    assert len(bench.upstream.asked["cache_salt"]) == 32


async def test_only_a_vllm_is_asked_to_keep_them_apart_and_only_if_they_are_to_be(
    bench: Bench,
) -> None:
    await bench.ready(share_prefix_cache=True)
    await bench.ask("hi")
    assert "cache_salt" not in bench.upstream.asked
    job = Job("j", "m", Sampling(), prompt="x")
    assert "cache_salt" not in request_body(job, Server("sglang"), None, "salt")


async def test_an_adapter_is_a_model_of_the_server(bench: Bench) -> None:
    await bench.ready(adapters={"tone": "up-tone-v2"})
    await bench.ask("hi", adapter="tone")
    assert bench.upstream.asked["model"] == "up-tone-v2"
    answer = await bench.ask("hi", adapter="other")
    assert answer.failed.code == "invalid_request"
    assert "`tone`" in answer.failed.message


@pytest.mark.parametrize(
    ("kind", "guided", "words"),
    [
        ("vllm", ("regex", "a+"), {"structured_outputs": {"regex": "a+"}}),
        ("vllm", ("choice", '["a","b"]'), {"structured_outputs": {"choice": ["a", "b"]}}),
        ("tensorrt_llm", ("regex", "a+"), {"response_format": {"type": "regex", "regex": "a+"}}),
        (
            "tensorrt_llm",
            ("choice", '["a","b"]'),
            {"response_format": {"type": "ebnf", "ebnf": 'root ::= "a" | "b"'}},
        ),
        (
            "tensorrt_llm",
            ("json", '{"type":"null"}'),
            {"response_format": {"type": "json", "schema": {"type": "null"}}},
        ),
        ("sglang", ("grammar", 'root ::= "a"'), {"ebnf": 'root ::= "a"'}),
        (
            "vllm",
            ("structural_tag", '{"type":"structural_tag","format":{"type":"any_text"}}'),
            {"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
        ),
        ("llamacpp", ("choice", '["a"]'), {"grammar": 'root ::= "a"'}),
        ("", ("json_object", ""), {"response_format": {"type": "json_object"}}),
    ],
)
def test_a_constraint_is_put_in_the_words_of_the_server(
    kind: str, guided: tuple[Any, str], words: dict[str, Any]
) -> None:
    assert _asked(Guided(*guided), Server(kind, "0.32.0")).items() >= words.items()


def test_an_old_vllm_is_asked_in_its_old_words() -> None:
    body = _asked(Guided("regex", "a+"), Server("vllm", "0.10.2"))
    assert body["guided_regex"] == "a+"


def test_a_constraint_that_the_server_cannot_hold_is_refused() -> None:
    with pytest.raises(JobRejected, match="takes no regex"):
        _asked(Guided("regex", "a+"), Server("llamacpp"))


def _asked(guided: Guided, server: Server) -> dict[str, Any]:
    job = Job("j", "m", Sampling(guided=guided), prompt="x")
    return request_body(job, server, None)


async def test_what_only_some_servers_can_do_is_asked_of_those(bench: Bench) -> None:
    await bench.ready()
    given: dict[str, Any] = {"stop_token_ids": (3,), "bad_words": ("no",), "logit_bias": {5: 1.0}}
    given |= {"spaces_between_special_tokens": False, "vllm_xargs": {"a": 1}}
    await bench.ask("hi", **given, skip_special_tokens=False)
    asked = bench.upstream.asked
    assert (asked["stop_token_ids"], asked["bad_words"]) == ([3], ["no"])
    assert (asked["logit_bias"], asked["skip_special_tokens"]) == ({"5": 1.0}, False)
    assert (asked["spaces_between_special_tokens"], asked["vllm_xargs"]) == (False, {"a": 1})
    job = Job("j", "m", Sampling(bad_words=("no",)), prompt="x")
    with pytest.raises(JobRejected, match="`bad_words`: the server behind this model cannot"):
        request_body(job, Server("", "", None), 5)


#: Of it xgrammar reads the branches alone, if they are not folded.
MIXED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"a": {"enum": [1]}, "b": {"enum": [2]}},
    "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
}


@pytest.mark.parametrize(("kind", "folds"), [("vllm", True), ("sglang", True), ("", False)])
def test_what_xgrammar_would_forget_of_a_schema_is_folded(kind: str, folds: bool) -> None:
    asked = _asked(Guided("json", json.dumps(MIXED)), Server(kind))
    sent = asked["response_format"]["json_schema"]["schema"]
    assert (sent != MIXED) is folds
    assert all("properties" in each for each in sent["anyOf"]) is folds


def test_what_it_would_forget_in_a_structural_tag_is_folded() -> None:
    tag = {"type": "structural_tag", "format": {"type": "json_schema", "json_schema": MIXED}}
    asked = _asked(Guided("structural_tag", json.dumps(tag)), Server("sglang"))
    sent = asked["response_format"]["format"]["json_schema"]
    assert all("properties" in each for each in sent["anyOf"])
