"""Record the shapes of a real vLLM's answers to REQUESTS: `vllm_shapes.json`.

    python -m tests.gateway.api.vllm.record_shapes URL SPEECH_URL

The server is started as vllm_bodies.py says, the one for speech with the model that
tests/engines/speech_model.py writes, as `speech`. What is there is of vLLM 0.32.0 on a CPU.
"""

from __future__ import annotations

import io
import json
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from tests.gateway.api.vllm.shapes import shape_of

SHAPES: Final = Path(__file__).with_name("vllm_shapes.json")
MODEL: Final = "demo"
TURNS: Final = [{"role": "user", "content": "What is ew?"}]
#: The demo model calls a tool for the one, and thinks before it answers the other.
WEATHER: Final = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
_FUNCTION: Final = {"name": "get_weather", "description": "d", "parameters": SCHEMA}
TOOLS: Final = {"tools": [{"type": "function", "function": _FUNCTION}]}
NAMED: Final = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
_THINKS: Final = {"chat_template_kwargs": {"enable_thinking": True}}
_USAGE: Final = {"stream": True, "stream_options": {"include_usage": True}}
_RESPONSE_TOOLS: Final = {
    "tools": [{"type": "function", "strict": True, **_FUNCTION}],
    "tool_choice": {"type": "function", "name": "get_weather"},
}
_BLOCK_TOOLS: Final = {
    "tools": [{"name": "get_weather", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "get_weather"},
}


def _chat(max_tokens: int = 8, /, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"messages": TURNS, "max_tokens": max_tokens, **more}


def _text(**more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"prompt": "What is ew?\n", "max_tokens": 4, **more}


def _message(max_tokens: int = 32, /, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {"messages": TURNS, "max_tokens": max_tokens, **more}


def _response(most: int = 32, /, **more: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"input": "What is ew?", "max_output_tokens": most, **more}


#: By name: the path and the body, without its model and with a temperature of 0.
REQUESTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "chat": _chat(),
    "chat, two": _chat(n=2, temperature=1),
    "chat, logprobs": _chat(logprobs=True, top_logprobs=2),
    "chat, prompt": _chat(prompt_logprobs=1, return_token_ids=True),
    "chat, echo": _chat(echo=True),
    "chat, reasoning": _chat(64, **_THINKS),
    "chat, tools": _chat(64, messages=WEATHER, **TOOLS),
    "chat, tool named": _chat(64, **TOOLS, **NAMED),
    "chat, tool required": _chat(64, messages=WEATHER, **TOOLS, tool_choice="required"),
    "chat stream": _chat(**_USAGE),
    "chat stream, two": _chat(n=2, temperature=1, stream=True),
    "chat stream, logprobs": _chat(logprobs=True, top_logprobs=2, stream=True),
    "chat stream, ids": _chat(return_token_ids=True, stream=True),
    "chat stream, reasoning": _chat(64, **_THINKS, **_USAGE),
    "chat stream, tools": _chat(64, messages=WEATHER, **TOOLS, **_USAGE),
    "chat stream, tool named": _chat(64, **TOOLS, **NAMED, **_USAGE),
    "text": _text(),
    "text, several": _text(prompt=["What is ew?\n", "Who are you?\n"]),
    "text, logprobs": _text(logprobs=2),
    "text, echo": _text(echo=True, logprobs=1),
    "text, prompt": _text(prompt_logprobs=1, return_token_ids=True),
    "text stream": _text(**_USAGE),
    "text stream, logprobs": _text(logprobs=2, stream=True),
    "text stream, ids": _text(return_token_ids=True, stream=True),
    "tokens of a text": ("/tokenize", {"prompt": "hi", "return_token_strs": True}),
    "tokens of a chat": ("/tokenize", {"messages": TURNS}),
    "text of tokens": ("/detokenize", {"tokens": [5, 6]}),
    "message": _message(),
    "message, cut short": _message(4),
    "message, stop sequence": _message(stop_sequences=["gateway"]),
    "message, tool": _message(48, **_BLOCK_TOOLS),
    "message, thinking": _message(
        48, system=[{"type": "text", "text": "be"}], thinking={"type": "adaptive"}, **_THINKS
    ),
    "message stream": _message(stream=True),
    "message stream, tool": _message(48, **_BLOCK_TOOLS, stream=True),
    "message stream, thinking": _message(64, **_THINKS, stream=True),
    "count": ("/v1/messages/count_tokens", {"messages": TURNS}),
    "count with tools": (
        "/v1/messages/count_tokens",
        {"messages": TURNS, "system": "be", "tools": _BLOCK_TOOLS["tools"]},
    ),
    "response": _response(),
    "response, cut short": _response(4, instructions="be"),
    "response, logprobs": _response(8, include=["message.output_text.logprobs"], top_logprobs=2),
    "response, reasoning": _response(64, **_THINKS),
    "response, tool": _response(48, **_RESPONSE_TOOLS),
    "response stream": _response(stream=True),
    "response stream, cut short": _response(4, stream=True),
    "response stream, reasoning": _response(64, **_THINKS, stream=True),
    "response stream, tool": _response(48, **_RESPONSE_TOOLS, stream=True),
    "unknown model": _chat(model="nonesuch"),
    "bad value": _chat(temperature=-1),
}

_WRITE_DOWN: Final = "/v1/audio/transcriptions"
_TRANSLATE: Final = "/v1/audio/translations"
_SPEECH_USAGE: Final = {"stream": "true", "stream_include_usage": "true"}
#: By name: the path and the form, without its file, its model and how long the text may be.
FORMS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "speech": (_WRITE_DOWN, {}),
    "speech, segments": (_WRITE_DOWN, {"response_format": "verbose_json"}),
    "speech stream": (_WRITE_DOWN, {"stream": "true"}),
    "speech stream, usage": (_WRITE_DOWN, _SPEECH_USAGE),
    "speech, unknown model": (_WRITE_DOWN, {"model": "nonesuch"}),
    "translation": (_TRANSLATE, {}),
    "translation, segments": (_TRANSLATE, {"response_format": "verbose_json"}),
    "translation stream, usage": (_TRANSLATE, _SPEECH_USAGE),
}


