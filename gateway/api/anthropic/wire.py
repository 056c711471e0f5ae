"""How answers look on the wire of Anthropic's API: a message is a list of content blocks, which
are open one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from contract.messages import Delta, Done, FinishReason, Job, ReasoningDelta, Status, ToolCallDelta
from gateway.api.anthropic.bodies import StopReason
from gateway.http.error_answers import ANTHROPIC, anthropic_body
from gateway.http.errors import ApiError
from gateway.streams import sse
from gateway.streams.answers import AnswerChoice, CallSoFar, Timings

PING: Final = sse.event(b'{"type":"ping"}', name="ping")
_STOP_REASONS: Final[Mapping[FinishReason, StopReason]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
#: By the type of a block: the type of its pieces, and their field.
_PIECES: Final = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}
_PIECE: Final = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
)
_PIECE_END: Final = b"}}\n\n"


def _kind(delta: Delta) -> tuple[str, int]:
    """Return the type of the block that a piece belongs to, and the number of its call."""
    if isinstance(delta, ReasoningDelta):
        return "thinking", 0
    if isinstance(delta, ToolCallDelta):
        return "tool_use", delta.call
    return "text", 0


class MessageStream:
    """Events in Anthropic's order. `numbered` pieces, and the end, have ids, so that a client can
    resume after the last it has in full."""

    errors = ANTHROPIC

    def __init__(self, job: Job, request_id: str, *, numbered: bool = False) -> None:
        self._job_id = job.id
        self._model = job.model
        self._request_id = request_id
        self.numbered = numbered
        self.mark = b""
        #: The block that is open, and what begins each of its pieces.
        self._open: tuple[str, int] | None = None
        self._before = b""
        self._blocks = 0
        #: Where the pieces of a call go, by its number.
        self._calls: dict[int, bytes] = {}

    def opening(self) -> bytes:
        """The counts of tokens come with the end, when they are known."""
        message = _message(self._job_id, self._model, [], None, "", _usage(None))
        return _event("message_start", message=message)

    def delta(self, seq: int, delta: Delta) -> bytes:
        kind = _kind(delta)
        piece = b""
        if delta.text:
            piece = sse.json_text(delta.text) + _PIECE_END
        if kind == self._open:
            events, before = b"", self._before
        elif kind[0] == "tool_use" and kind[1] in self._calls:
            # Of a call that another block came after: clients put it where it belongs.
            events, before = b"", self._calls[kind[1]]
        else:
            events = self._stop() + self._start(kind, delta)
            before = self._before
        if not piece:
            return events
        last = before + piece
        return events + (sse.with_id(seq, self.mark, last) if self.numbered else last)

    def status(self, status: Status) -> bytes:
        return PING

    def done(self, seq: int, done: Done, timings: Timings) -> bytes:
        events = self._stop()
        if not self._blocks:
            events = self._start(("text", 0), Delta("", b"")) + self._stop()
        reason, stop = _end(done, called=bool(self._calls))
        ended = {"stop_reason": reason, "stop_sequence": stop or None}
        events += _event("message_delta", delta=ended, usage=_usage(done))
        last = _event("message_stop")
        return events + (sse.with_id(seq, self.mark, last) if self.numbered else last)

    def error(self, error: ApiError) -> bytes:
        return sse.event(orjson.dumps(anthropic_body(error, self._request_id)), name="error")

    def _start(self, kind: tuple[str, int], delta: Delta) -> bytes:
        self._open = kind
        index, self._blocks = self._blocks, self._blocks + 1
        self._before = _PIECE % (index, *_PIECES[kind[0]])
        block: dict[str, Any] = {"type": kind[0]}
        if isinstance(delta, ToolCallDelta):
            self._calls[delta.call] = self._before
            block |= {"id": delta.id, "name": delta.name, "input": {}}
        elif kind[0] == "text":
            block |= {"text": ""}
        else:
            block |= {"thinking": "", "signature": ""}
        return _event("content_block_start", index=index, content_block=block)

    def _stop(self) -> bytes:
        if self._open is None:
            return b""
        index, (kind, _) = self._blocks - 1, self._open
        self._open = None
        stop = _event("content_block_stop", index=index)
        if kind != "thinking":
            return stop
        signed = {"type": "signature_delta", "signature": _signature(self._job_id)}
        return _event("content_block_delta", index=index, delta=signed) + stop


class MessageSoFar(AnswerChoice):
    """The blocks of an answer, as they have come."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[tuple[str, list[str] | CallSoFar]] = []
        self._kind: tuple[str, int] | None = None

    def add(self, delta: Delta) -> None:
        kind = _kind(delta)
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
        reason, stop = _end(done, called=bool(choice.calls))
        content = choice.content(self._job_id)
        return orjson.dumps(
            _message(self._job_id, self._model, content, reason, stop, _usage(done))
        )


def _written(kind: str, said: list[str] | CallSoFar, job_id: str) -> dict[str, Any]:
    if isinstance(said, CallSoFar):
        return {"type": kind, "id": said.id, "name": said.name, "input": _input(said.arguments)}
    block = {"type": kind, kind: "".join(said)}
    return block | {"signature": _signature(job_id)} if kind == "thinking" else block


def _input(arguments: str) -> dict[str, Any]:
    """A call that was cut short has arguments that are no JSON. Anthropic's documentation of
    fine-grained tool streaming sends such text back under this name."""
    try:
        read = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        read = None
    return read if isinstance(read, dict) else {"INVALID_JSON": arguments}


def _message(
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


def _end(done: Done, *, called: bool) -> tuple[StopReason, str]:
    """Return why an answer ended, and the stop sequence that did it. A call of the one tool that
    the request names ends as text does."""
    reason = done.finish_reasons[0]
    stop = done.stop_strings[0] if done.stop_strings else ""
    if reason == "stop" and stop:
        return "stop_sequence", stop
    return _STOP_REASONS["tool_calls" if reason == "stop" and called else reason], ""


def _usage(done: Done | None) -> dict[str, Any]:
    """Return a `MessageUsage`."""
    cached = done.cached_tokens if done else 0
    return {
        "input_tokens": done.prompt_tokens - cached if done else 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": done.completion_tokens if done else 0,
        "output_tokens_details": {"thinking_tokens": done.reasoning_tokens if done else 0},
    }


def _signature(job_id: str) -> str:
    """Clients want one, and send it back; nothing here looks at it."""
    return f"ew-{job_id}"


def _event(kind: str, **fields: Any) -> bytes:
    return sse.event(orjson.dumps({"type": kind, **fields}), name=kind)
