"""Request bodies as clients send them, and the statuses with which a real vLLM answered them.

    python -m tests.gateway.api.vllm.vllm_bodies URL [KEY]    sends all, writes vllm_statuses.json

The statuses are those of vLLM 0.32.0 on a CPU: `vllm serve deploy/demo-model --served-model-name
demo --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser deepseek_v3`. The bodies
are of the kinds that the clients of tests/clients send, and one for each field of vLLM's protocol.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import httpx

STATUSES: Final = Path(__file__).with_name("vllm_statuses.json")
USER: Final[dict[str, Any]] = {"role": "user", "content": "What is ew?"}
SHORT: Final[dict[str, Any]] = {"max_tokens": 4}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
#: A structural tag of xgrammar's, in its newer form.
TAGGED: Final[dict[str, Any]] = {
    "type": "tag",
    "begin": "<p>",
    "content": {"type": "json_schema", "json_schema": SCHEMA},
    "end": "</p>",
}
FUNCTION: Final[dict[str, Any]] = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOL: Final[dict[str, Any]] = {"type": "function", "function": FUNCTION}
NAMED: Final[dict[str, Any]] = {"type": "function", "function": {"name": "get_weather"}}
CALL: Final[dict[str, Any]] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
RESULT: Final[dict[str, Any]] = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def said(**message: Any) -> dict[str, Any]:
    """A conversation whose second turn is this one of the assistant."""
    return {"messages": [USER, {"role": "assistant", **message}, USER]}


def turns(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


def user(content: Any, **more: Any) -> dict[str, Any]:
    return turns({"role": "user", "content": content, **more})


def json_schema(**more: Any) -> dict[str, Any]:
    named = {"name": "Person", "schema": SCHEMA, **more}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def function(**more: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": FUNCTION | more}]}


#: Fields that both endpoints have.
COMMON: Final[dict[str, dict[str, Any]]] = {
    "nothing more": {},
    "temperature 0": {"temperature": 0},
    "temperature 2": {"temperature": 2.0},
    "temperature as text": {"temperature": "0.5"},
    "temperature null": {"temperature": None},
    "top_p": {"top_p": 0.9},
    "top_p 1": {"top_p": 1},
    "top_k": {"top_k": 5},
    "top_k -1": {"top_k": -1},
    "top_k 0": {"top_k": 0},
    "min_p": {"min_p": 0.1},
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1},
    "n 2": {"n": 2, "temperature": 1},
    "n null": {"n": None},
    "seed": {"seed": 7},
    "seed negative": {"seed": -1},
    "seed large": {"seed": 2**62},
    "max_tokens null": {"max_tokens": None},
    "max_tokens as text": {"max_tokens": "4"},
    "max_tokens whole float": {"max_tokens": 4.0},
    "max_tokens 1": {"max_tokens": 1},
    "min_tokens": {"min_tokens": 2},
    "stop text": {"stop": "ew"},
    "stop list": {"stop": ["ew", "gate"]},
    "stop empty list": {"stop": []},
    "stop null": {"stop": None},
    "stop empty text": {"stop": ""},
    "stop many": {"stop": [f"stop {number}" for number in range(12)]},
    "stop_token_ids": {"stop_token_ids": [2, 0]},
    "stop_token_ids empty": {"stop_token_ids": []},
    "ignore_eos": {"ignore_eos": True},
    "logit_bias": {"logit_bias": {"5": -100, "7": 2.5}},
    "logit_bias empty": {"logit_bias": {}},
    "bad_words": {"bad_words": ["gateway"]},
    "bad_words empty": {"bad_words": []},
    "allowed_token_ids": {"allowed_token_ids": [5, 6, 7]},
    "include_stop_str_in_output": {"include_stop_str_in_output": True, "stop": "ew"},
    "skip_special_tokens": {"skip_special_tokens": False},
    "spaces_between_special_tokens": {"spaces_between_special_tokens": False},
    "truncate_prompt_tokens": {"truncate_prompt_tokens": 8},
    "truncate_prompt_tokens -1": {"truncate_prompt_tokens": -1},
    "truncation_side": {"truncate_prompt_tokens": 8, "truncation_side": "left"},
    "user": {"user": "alice"},
    "length_penalty": {"length_penalty": 1.0},
    "length_penalty without effect": {"length_penalty": 0.5},
    "use_beam_search false": {"use_beam_search": False},
    "priority 0": {"priority": 0},
    "request_id": {"request_id": "mine-1"},
    "session_id": {"session_id": "s"},
    "cache_salt": {"cache_salt": "salt"},
    "return_token_ids": {"return_token_ids": True},
    "return_tokens_as_token_ids": {"return_tokens_as_token_ids": True},
    "prompt_logprobs": {"prompt_logprobs": 1},
    "prompt_logprobs 0": {"prompt_logprobs": 0},
    "structured json": {"structured_outputs": {"json": SCHEMA}},
    "structured json as text": {"structured_outputs": {"json": json.dumps(SCHEMA)}},
    "structured regex": {"structured_outputs": {"regex": "[a-z]{2}"}},
    "structured choice": {"structured_outputs": {"choice": ["yes", "no"]}},
    "structured grammar": {"structured_outputs": {"grammar": 'root ::= "yes" | "no"'}},
    "structured json_object": {"structured_outputs": {"json_object": True}},
    "structured null": {"structured_outputs": None},
    "guided_json": {"guided_json": SCHEMA},
    "guided_choice": {"guided_choice": ["yes", "no"]},
    "response_format text": {"response_format": {"type": "text"}},
    "response_format null": {"response_format": None},
    "response_format json_object": {"response_format": {"type": "json_object"}},
    "response_format json_schema": json_schema(),
    "response_format json_schema strict": json_schema(strict=True, description="A person."),
    "response_format json_schema not strict": json_schema(strict=False),
    "response_format structural_tag": {
        "response_format": {
            "type": "structural_tag",
            "structures": [{"begin": "<p>", "schema": SCHEMA, "end": "</p>"}],
            "triggers": ["<p>"],
        }
    },
    "response_format structural_tag, newer": {
        "response_format": {"type": "structural_tag", "format": TAGGED}
    },
    "response_format structural_tag, both": {
        "response_format": {
            "type": "structural_tag",
            "format": TAGGED,
            "structures": [{"begin": "<p>", "schema": SCHEMA, "end": "</p>"}],
            "triggers": ["<p>"],
        }
    },
    "response_format structural_tag without": {"response_format": {"type": "structural_tag"}},
    "response_format structural_tag odd": {
        "response_format": {"type": "structural_tag", "format": {"type": "odd"}}
    },
    "structured structural_tag": {
        "structured_outputs": {
            "structural_tag": json.dumps({"type": "structural_tag", "format": TAGGED})
        }
    },
    "vllm_xargs": {"vllm_xargs": {"a": 1}},
    "vllm_xargs null": {"vllm_xargs": None},
    "kv_transfer_params null": {"kv_transfer_params": None},
    "stream": {"stream": True},
    "stream with usage": {"stream": True, "stream_options": {"include_usage": True}},
    "stream_options null": {"stream": True, "stream_options": None},
    "stream_options continuous": {
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
    "stream_options unknown": {
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    },
    "stream_interval": {"stream": True, "stream_interval": 2},
    "stream null": {"stream": None},
    "thinking_token_budget null": {"thinking_token_budget": None},
    "repetition_detection null": {"repetition_detection": None},
    "logprob_token_ids null": {"logprob_token_ids": None},
    "unknown fields": {"provider": {"order": ["x"]}, "transforms": [], "route": "fallback"},
    "extra_body as a field": {"extra_body": {"top_k": 5}},
    "extra_headers as a field": {"extra_headers": {"a": "b"}},
    "metadata": {"metadata": {"a": "b"}, "store": False},
}
CHAT: Final[dict[str, dict[str, Any]]] = {
    **COMMON,
    "content parts": user([{"type": "text", "text": "What is ew?"}]),
    "content parts several": user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    "content part cache_control": user(
        [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    ),
    "content bare strings": user(["a", "b"]),
    "content empty": user(""),
    "content empty list": user([]),
    "content null of a user": user(None),
    "content missing of a user": turns({"role": "user"}),
    "content refusal part": said(content=[{"type": "refusal", "refusal": "no"}]),
    "content thinking part": said(
        content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]
    ),
    "content image": user(
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    ),
    "name of a user": user("hi", name="alice"),
    "name null": user("hi", name=None),
    "unknown fields of a message": user("hi", id="x", metadata={}, cache_control=None),
    "system": turns({"role": "system", "content": "be"}, USER),
    "system in parts": turns({"role": "system", "content": [{"type": "text", "text": "be"}]}, USER),
    "system after": turns(USER, {"role": "system", "content": "be"}, USER),
    "developer": turns({"role": "developer", "content": "be"}, USER),
    "function role": turns(USER, {"role": "function", "name": "f", "content": "x"}),
    "role of its own": turns({"role": "critic", "content": "x"}, USER),
    "assistant first": turns({"role": "assistant", "content": "hi"}, USER),
    "assistant last": turns(USER, {"role": "assistant", "content": "ew"}),
    "two of a user": turns(USER, USER),
    "said": said(content="yes"),
    "said null": said(content=None),
    "said nothing": said(),
    "said parsed": said(content="{}", refusal=None, parsed=None, annotations=[], audio=None),
    "said parsed object": said(content='{"a": 1}', parsed={"a": 1}),
    "said refusal": said(content=None, refusal="no"),
    "said provider fields": said(content="a", provider_specific_fields={"x": 1}, images=[]),
    "said reasoning": said(content="a", reasoning="hm"),
    "said reasoning_content": said(content="a", reasoning_content="hm"),
    "said reasoning_details": said(content="a", reasoning_details=[{"type": "x"}]),
    "said function_call null": said(content="a", function_call=None, tool_calls=None),
    "said tool_calls empty": said(content="a", tool_calls=[]),
    "called": turns(USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT),
    "called null content": turns(
        USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT
    ),
    "called with tools": turns(USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT)
    | function(),
    "called with index": turns(
        USER, {"role": "assistant", "content": "", "tool_calls": [CALL | {"index": 0}]}, RESULT
    ),
    "called without type": turns(
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": CALL["function"]}],
        },
        RESULT,
    ),
    "called with an object": turns(
        USER,
        {
            "role": "assistant",
            "tool_calls": [
                CALL | {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
            ],
        },
        RESULT,
    ),
    "called with nothing": turns(
        USER,
        {
            "role": "assistant",
            "tool_calls": [CALL | {"function": {"name": "get_weather", "arguments": ""}}],
        },
        RESULT,
    ),
    "called with bad JSON": turns(
        USER,
        {
            "role": "assistant",
            "tool_calls": [CALL | {"function": {"name": "get_weather", "arguments": "{"}}],
        },
        RESULT,
    ),
    "called with fields": turns(
        USER,
        {
            "role": "assistant",
            "tool_calls": [CALL | {"extra_content": {"google": {"thought_signature": "x"}}}],
        },
        RESULT,
    ),
    "result in parts": turns(
        USER,
        {"role": "assistant", "tool_calls": [CALL]},
        RESULT | {"content": [{"type": "text", "text": "sunny"}]},
    ),
    "result with a name": turns(
        USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT | {"name": "get_weather"}
    ),
    "result with status": turns(
        USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT | {"status": "success"}
    ),
    "result without an id": turns(
        USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "sunny"}
    ),
    "result null": turns(
        USER, {"role": "assistant", "tool_calls": [CALL]}, RESULT | {"content": None}
    ),
    "tools": function(),
    "tools strict": function(strict=True),
    "tools strict null": function(strict=None),
    "tools without parameters": {"tools": [{"type": "function", "function": {"name": "now"}}]},
    "tools parameters null": function(parameters=None),
    "tools parameters empty": function(parameters={}),
    "tools description null": function(description=None),
    "tools with fields": {"tools": [TOOL | {"cache_control": {"type": "ephemeral"}}]},
    "tools without type": {"tools": [{"function": FUNCTION}]},
    "tools schema of pydantic": function(
        parameters={
            "$defs": {"Unit": {"enum": ["C", "F"], "title": "Unit", "type": "string"}},
            "properties": {
                "city": {"title": "City", "type": "string"},
                "unit": {"$ref": "#/$defs/Unit", "default": "C"},
                "days": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            },
            "required": ["city"],
            "title": "get_weather",
            "type": "object",
        }
    ),
    "tools empty": {"tools": []},
    "tools null": {"tools": None, "tool_choice": None, "parallel_tool_calls": None},
    "tools empty, auto": {"tools": [], "tool_choice": "auto"},
    "tools empty, none": {"tools": [], "tool_choice": "none"},
    "tool_choice auto": function() | {"tool_choice": "auto"},
    "tool_choice none": function() | {"tool_choice": "none"},
    "tool_choice required": function() | {"tool_choice": "required"},
    "tool_choice named": function() | {"tool_choice": NAMED},
    "tool_choice named with fields": function()
    | {"tool_choice": NAMED | {"disable_parallel_tool_use": True}},
    "tool_choice null": function() | {"tool_choice": None},
    "tool_choice none alone": {"tool_choice": "none"},
    "tool_choice auto alone": {"tool_choice": "auto"},
    "parallel_tool_calls false": function() | {"parallel_tool_calls": False},
    "parallel_tool_calls alone": {"parallel_tool_calls": True},
    "tools streamed": function() | {"stream": True},
    "tools and a schema": function() | json_schema(),
    "required and a schema": function() | {"tool_choice": "required"} | json_schema(),
    "functions": {"functions": [FUNCTION], "function_call": "auto"},
    "functions named": {"functions": [FUNCTION], "function_call": {"name": "get_weather"}},
    "functions none": {"functions": [FUNCTION], "function_call": "none"},
    "functions null": {"functions": None, "function_call": None},
    "function_call alone": {"function_call": "auto"},
    "function called": turns(
        USER,
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "name": "get_weather", "content": "sunny"},
    )
    | {"functions": [FUNCTION]},
    "logprobs": {"logprobs": True},
    "logprobs and others": {"logprobs": True, "top_logprobs": 3},
    "logprobs false": {"logprobs": False, "top_logprobs": None},
    "logprobs false and 0": {"logprobs": False, "top_logprobs": 0},
    "logprobs null": {"logprobs": None, "top_logprobs": 0},
    "max_completion_tokens": {"max_tokens": None, "max_completion_tokens": 4},
    "both maxima": {"max_tokens": 8, "max_completion_tokens": 4},
    "max_tokens above the context": {"max_tokens": 100_000, "stop": ["gateway"]},
    "modalities": {"modalities": ["text"]},
    "prediction": {"prediction": {"type": "content", "content": "ew"}},
    "service_tier": {"service_tier": "auto"},
    "safety_identifier": {"safety_identifier": "x", "prompt_cache_key": "y"},
    "web_search_options": {"web_search_options": {}},
    "reasoning_effort low": {"reasoning_effort": "low"},
    "reasoning_effort none": {"reasoning_effort": "none"},
    "reasoning_effort null": {"reasoning_effort": None},
    "reasoning_effort of a model's own": {"reasoning_effort": "ultra"},
    "reasoning object": {"reasoning": {"effort": "low"}},
    "thinking object": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "enable_thinking as a field": {"enable_thinking": True},
    "verbosity": {"verbosity": "low"},
    "include_reasoning false": {"include_reasoning": False},
    "include_reasoning true": {"include_reasoning": True},
    "thinks": {"chat_template_kwargs": {"enable_thinking": True}},
    "thinks with tools": function() | {"chat_template_kwargs": {"enable_thinking": True}},
    "thinks with a schema": json_schema() | {"chat_template_kwargs": {"enable_thinking": True}},
    "chat_template_kwargs null": {"chat_template_kwargs": None},
    "chat_template_kwargs of a model's own": {"chat_template_kwargs": {"style": {"a": [1]}}},
    "chat_template": {"chat_template": "{{ messages[0]['content'] }}"},
    "chat_template null": {"chat_template": None},
    "documents": {"documents": [{"title": "a", "text": "b"}]},
    "documents null": {"documents": None},
    "echo false": {"echo": False},
    "echo": {"echo": True},
    "echo of a prefill": turns(USER, {"role": "assistant", "content": "ew is"})
    | {"echo": True, "add_generation_prompt": False, "continue_final_message": True},
    "prefill": turns(USER, {"role": "assistant", "content": "ew is"})
    | {"add_generation_prompt": False, "continue_final_message": True},
    "prefill and a prompt": turns(USER, {"role": "assistant", "content": "ew is"})
    | {"continue_final_message": True},
    "no generation prompt": {"add_generation_prompt": False},
    "add_special_tokens": {"add_special_tokens": True},
    "add_special_tokens false": {"add_special_tokens": False},
    "mm_processor_kwargs null": {"mm_processor_kwargs": None},
    "media_io_kwargs null": {"media_io_kwargs": None},
    "return_prompt_text": {"return_prompt_text": True},
    "usage of OpenRouter": {"usage": {"include": True}},
    "return_mm_kwargs false": {"return_mm_kwargs": False},
}
COMPLETIONS: Final[dict[str, dict[str, Any]]] = {
    **COMMON,
    "prompt list of one": {"prompt": ["What is ew?\n"]},
    "prompt list of two": {"prompt": ["What is ew?\n", "Who are you?\n"]},
    "prompt token ids": {"prompt": [5, 6, 7]},
    "prompt list of token ids": {"prompt": [[5, 6, 7]]},
    "prompt two lists of token ids": {"prompt": [[5, 6, 7], [8, 9]]},
    "prompt empty": {"prompt": ""},
    "max_tokens missing": {"max_tokens": 16},
    "max_tokens 0 with echo": {"max_tokens": 0, "echo": True},
    "max_tokens 0": {"max_tokens": 0},
    "echo": {"echo": True},
    "echo false": {"echo": False},
    "echo with logprobs": {"echo": True, "logprobs": 1},
    "logprobs 0": {"logprobs": 0},
    "logprobs 5": {"logprobs": 5},
    "logprobs null": {"logprobs": None},
    "suffix null": {"suffix": None},
    "suffix": {"suffix": "end"},
    "best_of 1": {"best_of": 1},
    "best_of 2": {"best_of": 2},
    "add_special_tokens false": {"add_special_tokens": False},
    "prompt_embeds null": {"prompt_embeds": None},
}
PATHS: Final = {"chat": "chat/completions", "completion": "completions"}


def bodies() -> dict[str, tuple[str, dict[str, Any]]]:
    """By name: the path and the body."""
    chat = {"model": "demo", **turns(USER), **SHORT}
    text = {"model": "demo", "prompt": "What is ew?\n", **SHORT}
    return {
        **{f"chat: {name}": (PATHS["chat"], chat | more) for name, more in CHAT.items()},
        **{
            f"completion: {name}": (PATHS["completion"], text | more)
            for name, more in COMPLETIONS.items()
        },
    }


def record(url: str, key: str = "") -> dict[str, int]:
    """Send all bodies to a server; its statuses, where an error within a stream is a 400."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    found = {}
    with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
        for name, (path, body) in bodies().items():
            answer = client.post(f"/v1/{path}", json=body)
            failed = answer.status_code == 200 and 'data: {"error"' in answer.text
            found[name] = 400 if failed else answer.status_code
            if found[name] != 200:
                print(found[name], name, answer.text[:300])  # noqa: T201
    return found


if __name__ == "__main__":
    STATUSES.write_text(json.dumps(record(*sys.argv[1:]), indent=1) + "\n")
