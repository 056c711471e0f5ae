"""How a message looks in Anthropic's API: content blocks, why it ended, and its usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from contract.messages import Delta, Done, FinishReason, Job, ReasoningDelta, ToolCallDelta
from gateway.api.anthropic.bodies import StopReason
from gateway.http.error_answers import ANTHROPIC
from gateway.streams.dialects import AnswerChoice, CallSoFar, Timings

_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def kind_of(delta: Delta) -> tuple[str, int]:
    """Return the type of the block that a piece belongs to, and the number of its call."""
    if isinstance(delta, ReasoningDelta):
        return "thinking", 0
    if isinstance(delta, ToolCallDelta):
        return "tool_use", delta.call
    return "text", 0


class MessageSoFar(AnswerChoice):
    """The blocks of an answer, as they have come."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[tuple[str, list[str] | CallSoFar]] = []
        self._kind: tuple[str, int] | None = None

    def add(self, delta: Delta) -> None:
        kind = kind_of(delta)
        if isinstance(delta, ToolCallDelta):
            is_new = delta.call not in self.calls
            super().add(delta)
            if is_new:
                self._blocks.append(("tool_use", self.calls[delta.call]))
        elif kind == self._kind and isinstance(texts := self._blocks[-1][1], list):
            texts.append(delta.text)
        elif delta.text:
            self._blocks.append((kind[0], [delta.text]))
        else:
            return
        self._kind = kind

    def content(self, job_id: str) -> list[dict[str, Any]]:
        """Return the blocks, one of empty text if there are none."""
        written = [_written(kind, said, job_id) for kind, said in self._blocks]
        return written or [{"type": "text", "text": ""}]


class MessageWhole:
    """One JSON object, an `AnsweredMessage`."""

    errors = ANTHROPIC

    def __init__(self, job: Job) -> None:
        self._job_id = job.id
        self._model = job.model

    def new_choice(self) -> MessageSoFar:
        return MessageSoFar()

    def body(self, choices: list[MessageSoFar], done: Done, timings: Timings) -> bytes:
        (choice,) = choices
        reason, stop = end_of(done, called=bool(choice.calls))
        content = choice.content(self._job_id)
        return orjson.dumps(
            message(self._job_id, self._model, content, reason, stop, usage_of(done))
        )


def _written(kind: str, said: list[str] | CallSoFar, job_id: str) -> dict[str, Any]:
    if isinstance(said, CallSoFar):
        return {"type": kind, "id": said.id, "name": said.name, "input": _input(said.arguments)}
    block = {"type": kind, kind: "".join(said)}
    return block | {"signature": signature_of(job_id)} if kind == "thinking" else block


def _input(arguments: str) -> dict[str, Any]:
    """A call that was cut short has arguments that are no JSON. Anthropic's documentation of
    fine-grained tool streaming sends such text back under this name."""
    try:
        read = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        read = None
    return read if isinstance(read, dict) else {"INVALID_JSON": arguments}


def message(
    job_id: str,
    model: str,
    content: Sequence[dict[str, Any]],
    reason: StopReason | None,
    stop: str,
    usage: dict[str, Any],
) -> dict[str, Any]:
    return {
        "id": f"msg_{job_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": stop or None,
        "usage": usage,
    }


def end_of(done: Done, *, called: bool) -> tuple[StopReason, str]:
    """Return why an answer ended, and the stop sequence that did it. A call of the one tool that
    the request names ends as text does."""
    reason = done.finish_reasons[0]
    stop = done.stop_strings[0] if done.stop_strings else ""
    if reason == "stop" and stop:
        return "stop_sequence", stop
    return _STOP_REASONS["tool_calls" if reason == "stop" and called else reason], ""


def usage_of(done: Done) -> dict[str, Any]:
    """Return a `MessageUsage`."""
    return {
        "input_tokens": done.prompt_tokens - done.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": done.cached_tokens,
        "output_tokens": done.completion_tokens,
        "output_tokens_details": {"thinking_tokens": done.reasoning_tokens},
    }


def signature_of(job_id: str) -> str:
    """Clients want one, and send it back; nothing here looks at it."""
    return f"ew-{job_id}"
