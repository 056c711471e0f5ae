"""How Ollama's answers look on the wire: one JSON object, or one a line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from contract.messages import (
    Delta,
    Done,
    FinishReason,
    Job,
    ReasoningDelta,
    Status,
    ToolCallDelta,
)
from gateway.api.pooling.vectors import VectorsSoFar
from gateway.http.error_answers import OLLAMA
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.dialects import AnswerChoice, CallSoFar, Timings

LINES: Final = ((b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store"))
_REASONS: Final[dict[FinishReason, str]] = {"length": "length"}


class _Said:
    """The parts common to both routes: `/api/chat` has a message where `/api/generate` has text."""

    errors = OLLAMA

    def __init__(self, job: Job, *, is_chat: bool, with_thinking: bool) -> None:
        self._model = job.model
        self._is_chat = is_chat
        self._with_thinking = with_thinking

    def said(self, text: str, thinking: str = "", calls: Any = ()) -> dict[str, Any]:
        """Return the beginning of an answer's object, of which text is a part or all."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        begun: dict[str, Any] = {"model": self._model, "created_at": now}
        more = {"thinking": thinking} if thinking and self._with_thinking else {}
        if not self._is_chat:
            return begun | {"response": text, **more}
        message: dict[str, Any] = {"role": "assistant", "content": text, **more}
        if calls:
            message["tool_calls"] = [_made(number, call) for number, call in enumerate(calls)]
        return begun | {"message": message}

    def ended(self, done: Done, timings: Timings) -> dict[str, Any]:
        """Return the end of an answer's object. Durations are in nanoseconds."""
        return {
            "done": True,
            "done_reason": _REASONS.get(done.finish_reasons[0], "stop"),
            **counts(done, timings),
            "eval_count": done.completion_tokens,
            "eval_duration": _ns(timings.total_ms - timings.first_token_ms),
        }


class OllamaLines(_Said):
    """A line for each piece; tool calls in one, when they are complete; and one for the end."""

    numbered, mark = False, b""

    def __init__(self, job: Job, *, is_chat: bool, with_thinking: bool) -> None:
        super().__init__(job, is_chat=is_chat, with_thinking=with_thinking)
        self._calls: dict[int, CallSoFar] = {}

    def opening(self) -> bytes:
        return b""

    def delta(self, seq: int, delta: Delta) -> bytes:
        if isinstance(delta, ToolCallDelta):
            self._calls.setdefault(delta.call, CallSoFar()).add(delta)
            return b""
        if not isinstance(delta, ReasoningDelta):
            return self._line(self.said(delta.text))
        return self._line(self.said("", delta.text)) if self._with_thinking else b""

    def status(self, status: Status) -> bytes:
        return self.heartbeat()

    def heartbeat(self) -> bytes:
        """Return a piece without text: clients read each line as JSON."""
        return self._line(self.said(""))

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        calls = [call for _, call in sorted(self._calls.items())]
        called = self._line(self.said("", "", calls)) if calls else b""
        return called + _json_line(self.said("") | self.ended(done, timings))

    def error(self, error: ApiError) -> bytes:
        return _json_line(self.errors.body(error, ""))

    def _line(self, said: dict[str, Any]) -> bytes:
        return _json_line(said | {"done": False})


class OllamaWhole(_Said):
    """One JSON object."""

    def new_choice(self) -> AnswerChoice:
        return AnswerChoice()

    def body(self, choices: list[AnswerChoice], done: Done, timings: Timings) -> bytes:
        choice = choices[0]
        calls = [call for _, call in sorted(choice.calls.items())]
        said = self.said(choice.text, choice.reasoning, calls)
        return orjson.dumps(said | self.ended(done, timings))


class OllamaLoaded(_Said):
    """One JSON object, also for those that stream: the model is there, and nothing was said."""

    def new_choice(self) -> AnswerChoice:
        return AnswerChoice()

    def body(self, choices: list[AnswerChoice], done: Done, timings: Timings) -> bytes:
        return orjson.dumps(self.said("") | {"done": True, "done_reason": "load"})


class OllamaEmbeddings:
    """One JSON object with the vectors of all inputs."""

    errors = OLLAMA

    def __init__(self, job: Job) -> None:
        self._model = job.model

    def new_choice(self) -> VectorsSoFar:
        return VectorsSoFar(as_base64=False)

    def body(self, choices: list[VectorsSoFar], done: Done, timings: Timings) -> bytes:
        vectors = [orjson.Fragment(each.json) for each in choices[0].inputs()]
        answer = {"model": self._model, "embeddings": vectors}
        return orjson.dumps(answer | counts(done, timings))


class OllamaEmbedding(OllamaEmbeddings):
    """The one vector alone."""

    def body(self, choices: list[VectorsSoFar], done: Done, timings: Timings) -> bytes:
        (vector,) = choices[0].inputs()
        return orjson.dumps({"embedding": orjson.Fragment(vector.json)})


def counts(done: Done, timings: Timings) -> dict[str, int]:
    """Return what every answer counts. The time in the queue is Ollama's time to load."""
    return {
        "total_duration": _ns(timings.total_ms),
        "load_duration": _ns(timings.queue_ms),
        "prompt_eval_count": done.prompt_tokens,
        "prompt_eval_duration": _ns(timings.first_token_ms - timings.queue_ms),
    }


def _made(number: int, call: CallSoFar) -> dict[str, Any]:
    """Return a call, whose arguments are an object here; those that are none are left out."""
    try:
        arguments = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError:
        arguments = {}
    is_object = isinstance(arguments, Mapping)
    function = {"index": number, "name": call.name, "arguments": arguments if is_object else {}}
    return {"id": call.id, "function": function}


def _json_line(value: dict[str, Any]) -> bytes:
    return sse.one_line(orjson.dumps(value)) + b"\n"


def _ns(milliseconds: float) -> int:
    return max(0, int(milliseconds * 1_000_000))