def form_of(name: str, model: str) -> tuple[str, dict[str, str]]:
    path, form = FORMS[name]
    return path, {"model": model, "language": "en", "max_completion_tokens": "8", **form}


def silence() -> bytes:
    """Return a second of it, as a WAV file."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000))
    return written.getvalue()


def body_of(name: str, model: str) -> tuple[str, dict[str, Any]]:
    path, body = REQUESTS[name]
    counts = path.endswith(("count_tokens", "tokenize"))
    return path, {"model": model, **({} if counts else {"temperature": 0}), **body}


def record(url: str, speech_url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Send all requests to two servers. Yield the status and shape of each answer."""
    with httpx.Client(timeout=120) as client:
        for name in REQUESTS:
            path, body = body_of(name, MODEL)
            answer = client.post(f"{url}{path}", json=body)
            yield name, _told(answer, is_stream=bool(body.get("stream")))
        for name in FORMS:
            path, form = form_of(name, "speech")
            file = {"file": ("a.wav", silence())}
            answer = client.post(f"{speech_url}{path}", data=form, files=file)
            yield name, _told(answer, is_stream="stream" in form)


def _told(answer: httpx.Response, *, is_stream: bool) -> dict[str, Any]:
    shape = shape_of(answer.text, is_stream=is_stream)
    fields = {
        event: {field: "|".join(sorted(types)) for field, types in sorted(told.items())}
        for event, told in shape.fields.items()
    }
    return {"status": answer.status_code, **shape._asdict(), "fields": fields}


if __name__ == "__main__":
    recorded = record(*sys.argv[1:])
    lines = [f"{json.dumps(name)}: {json.dumps(told)}" for name, told in recorded]
    SHAPES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
